"""Questions in the speed traffic: what is asked, what counts as right, and when a server is worse."""

from __future__ import annotations

import itertools
import json
import re
from collections.abc import Iterator
from dataclasses import asdict, replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from engines.contract import Model
from engines.registry import engine
from engines.server import Server
from scenarios import rows, tokenizer
from scenarios.kept import FILE, compare, rescore
from scenarios.measurement import Reason
from scenarios.models import open_model
from scenarios.quality import mix, tasks
from scenarios.quality.gate import LEVEL, SWAPS, Paired, at_least, caught_from, power
from scenarios.quality.judging import Quality
from scenarios.scenario import Plan
from scenarios.score import score
from scenarios.validity import judge
from scenarios.workload import build
from tests.redteam.test_redteam import PROFILE
from tests.scenarios import stand_in_reference, test_validity
from tests.scenarios.plain_text import write_jsonl
from tests.tiny_model import make_tiny_model

Place = pytest.TempPathFactory
SEEDS = itertools.count(70)


@pytest.fixture(scope="module")
def model(tmp_path_factory: Place) -> Model:
    place = make_tiny_model(tmp_path_factory.mktemp("model"))
    with (place / "model.safetensors").open("wb") as weights:
        weights.truncate(269_000_000)
    return open_model(place, name="tiny", max_length=2048)


@pytest.fixture(scope="module")
def text(tmp_path_factory: Place) -> str:
    return write_jsonl(tmp_path_factory.mktemp("text") / "text.jsonl", documents=40)


@pytest.fixture(scope="module")
def url(model: Model, tmp_path_factory: Place) -> Iterator[str]:
    with Server(engine("simulated"), {}, model, log=tmp_path_factory.mktemp("log") / "log") as server:
        yield server.url


@pytest.mark.parametrize(
    ("lost", "apart", "chance"), [(0, 0, 1.0), (5, 5, 1 / 32), (8, 10, 56 / 1024), (0, 7, 1.0)]
)
def test_the_chance_is_the_exact_one(lost: int, apart: int, chance: float) -> None:
    assert at_least(lost, apart) == pytest.approx(chance)


def reasons(paired: Paired | None, task: str = "past-tense") -> tuple[Reason, ...]:
    told = asdict(Quality(task, paired))
    made = test_validity.honest()
    whole = test_validity.reduced(made + test_validity.probe(len(made)))
    return judge(whole, test_validity.facts(quality=told))


def codes(paired: Paired | None, task: str = "past-tense") -> list[str]:
    return [reason.code for reason in reasons(paired, task)]


def test_a_server_that_loses_many_items_is_void_and_one_that_swaps_some_is_not() -> None:
    assert codes(Paired(both=40, lost=12, won=1, neither=43)) == ["quality"]
    assert codes(Paired(both=48, lost=4, won=3, neither=41)) == []
    assert codes(None) == []


MMLU = "mmlu-pro:/somewhere/test.jsonl"


def test_mmlu_pro_asks_for_the_published_share_of_the_models_own_besides() -> None:
    near = Paired(both=37, lost=4, won=1, neither=54)
    assert not near.worse
    (reason,) = reasons(near, MMLU)
    assert reason.code == "quality"
    assert reason.detail == (
        "mmlu-pro: 39.6% of 96 questions right, under 0.95 of the baseline's 42.7% (40.6%)"
    )
    assert codes(near) == []
    assert codes(Paired(both=19, lost=1, won=0, neither=10), MMLU) == []
    assert codes(Paired(both=18, lost=1, won=0, neither=11), MMLU) == ["quality"]
    assert codes(Paired(both=57, lost=3, won=0, neither=0), MMLU) == []
    assert codes(Paired(both=0, lost=0, won=0, neither=30), MMLU) == []


def test_both_rules_have_a_reason_of_their_own() -> None:
    test, tau = reasons(Paired(both=30, lost=15, won=1, neither=50), MMLU)
    assert test.detail.startswith(
        "mmlu-pro: 32.3% right, the baseline 46.9% of the same 96 questions (15 lost"
    )
    assert tau.detail.endswith("under 0.95 of the baseline's 46.9% (44.5%)")
    assert tau.evidence["required"] == pytest.approx(0.4453)


@pytest.mark.parametrize(("items", "baseline"), [(36, 0.4), (96, 0.6), (500, 0.5)])
def test_the_chance_to_void_an_honest_server_is_what_draws_show(items: int, baseline: float) -> None:
    draw = np.random.default_rng(1)
    right = round(items * baseline)
    drawn = draw.multinomial(items, [SWAPS, SWAPS, 1 - 2 * SWAPS], size=4000)
    pairs = [Paired(right - lost, lost, won, items - right - won) for lost, won, _ in drawn.tolist()]
    for tau in (None, 0.95):
        void = [one.worse or (tau is not None and one.below(tau)) for one in pairs]
        told = Paired(right, 0, 0, items - right).to_json(tau)
        assert told["false_alarm"] == pytest.approx(sum(void) / len(void), abs=0.025)
    assert told["caught_from"] is not None


@given(st.lists(st.tuples(st.booleans(), st.booleans()), min_size=1, max_size=80))
def test_pairs_add_up(pairs: list[tuple[bool, bool]]) -> None:
    paired = Paired.of([one for one, _ in pairs], [other for _, other in pairs])
    assert paired.items == len(pairs)
    assert paired.baseline - paired.server == pytest.approx((paired.lost - paired.won) / len(pairs))
    assert paired.worse == (paired.chance < LEVEL)
    assert not (paired.worse and paired.server >= paired.baseline)


def test_it_says_what_it_would_have_caught() -> None:
    found = [caught_from(count, 0.6) for count in (10, 36, 96, 500)]
    assert found[0] is None or found[0] > 0.4
    assert found[1] is not None and found[2] is not None and found[3] is not None
    assert found[1] > found[2] > found[3]
    assert power(96, 0.0) < LEVEL
    assert power(96, found[2]) >= 0.8 > power(96, found[2] - 0.02)


def test_past_tenses() -> None:
    items = tasks.items("past-tense")
    assert len(items) > 100
    assert len({item.question for item in items}) == len(items)
    bring = next(item for item in items if "Today I bring." in item.question)
    assert bring.right("Today I bring. Yesterday I BROUGHT it.")
    assert not bring.right("Today I bring. Yesterday I bringed it.")
    assert not bring.right("One two three four five six seven eight nine ten brought")


def test_recall_asks_at_the_end_for_what_stands_at_the_beginning(model: Model, text: str) -> None:
    items = tasks.items("recall")
    assert len({item.question for item in items}) == len(items) == 360
    assert len({item.answer for item in items}) == len(tasks.OWNERS)
    words = tokenizer.load(model.path)
    made, questions = mix.asked(Plan("A", "smoke", 5, text=text), model, "recall")
    assert len(questions) == len(made.requests)
    assert len({one.prompt[:40] for one in made.requests}) == len(made.requests), "nothing for a prefix cache"
    for one in questions:
        told, between, asked = one.prompt.split("\n\n", 1)[0], one.prompt, one.item.question
        assert one.item.answer in told.lower()
        assert between.lower().count(f"to {one.item.answer}") == 1
        assert between.endswith(asked)
        far = words.count(between) - words.count(told) - words.count(asked)
        assert far > 0.6 * words.count(between)
        assert one.item.right(f" {one.item.answer.capitalize()}.")
        assert not one.item.right(" the owner of it.")


@pytest.mark.parametrize(
    ("text", "letter"),
    [
        ("So the answer is (C).", "C"),
        ("the answer is D", "D"),
        ("Answer: J", "J"),
        ("I weigh B and C, and take C", "C"),
        ("no idea", None),
    ],
)
def test_letters_are_taken_as_published(text: str, letter: str | None) -> None:
    assert tasks.letter(text) == letter


def test_mmlu_pro_is_read_from_lines(tmp_path: Path) -> None:
    file = tmp_path / "test.jsonl"
    file.write_text(json.dumps({"question": "Two and two?", "options": ["3", "4"], "answer": "B"}) + "\n")
    (item,) = tasks.items(f"mmlu-pro:{file}")
    assert "A. 3\nB. 4" in item.question
    assert item.right("The answer is (B).")
    assert not item.right("The answer is (A).")


@pytest.mark.parametrize("name", ["sums", "mmlu-pro", "mmlu-pro:/nowhere", "past-tense:x"])
def test_a_task_that_is_not_there_is_one_line(name: str) -> None:
    with pytest.raises(tasks.TaskError, match=r"^[^\n]+$"):
        tasks.items(name)


def test_a_task_s_file_is_named_by_its_full_path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    Path("test.jsonl").write_text(json.dumps({"question": "Two?", "options": ["2"], "answer": "A"}) + "\n")
    assert tasks.named("mmlu-pro:test.jsonl") == f"mmlu-pro:{tmp_path / 'test.jsonl'}"
    assert tasks.named("past-tense") == "past-tense"


def test_every_prompt_ends_in_a_question_and_stays_as_long(model: Model, text: str) -> None:
    words = tokenizer.load(model.path)
    plain = build(Plan("D", PROFILE, 5, text=text), model)
    made, questions = mix.mixed(plain, tasks.items("past-tense"), words)
    again, _ = mix.mixed(plain, tasks.items("past-tense"), words)
    assert made == again
    assert made.digest != plain.digest
    assert len(questions) == len(made.requests) == len(plain.requests)
    for before, after, question in zip(plain.requests, made.requests, questions, strict=True):
        assert after.prompt == question.prompt
        assert re.search(r"Today I \w+\. Yesterday I$", after.prompt)
        assert 0 <= before.input_tokens - after.input_tokens <= mix.SHORT
        assert words.chat_tokens([{"role": "user", "content": after.prompt}]) == after.input_tokens
        assert replace(after, prompt="", input_tokens=0) == replace(before, prompt="", input_tokens=0)
        assert question.tokens == min(after.output_tokens, question.item.tokens)
    assert len({one.prompt for one in made.requests}) == len(made.requests)


def test_without_a_task_the_requests_are_what_they_were(model: Model, text: str) -> None:
    plan = Plan("D", PROFILE, 5, text=text)
    assert mix.asked(plan, model, None) == (build(plan, model), [])
    assert mix.asked(plan, model, "past-tense")[0].digest != build(plan, model).digest


@pytest.mark.parametrize(("said", "baseline", "verdict"), [("none", 0.0, "passed"), ("A", 1.0, "failed")])
def test_multiple_choice_is_judged_beside_the_models_own(
    said: str,
    baseline: float,
    verdict: str,
    url: str,
    model: Model,
    text: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    for name, value in stand_in_reference.make(tmp_path / "torch", other=said).items():
        monkeypatch.setenv(name, value)
    file = tmp_path / "test.jsonl"
    choices = [
        {"question": f"Which is number {number}?", "options": ["this", "that"], "answer": "A"}
        for number in range(40)
    ]
    file.write_text("".join(json.dumps(choice) + "\n" for choice in choices))
    asked = {"profile": PROFILE, "seed": next(SEEDS), "model": model, "text": text, "out": tmp_path}
    run = score(url, "D", quality=f"mmlu-pro:{file}", **asked)  # type: ignore[arg-type]
    assert run.valid, run.invalid_reasons
    kept = tmp_path / run.id / FILE
    kept.write_text(json.dumps({**json.loads(kept.read_text()), "mark": None}))
    judged = compare(tmp_path / run.id, f"mmlu-pro:{file}", model)
    assert judged.quality is not None
    assert (judged.quality["verdict"], judged.quality["baseline"]) == (verdict, baseline), judged.quality
    assert judged.quality["required"] == 0.95 * baseline
    details = [reason.detail for reason in judged.invalid_reasons]
    assert len(details) == (0 if verdict == "passed" else 2)
    assert str(tmp_path) not in " ".join(details)


@pytest.mark.parametrize(("known", "code"), [(False, None), (True, "quality")])
def test_answers_are_judged_beside_the_models_own(
    known: bool,
    code: str | None,
    url: str,
    model: Model,
    text: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    verbs = dict(line.split() for line in tasks.VERBS.read_text().splitlines()) if known else {}
    for name, value in stand_in_reference.make(tmp_path / "torch", past=verbs).items():
        monkeypatch.setenv(name, value)
    asked = {"profile": PROFILE, "seed": next(SEEDS), "model": model, "text": text, "out": tmp_path}
    run = score(url, "D", quality="past-tense", check_quality=True, **asked)  # type: ignore[arg-type]
    assert run.valid, run.invalid_reasons
    assert run.quality is None
    assert all("Yesterday I" in one.prompt for one in mix.read(tmp_path / run.id / mix.FILE))
    kept = tmp_path / run.id / FILE
    kept.write_text(json.dumps({**json.loads(kept.read_text()), "mark": None}))
    judged = compare(tmp_path / run.id, "past-tense", model)
    assert judged.quality is not None
    assert "why" not in judged.quality, judged.quality
    assert judged.quality["items"] == len(rows.read(tmp_path / run.id).query("role == 'scored'"))
    assert judged.quality["baseline"] == (1.0 if known else 0.0)
    assert [reason.code for reason in judged.invalid_reasons] == ([code] if code else [])
    assert (judged.score is None) == (code is not None)
    assert rescore(tmp_path / run.id) == judged
