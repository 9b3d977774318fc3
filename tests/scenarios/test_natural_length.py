"""Answers as long as the model makes them: what is sent, what counts, and that it stands apart."""

from __future__ import annotations

import json
import re
from dataclasses import replace
from pathlib import Path

import pytest

from engines.contract import Capabilities, Model
from engines.host import this_host
from engines.registry import engine
from engines.server import Server
from engines.simulated.engine import Simulated
from scenarios import metrics, profiles, rows
from scenarios.baseline import baseline_key
from scenarios.load.entries import entries
from scenarios.models import open_model
from scenarios.requests import natural
from scenarios.scenario import Plan, Scenario, ScenarioError, Score, Traffic
from scenarios.score import rescore, score
from scenarios.trial import State, TrialSpec
from scenarios.trial_run import refused
from scenarios.validity import Facts, judge
from scenarios.workload import build
from tests.scenarios.made_rows import probe, reduced, row
from tests.scenarios.plain_text import write_jsonl
from tests.tiny_model import make_tiny_model


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Model:
    return open_model(make_tiny_model(tmp_path_factory.mktemp("model")), name="tiny")


@pytest.fixture(scope="module")
def text(tmp_path_factory: pytest.TempPathFactory) -> str:
    return write_jsonl(tmp_path_factory.mktemp("text") / "text.jsonl", documents=40)


PROFILE = """
name: long
scenarios:
  C:
    bottleneck: throughput
    score: geometric mean of req/s over the traffics
    input_tokens: 64
    output_tokens: 240
    traffics:
      - {name: burst, kind: burst, requests: 16, concurrency: 8}
"""


def test_a_natural_profile_is_the_same_but_for_its_lengths() -> None:
    forced, free = profiles.profile("smoke"), profiles.profile("smoke+natural")
    assert (free.name, free.max_length) == ("smoke+natural", forced.max_length)
    for letter, part in free.scenarios.items():
        assert part.length == "natural"
        assert replace(part, length="forced") == forced.scenarios[letter]
    with pytest.raises(ScenarioError, match="unknown profile frob"):
        profiles.profile("frob+natural")


def test_no_length_is_forced_in_what_is_sent(model: Model, text: str) -> None:
    part = profiles.scenario("smoke+natural", "A")
    entry = entries(build(Plan("A", "smoke+natural", 1, text=text), model), part)[0]
    forced, free = json.loads(entry.body("m", "x")), json.loads(entry.body("m", "x", forced=False))
    assert free["max_tokens"] == forced["max_tokens"] == forced["min_tokens"]
    assert forced["ignore_eos"] is True
    assert set(forced) - set(free) == {"min_tokens", "ignore_eos"}


def test_answers_of_any_length_count_by_their_share(model: Model, text: str, tmp_path: Path) -> None:
    own, out = tmp_path / "long.yaml", tmp_path / "rows"
    own.write_text(PROFILE)
    with Server(engine("simulated"), {}, model, log=tmp_path / "engine.log") as server:
        one = score(server.url, "C", profile=f"{own}+natural", seed=1, model=model, text=text, out=out)
    place = out / one.id
    assert one.valid, one.invalid_reasons
    frame = rows.read(place)
    scored = frame[frame["role"] == rows.SCORED]
    assert (scored["usage_completion"] < scored["asked_output"]).any()
    assert (scored["finish_reason"] == "stop").any()
    assert one.requests == {"asked": 16, "completed": 16, "failed": 0, "short": 0}
    assert one.score is not None and one.score < one.metrics["req_per_s"]
    assert one.profile == one.provenance["plan"]["profile"] and one.profile.endswith("long.yaml+natural")
    assert rescore(place) == one


SHAPE = Scenario("C", "x", Score.THROUGHPUT, 100, 20, (Traffic("closed", "closed", 20, 1),), length="natural")


def answers(tokens: int, finish: str) -> list[dict[str, object]]:
    made = [
        row(key, intended=key * 1.0, tokens=[1] * tokens, finish_reason=finish, usage_completion=tokens)
        for key in range(20)
    ]
    return made + probe(20)


def test_a_short_answer_earns_its_share_and_no_more() -> None:
    whole, half = (natural(reduced(answers(tokens, "stop"))) for tokens in (20, 10))
    assert half.scored["good"].all() and not half.scored["short"].any()
    ratio = metrics.score(half, SHAPE) / metrics.score(whole, SHAPE)
    assert ratio == pytest.approx(0.5, rel=0.02)


def test_an_answer_that_was_cut_off_is_short() -> None:
    facts = Facts(SHAPE, {"closed": 20}, before={"m": 1}, after={"m": 1})
    for tokens, finish, codes in ((10, "length", ["short-output"]), (10, "stop", []), (20, "length", [])):
        found = judge(natural(reduced(answers(tokens, finish))), facts)
        assert [one.code for one in found if one.code != "concurrency"] == codes, (tokens, finish)


class Unforced(Simulated):
    """An engine that cannot force a length, as TGI."""

    capabilities = Capabilities(force_length=False, usage=True, logprobs=False)


@pytest.mark.parametrize(
    ("profile", "weights", "said"),
    [
        ("smoke", "real", "cannot force an answer's length: .* with --length natural"),
        ("smoke+natural", "dummy", "random weights never end an answer"),
        ("smoke+natural", "real", None),
    ],
)
def test_what_cannot_be_measured_is_refused_at_no_cost(
    model: Model, tmp_path: Path, profile: str, weights: str, said: str | None
) -> None:
    subject = open_model(model.path, weights="dummy") if weights == "dummy" else model
    spec = TrialSpec(0, "simulated", {}, "default", subject, Plan("A", profile, 1), str(tmp_path))
    trial = refused(Unforced(), spec, this_host())
    if said is None:
        assert trial is None
        return
    assert trial is not None and trial.state is State.INFEASIBLE
    assert re.search(said, trial.detail)


def test_baselines_of_the_two_are_kept_apart(model: Model) -> None:
    keys = [baseline_key(model, "A", name, 1, "x", "simulated") for name in ("smoke", "smoke+natural")]
    assert keys[0] != keys[1]
    assert keys[0]["setting"] == keys[1]["setting"]
