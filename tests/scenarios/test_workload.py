"""Request sets: exact lengths, no prompt twice, decided by plan and model alone."""

from __future__ import annotations

import json
from collections import Counter
from dataclasses import replace
from pathlib import Path

import pytest
import yaml

from engines.contract import Model
from scenarios import profiles
from scenarios.models import open_model
from scenarios.scenario import Fidelity, Plan, ScenarioError, Traffic
from scenarios.texts import TextError
from scenarios.tokenizer import load
from scenarios.workload import PREFIX, WARMUP, WARMUP_OUTPUT, RequestSet, build, share
from tests.scenarios.plain_text import write_jsonl
from tests.tiny_model import make_tiny_model

SCENARIOS = "ABCD"


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Model:
    return open_model(make_tiny_model(tmp_path_factory.mktemp("models") / "tiny"))


@pytest.fixture(scope="module")
def text(tmp_path_factory: pytest.TempPathFactory) -> str:
    return write_jsonl(tmp_path_factory.mktemp("texts") / "plain.jsonl", documents=40)


@pytest.fixture(autouse=True)
def cache(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CEILING_CACHE", str(tmp_path_factory.getbasetemp() / "cache"))


@pytest.fixture(scope="module")
def plan(text: str) -> Plan:
    return Plan("C", "smoke", 21, text=text)


def prompts(requests: RequestSet) -> list[str]:
    return [request.prompt for request in requests.warmup + requests.requests]


def heads(requests: RequestSet, model: Model) -> list[tuple[int, ...]]:
    words = load(model.path)
    return [tuple(words.encode(prompt)[:32]) for prompt in prompts(requests)]


@pytest.mark.parametrize("profile", ["smoke", "cpu"])
@pytest.mark.parametrize("letter", SCENARIOS)
def test_every_prompt_has_exactly_its_tokens(plan: Plan, model: Model, profile: str, letter: str) -> None:
    part = profiles.scenario(profile, letter)
    requests = build(replace(plan, scenario=letter, profile=profile), model)
    words = load(model.path)
    for request in requests.warmup + requests.requests:
        assert words.chat_tokens([{"role": "user", "content": request.prompt}]) == request.input_tokens
        assert 0.8 * part.input_tokens <= request.input_tokens <= part.input_tokens
    for request in requests.requests:
        assert 0.8 * part.output_tokens <= request.output_tokens <= part.output_tokens
    assert len(set(heads(requests, model))) == len(prompts(requests))


def test_a_hundred_prompts_of_every_length_are_exact(text: str, model: Model, tmp_path: Path) -> None:
    sizes = {
        "name": "spread",
        "scenarios": {
            "B": {
                "bottleneck": "any",
                "score": "1 / TPOT p50",
                "input_tokens": 600,
                "output_tokens": 200,
                "spread": 0.05,
                "traffics": [{"name": "closed", "kind": "closed", "requests": 300, "concurrency": 1}],
            }
        },
    }
    (tmp_path / "spread.yaml").write_text(yaml.safe_dump(sizes))
    requests = build(Plan("B", str(tmp_path / "spread.yaml"), 5, text=text), model).requests
    words = load(model.path)
    counted = [words.chat_tokens([{"role": "user", "content": r.prompt}]) for r in requests]
    assert counted == [request.input_tokens for request in requests]
    assert min(counted) < 60 and max(counted) > 570
    assert len(set(counted)) > 200
    outputs = [request.output_tokens for request in requests]
    assert min(outputs) < 20 and max(outputs) > 190


def test_prompts_are_text_as_it_stands(plan: Plan, model: Model, text: str) -> None:
    lines = Path(text.removeprefix("jsonl:")).read_text(encoding="utf-8").splitlines()
    documents = [json.loads(line)["text"] for line in lines]
    made = prompts(build(plan, model))
    for prompt in made:
        assert any(prompt[: len(prompt) // 3] in document for document in documents)
        assert prompt == prompt.strip()
    whole = [prompt for prompt in made if any(prompt in document for document in documents)]
    assert len(whole) > 0.7 * len(made)


def test_the_same_plan_gives_the_same_set(plan: Plan, model: Model) -> None:
    first, second = build(plan, model), build(plan, model)
    assert first == second
    assert len(first.digest) == 64


def test_the_digest_sees_every_field(plan: Plan, model: Model) -> None:
    full = build(plan, model)
    others = [
        replace(plan, seed=22),
        replace(plan, fidelity=Fidelity(block=1)),
        replace(plan, fidelity=Fidelity(requests=0.5)),
        replace(plan, profile="cpu"),
        replace(plan, scenario="A"),
    ]
    digests = [build(other, model).digest for other in others]
    assert len({full.digest, *digests}) == len(others) + 1


def test_seeds_blocks_and_scenarios_share_no_prompt(plan: Plan, model: Model) -> None:
    plans = [
        *(replace(plan, fidelity=Fidelity(block=block)) for block in range(4)),
        *(replace(plan, scenario=letter) for letter in "ABD"),
        *(replace(plan, seed=seed) for seed in (22, 1337)),
    ]
    every = [prompt for each in plans for prompt in prompts(build(each, model))]
    assert max(Counter(every).values()) == 1


def test_blocks_of_one_seed_share_no_beginning(plan: Plan, model: Model) -> None:
    every = [
        head
        for block in range(4)
        for head in heads(build(replace(plan, fidelity=Fidelity(block=block)), model), model)
    ]
    assert max(Counter(every).values()) == 1


def test_seeds_and_scenarios_share_no_beginning(model: Model, tmp_path: Path) -> None:
    """Whatever the lengths of their prompts: a server that has seen one has nothing of the others cached."""
    text = write_jsonl(tmp_path / "text.jsonl", documents=120)
    plans = [Plan(letter, "smoke", seed, text=text) for seed in range(88, 94) for letter in "ABCD"]
    every = [head for plan in plans for head in heads(build(plan, model), model)]
    assert max(Counter(every).values()) == 1


def test_warm_up_comes_apart(plan: Plan, model: Model) -> None:
    requests = build(replace(plan, scenario="B", profile="cpu"), model)
    assert len(requests.warmup) == profiles.scenario("cpu", "B").warmup_requests
    assert {request.traffic for request in requests.warmup} == {WARMUP}
    assert all(request.offset is None for request in requests.warmup)
    assert all(2 <= request.output_tokens <= WARMUP_OUTPUT for request in requests.warmup)
    assert not {r.prompt for r in requests.warmup} & {r.prompt for r in requests.requests}


def test_traffics_keep_their_order_and_schedules(plan: Plan, model: Model) -> None:
    requests = build(plan, model).requests
    assert [request.index for request in requests] == list(range(72))
    assert [request.traffic for request in requests[::24]] == ["burst", "poisson", "constant"]
    assert {request.offset for request in requests[:24]} == {0.0}
    assert requests[48].offset == 0.0 and requests[49].offset == pytest.approx(1 / 80)
    assert all(request.offset is None for request in build(replace(plan, scenario="D"), model).requests)
    assert len({request.seed for request in requests}) == len(requests)


def test_fidelity_sends_a_subset_in_the_same_regime(plan: Plan, model: Model) -> None:
    full = build(plan, model).requests
    half = build(replace(plan, fidelity=Fidelity(requests=0.5)), model).requests
    assert Counter(request.traffic for request in half) == {"burst": 12, "poisson": 12, "constant": 12}
    assert [r.prompt for r in half] == [r.prompt for i in (0, 24, 48) for r in full[i : i + 12]]
    assert [r.offset for r in half] == [r.offset for i in (0, 24, 48) for r in full[i : i + 12]]


def test_fidelity_shortens_outputs_in_a_and_b_only(plan: Plan, model: Model) -> None:
    full = build(replace(plan, scenario="B"), model).requests
    short = build(replace(plan, scenario="B", fidelity=Fidelity(output=0.25)), model).requests
    assert [r.input_tokens for r in short] == [r.input_tokens for r in full]
    assert [r.output_tokens for r in short] == [round(r.output_tokens / 4) for r in full]
    with pytest.raises(ScenarioError, match="in A and B only"):
        build(replace(plan, fidelity=Fidelity(output=0.5)), model)


@pytest.mark.parametrize(
    ("fidelity", "count"), [(1.0, 256), (0.5, 128), (0.3, 77), (0.01, 64), (0.25, 64), (0.75, 192)]
)
def test_a_share_never_falls_below_the_concurrency(fidelity: float, count: int) -> None:
    burst = Traffic("burst", "burst", 256, concurrency=64)
    assert share(burst, Fidelity(requests=fidelity)) == count
    assert share(Traffic("poisson", "poisson", 10, rate=1.0), Fidelity(requests=0.001)) == 1


def test_a_serial_measurement_is_a_subset_below_the_concurrency(plan: Plan, model: Model) -> None:
    full = build(plan, model).requests
    serial = build(replace(plan, fidelity=Fidelity(serial=3)), model).requests
    assert [r.prompt for r in serial] == [r.prompt for i in (0, 24, 48) for r in full[i : i + 3]]


@pytest.mark.parametrize(
    "fidelity", [Fidelity(0.0), Fidelity(1.5), Fidelity(1, 0.0), Fidelity(block=-1), Fidelity(serial=0)]
)
def test_a_fidelity_out_of_range_is_refused(plan: Plan, model: Model, fidelity: Fidelity) -> None:
    with pytest.raises(ScenarioError, match="out of range"):
        build(replace(plan, scenario="A", fidelity=fidelity), model)


def test_a_profile_beyond_the_models_context_is_refused(plan: Plan, model: Model) -> None:
    with pytest.raises(ScenarioError, match=r"needs 9216 tokens in A, tiny has a context of 8192"):
        build(replace(plan, scenario="A", profile="paper"), model)


def test_a_short_text_is_refused_with_its_capacity(plan: Plan, model: Model, tmp_path: Path) -> None:
    few = write_jsonl(tmp_path / "few.jsonl", documents=1, words=120)
    with pytest.raises(TextError, match=r"has places for \d+ prompts of 256 tokens, 14 are needed"):
        build(replace(plan, scenario="A", text=few), model)


def test_a_small_text_is_shared_among_seeds(plan: Plan, model: Model, tmp_path: Path) -> None:
    small = write_jsonl(tmp_path / "small.jsonl", documents=2, words=500)
    requests = build(replace(plan, scenario="D", text=small), model)
    assert len(set(heads(requests, model))) == 18


def test_repeated_text_gives_no_prompt_twice(plan: Plan, model: Model, tmp_path: Path) -> None:
    once = Path(write_jsonl(tmp_path / "once.jsonl", documents=3, words=900).removeprefix("jsonl:"))
    many = tmp_path / "many.jsonl"
    many.write_text(once.read_text() * 20)
    requests = build(replace(plan, text=f"jsonl:{many}"), model)
    assert len(set(heads(requests, model))) == len(prompts(requests))


def test_prompts_at_every_other_word_of_a_text_begin_each_otherwise(model: Model, tmp_path: Path) -> None:
    """Where a cut has to move it does not move to where the next prompt begins."""
    sizes = {
        "name": "dense",
        "scenarios": {
            "C": {
                "bottleneck": "any",
                "score": "geometric mean of req/s over the traffics",
                "input_tokens": 64,
                "output_tokens": 4,
                "traffics": [{"name": "closed", "kind": "closed", "requests": 1300, "concurrency": 1}],
            }
        },
    }
    (tmp_path / "dense.yaml").write_text(yaml.safe_dump(sizes))
    text = write_jsonl(tmp_path / "text.jsonl", documents=1, words=3100)
    made = build(Plan("C", str(tmp_path / "dense.yaml"), 5, text=text), model)
    words = load(model.path)
    begun = [tuple(words.encode(prompt)[1 : PREFIX + 4]) for prompt in prompts(made)]
    assert max(Counter(begun).values()) == 1


def test_a_template_longer_than_the_prompt_is_refused(plan: Plan, tmp_path: Path) -> None:
    path = make_tiny_model(tmp_path / "wordy")
    (path / "chat_template.jinja").write_text("{{ 'word ' * 200 }}{{ messages[0].content }}")
    with pytest.raises(ScenarioError, match="no room for text"):
        build(plan, open_model(path))
