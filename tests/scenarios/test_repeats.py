"""Repeats of one server, and what they teach of a machine's noise."""

from __future__ import annotations

import json
import math
import statistics
from collections.abc import Iterator
from dataclasses import asdict, replace
from pathlib import Path

import pytest

from engines.contract import Model
from engines.host import this_host
from engines.registry import engine
from engines.server import Server
from scenarios import noise, rows
from scenarios.measurement import Measurement, Reason
from scenarios.models import digest, open_model
from scenarios.repeats import FEWEST, Measure, Repeats, repeat
from scenarios.scenario import FULL, Fidelity, Plan, ScenarioError
from scenarios.score import score
from scenarios.workload import blocks, build
from tests.scenarios.plain_text import write_jsonl
from tests.tiny_model import make_tiny_model

BLANK = Measurement("m", "C", "smoke", 1, FULL, (), 1.0, None, {}, {}, "set", {}, 0.0, 1.0)
LATE = Reason("client-lag", "the client lagged")


def scored(*scores: float | None) -> Measure:
    """Measures nothing: these scores in turn, None for an invalid one."""
    left: Iterator[float | None] = iter(scores)

    def once(seed: int, fidelity: Fidelity) -> Measurement:
        value = next(left)
        reasons = (LATE,) if value is None else ()
        return replace(BLANK, seed=seed, fidelity=fidelity, score=value, invalid_reasons=reasons)

    return once


def repeats(*scores: float | None) -> Repeats:
    return repeat(scored(*scores), seed=1, blocks=99, most=len(scores))


def test_mean_interval_and_spread() -> None:
    made = repeats(9.0, 10.0, 11.0)
    assert made.mean == 10.0
    assert made.spread == pytest.approx(0.1)
    assert made.interval == pytest.approx((10 - 4.302653 / math.sqrt(3), 10 + 4.302653 / math.sqrt(3)))
    assert made.to_json()["reason"] is None


def test_one_repeat_has_a_mean_and_no_interval() -> None:
    made = repeats(9.0)
    assert (made.mean, made.interval, made.spread) == (9.0, None, None)


def test_an_invalid_repeat_is_kept_ends_them_and_leaves_no_mean() -> None:
    made = repeat(scored(9.0, None, 11.0), seed=1, blocks=99, most=3)
    assert len(made.measurements) == 2
    told = made.to_json()
    assert (told["mean"], told["interval"], told["spread"], told["valid"]) == (None, None, None, False)
    assert told["reason"] == "repeat 2 is invalid: client-lag: the client lagged"


@pytest.mark.parametrize(
    ("within", "scores", "count"),
    [
        (0.03, (10.0, 10.0, 10.0, 99.0), FEWEST),
        (0.03, (9.0, 11.0, 10.0, 10.0, 99.0), 5),
        (0.2, (9.0, 11.0, 10.0, 10.0, 10.0, 99.0), 4),
    ],
)
def test_repeats_end_when_the_interval_is_narrow(
    within: float, scores: tuple[float, ...], count: int
) -> None:
    made = repeat(scored(*scores), seed=1, blocks=99, most=5, within=within)
    assert len(made.measurements) == count
    assert count == 5 or (made.margin is not None and made.margin <= within)


def test_each_repeat_takes_a_block_of_its_own_and_then_a_further_seed() -> None:
    made = repeat(scored(1.0, 1.0, 1.0, 1.0, 1.0), seed=7, blocks=2, most=5)
    taken = [(one.seed, one.fidelity.block) for one in made.measurements]
    assert taken == [(7, 0), (7, 1), (8, 0), (8, 1), (9, 0)]


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Model:
    return open_model(make_tiny_model(tmp_path_factory.mktemp("model")), name="tiny")


@pytest.fixture(scope="module")
def text(tmp_path_factory: pytest.TempPathFactory) -> str:
    return write_jsonl(tmp_path_factory.mktemp("text") / "text.jsonl", documents=40)


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("CEILING_HOME", str(tmp_path / "home"))
    return tmp_path / "home"


def test_blocks_of_a_seed_share_no_prompt(model: Model, text: str) -> None:
    plan = Plan("B", "smoke", 3, text=text)
    count = min(blocks(plan, model), 5)
    sets = [build(replace(plan, fidelity=Fidelity(block=block)), model) for block in range(count)]
    prompts = [request.prompt for one in sets for request in (*one.warmup, *one.requests)]
    assert count > 1
    assert len(prompts) == len(set(prompts))


def test_repeats_of_a_server_draw_fresh_prompts_and_are_all_kept(
    model: Model, text: str, tmp_path: Path, home: Path
) -> None:
    with Server(engine("simulated"), {}, model, log=tmp_path / "log") as server:

        def once(seed: int, fidelity: Fidelity) -> Measurement:
            return score(
                server.url,
                "B",
                profile="smoke",
                seed=seed,
                model=model,
                fidelity=fidelity,
                text=text,
                out=tmp_path / "rows",
            )

        made = repeat(once, seed=1, blocks=9, most=3)
    prompts = [
        set(rows.read(tmp_path / "rows" / one.id).query("role == 'scored'")["prompt_sha256"])
        for one in made.measurements
    ]
    assert made.valid, made.reason
    assert not prompts[0] & prompts[1] | prompts[1] & prompts[2]
    learnt = noise.learn(model, made)
    assert learnt is not None and learnt.freedom == 2 and learnt.spread > 0
    kept = json.loads(next(home.glob("noise/*.json")).read_text())
    assert kept["servers"][0]["engine"] == "simulated"
    assert kept["key"]["mark"] == "simulated"


def key(model: Model, profile: str = "smoke") -> dict[str, object]:
    return noise.key(asdict(this_host()), digest(model.path), "C", profile)


def test_noise_is_pooled_over_servers_and_narrows_with_means(model: Model, home: Path) -> None:
    noise.learn(model, repeats(1.00, 1.02, 0.98))
    learnt = noise.learn(model, repeats(2.00, 2.04, 1.96))
    assert learnt == noise.known(key(model))
    spread = statistics.stdev(map(math.log, (1.00, 1.02, 0.98)))
    assert learnt is not None and learnt.freedom == 4
    assert learnt.spread == pytest.approx(spread, rel=0.01)
    assert learnt.floor() == pytest.approx(math.exp(2.776445 * spread * math.sqrt(2)), rel=1e-3)
    assert 1 < learnt.floor(3, 3) < learnt.floor(1, 3) < learnt.floor()


def test_noise_is_not_learnt_from_too_few_or_invalid_ones(model: Model, home: Path) -> None:
    assert noise.learn(model, repeats(1.0, 1.1)) is None
    assert noise.learn(model, repeats(1.0, 1.1, 1.0, None)) is None
    assert noise.known(key(model)) is None


def test_noise_of_another_machine_or_profile_is_not_known(model: Model, home: Path) -> None:
    noise.learn(model, repeats(1.00, 1.02, 0.98))
    assert noise.known(key(model)) is not None
    assert noise.known(key(model, "cpu")) is None
    assert noise.known({**key(model), "cores": 999}) is None
    with pytest.raises(ScenarioError):
        key(model, "huge")


def test_a_damaged_file_is_as_none(model: Model, home: Path) -> None:
    noise.learn(model, repeats(1.00, 1.02, 0.98))
    next(home.glob("noise/*.json")).write_text('{"servers": [')
    assert noise.known(key(model)) is None
