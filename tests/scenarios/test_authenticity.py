"""Whether answers come from the model: what is looked at, how it is judged, and who is told."""

from __future__ import annotations

import itertools
import json
import random
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from engines.contract import Model
from engines.registry import engine
from engines.server import Server
from scenarios import tokenizer
from scenarios.authenticity.evidence import Graded, Text
from scenarios.authenticity.sample import ANSWERS, HEAD, LEAST, SLICE, Sampled, read, sample, write
from scenarios.measurement import Measurement
from scenarios.models import open_model
from scenarios.scenario import Fidelity, Plan
from scenarios.score import FILE, authenticate, rescore, score
from scenarios.trial import State, TrialSpec
from scenarios.trial_run import run_trial
from tests.engines.posing import Posing
from tests.redteam.attacks import PassThrough
from tests.redteam.proxy import Attack, Upstream
from tests.redteam.test_redteam import PROFILE
from tests.redteam.text_attacks import Elsewhere
from tests.scenarios import stand_in_reference, test_validity
from tests.scenarios.made_rows import row, table
from tests.scenarios.plain_text import write_jsonl
from tests.scenarios.request_sets import request_set
from tests.scenarios.test_validity import CLOSED
from tests.tiny_model import make_tiny_model

Place = pytest.TempPathFactory
TRIES = 8
"""Of a trial while other work has the machine: it counts as a real server's, which that voids."""
SEEDS = itertools.count(50)
WEIGHTS = 269_000_000
"""Bytes of a file that nobody loads: the simulated engine is as slow as its weights are large."""


@pytest.fixture(scope="module")
def model(tmp_path_factory: Place) -> Model:
    place = make_tiny_model(tmp_path_factory.mktemp("model"))
    with (place / "model.safetensors").open("wb") as weights:
        weights.truncate(WEIGHTS)
    return open_model(place, name="tiny", max_length=1024)


@pytest.fixture(scope="module")
def text(tmp_path_factory: Place) -> str:
    return write_jsonl(tmp_path_factory.mktemp("text") / "text.jsonl", documents=40)


@pytest.fixture(scope="module")
def honest(model: Model, tmp_path_factory: Place) -> Iterator[Upstream]:
    log = tmp_path_factory.mktemp("log") / "engine.log"
    with Server(engine("simulated"), {}, model, log=log) as server:
        yield Upstream(server.url)


@pytest.fixture
def graders(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The stand-in for the torch engine, to which digits are no words of the model's."""
    for name, value in stand_in_reference.make(tmp_path / "torch").items():
        monkeypatch.setenv(name, value)
    return tmp_path / "torch"


def measured(
    attack: Attack, model: Model, text: str, out: Path, mark: str | None = None, **more: Any
) -> Measurement:
    """What a proxy in front of the simulated server is worth, as if its text came from the model."""
    with attack.server() as proxy:
        for _ in range(TRIES):
            run = score(
                proxy.url, "D", profile=PROFILE, seed=next(SEEDS), model=model, text=text, out=out, **more
            )
            if {reason.code for reason in run.invalid_reasons} != {"client-lag"}:
                break
    assert run.valid, run.invalid_reasons
    kept = out / run.id / FILE
    kept.write_text(json.dumps({**json.loads(kept.read_text()), "mark": mark}))
    return authenticate([out / run.id], model)[0]


class Plain(PassThrough):
    """Says of itself what the server behind it does: that it is simulated, whatever else the machine does."""

    owner = "simulated"


class Other(Elsewhere):
    """Digits at the pace of an honest server."""

    owner = "simulated"


def codes(text: Text) -> list[str]:
    return test_validity.codes(test_validity.honest(), test_validity.facts(text=text))


def answers(gaps: list[list[float]]) -> Text:
    graded = [
        Graded(index, tuple(-gap for gap in each), tuple(each), tuple(int(gap > 0) for gap in each))
        for index, each in enumerate(gaps)
    ]
    return Text("", tuple(graded))


def drawn(share: float, gap: float, count: int = 12, tokens: int = 64) -> Text:
    """Answers in which that share of tokens loses around `gap` nats."""
    draw = random.Random(1)
    return answers(
        [
            [draw.expovariate(1 / gap) if draw.random() < share else 0.0 for _ in range(tokens)]
            for _ in range(count)
        ]
    )


def test_lossy_arithmetic_is_honest() -> None:
    assert codes(drawn(0.0, 1.0)) == []
    assert codes(drawn(0.08, 0.2)) == []


def test_one_oddly_spelt_token_is_honest() -> None:
    assert codes(answers([[0.0] * 30 + [7.0] + [0.0] * 30 for _ in range(12)])) == []


@pytest.mark.parametrize(("share", "gap"), [(0.5, 3.0), (0.35, 0.5), (0.1, 8.0)])
def test_another_model_is_found(share: float, gap: float) -> None:
    assert codes(drawn(share, gap)) == ["text-not-from-model"]


def test_a_fifth_of_the_answers_from_elsewhere_is_found() -> None:
    own, other = drawn(0.03, 0.2, count=9), drawn(0.5, 3.0, count=3)
    assert codes(replace(own, answers=own.answers + other.answers)) == ["text-not-from-model"]


def test_an_echo_that_goes_on_as_the_model_would_is_found_at_its_start() -> None:
    assert codes(answers([[2.5, 1.0, 0.5, 0.5] + [0.0] * 90 for _ in range(12)])) == ["text-not-from-model"]


def test_copied_text_is_found_where_it_begins() -> None:
    copied = [[6.0, 8.0, 4.0] + [0.0] * 40 for _ in range(12)]
    assert codes(answers(copied)) == ["text-not-from-model"]


def made(lengths: list[int], lost: frozenset[int] = frozenset()) -> tuple[Sampled, ...]:
    asked = request_set([replace(CLOSED, requests=len(lengths))])
    requests = [
        replace(one, output_tokens=tokens) for one, tokens in zip(asked.requests, lengths, strict=True)
    ]
    told = [
        row(place, asked_output=tokens, text=f"answer {place}", ok=place not in lost)
        for place, tokens in enumerate(lengths)
    ]
    return sample(requests, [table(told)], "digest", "secret")


def test_the_sample_is_of_whole_answers_and_their_own_prompts() -> None:
    found = made([20] * 40, lost=frozenset(range(0, 40, 2)))
    assert len(found) == ANSWERS
    assert all(one.index % 2 for one in found)
    assert all(one.text == f"answer {one.index}" and f"tale {one.index} " in one.prompt for one in found)
    assert len({one.index for one in found}) == ANSWERS


def test_long_answers_are_fewer_and_looked_at_late_as_well() -> None:
    found = made([4000] * 40)
    assert len(found) == LEAST
    for one in found:
        (start, end), (later, last) = one.spans
        assert (start, end) == (0, HEAD)
        assert HEAD <= later < last == later + SLICE <= 4000
    assert len({one.spans[1] for one in found}) > 1


def test_nobody_foresees_the_sample_and_it_is_kept(tmp_path: Path) -> None:
    asked = request_set([replace(CLOSED, requests=60)])
    told = [table([row(place, text=str(place)) for place in range(60)])]
    one, other = (sample(asked.requests, told, "digest", secret) for secret in ("a", "b"))
    assert {each.index for each in one} != {each.index for each in other}
    write(tmp_path / "kept", one)
    assert read(tmp_path / "kept") == one


@given(st.lists(st.integers(2, 3000), min_size=1, max_size=40))
def test_spans_lie_in_their_answers(lengths: list[int]) -> None:
    for one in made(lengths):
        ends = [place for span in one.spans for place in span]
        assert ends == sorted(ends)
        assert ends[0] >= 0
        assert ends[-1] <= lengths[one.index]


def test_an_honest_server_is_from_the_model(
    honest: Upstream, model: Model, text: str, graders: Path, tmp_path: Path
) -> None:
    run = measured(Plain(honest), model, text, tmp_path)
    assert run.valid, run.invalid_reasons
    assert run.text is not None
    assert run.text["verdict"] == "from the model"
    assert run.text["answers"] >= LEAST
    assert run.metrics["text_agreement"] > 0.95
    assert rescore(tmp_path / run.id) == run
    assert authenticate([tmp_path / run.id], model)[0].text == {**run.text, "seconds": 0.0}
    assert (graders / "asked").read_text() == "asked\n"


def test_another_source_is_not_and_has_no_score(
    honest: Upstream, model: Model, text: str, graders: Path, tmp_path: Path
) -> None:
    run = measured(Other(honest, tokenizer.load(model.path)), model, text, tmp_path)
    assert [reason.code for reason in run.invalid_reasons] == ["text-not-from-model"]
    assert run.score is None
    assert run.text is not None
    assert run.text["verdict"] == "not from the model"
    assert run.invalid_reasons[0].evidence["strange"]
    assert rescore(tmp_path / run.id) == run


def test_without_the_torch_engine_it_says_so(
    honest: Upstream, model: Model, text: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CEILING_HOME", str(tmp_path))
    monkeypatch.delenv("CEILING_TORCH_PYTHON", raising=False)
    run = measured(Plain(honest), model, text, tmp_path)
    assert run.valid
    assert run.text is not None
    assert run.text["verdict"] == "not checked"
    assert "ceiling engines install torch" in run.text["why"]


def test_who_is_not_asked_or_means_nothing_says_why(
    honest: Upstream, model: Model, text: str, graders: Path, tmp_path: Path
) -> None:
    dummy = measured(Plain(honest), replace(model, weights="dummy"), text, tmp_path, mark="speed only")
    played = measured(Plain(honest), model, text, tmp_path, mark="simulated", check_text=True)
    for run in (dummy, played):
        assert run.text is not None
        assert (run.text["verdict"], run.text["why"]) == (
            "not checked",
            "a simulated server's text comes from no model",
        )
    assert not (graders / "asked").exists()


@pytest.mark.parametrize(
    ("origin", "strange", "state"),
    [("planner", ".", State.COMPLETE), ("final", "[0-9]", State.COMPLETE), ("final", ".", State.INVALID)],
)
def test_trials_that_count_are_checked_whatever_their_server_says(
    origin: str,
    strange: str,
    state: State,
    model: Model,
    text: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    for name, value in stand_in_reference.make(tmp_path / "torch", strange).items():
        monkeypatch.setenv(name, value)
    plan = Plan("A", "smoke", 21, Fidelity(requests=0.5), text)
    run = tmp_path / "run"
    events: list[dict[str, Any]] = []
    spec = TrialSpec(1, "simulated", {}, origin, model, plan, str(run))
    for _ in range(TRIES):
        events.clear()
        trial = run_trial(spec, lambda event: events.append(dict(event)), engine=Posing())
        if not trial.detail.startswith(("other-process", "client-lag")):
            break
    assert trial.state is state, trial.detail
    told = [event for event in events if event["event"] == "measurement"]
    assert [event["id"] for event in told] == [one.id for one in trial.measurements]
    assert ("check" in trial.seconds) == (origin == "final") == (told[0]["text"]["verdict"] != "not checked")
    charged = sum(seconds for name, seconds in trial.seconds.items() if name != "check")
    assert trial.gpu_seconds == pytest.approx(charged, abs=0.01)
    phases = [event["phase"] for event in events if event["event"] == "phase"]
    assert (phases[-1] == "checking") == ("check" in trial.seconds)
    assert trial.measurements[0].mark is None
    assert told[0]["valid"] == (state is State.COMPLETE)
