"""A server that compiles kernels as shapes occur is measured when it has compiled them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
import yaml

from engines.contract import Config, Model
from scenarios import profiles, rows, tokenizer
from scenarios.load.entries import entries
from scenarios.load.entry import Entry
from scenarios.load.rehearsal import CALM, Rehearsal, quiet
from scenarios.load.rehearsed import PASSES, REHEARSAL_SECONDS, load_of, rehearsed
from scenarios.load.spill import Outcome, Record, pack
from scenarios.measurement import Measurement
from scenarios.models import open_model
from scenarios.profiles import ScenarioError
from scenarios.rows import REHEARSAL, REPEAT, SCORED, WARMUP
from scenarios.scenario import Plan
from scenarios.score import rescore, score
from scenarios.workload import PREFIX, RequestSet, build
from tests.engines.simulated_client import running
from tests.scenarios.mock_server import MockServer
from tests.scenarios.plain_text import write_jsonl
from tests.scenarios.request_sets import request_set
from tests.tiny_model import make_tiny_model

SHAPE: dict[str, Any] = {
    "bottleneck": "throughput",
    "score": "geometric mean of req/s over the traffics",
    "input_tokens": 64,
    "output_tokens": 16,
    "traffics": [{"name": "burst", "kind": "burst", "requests": 24, "concurrency": 8}],
}
BOTH: dict[str, Any] = {
    **SHAPE,
    "traffics": [
        {"name": "burst", "kind": "burst", "requests": 24, "concurrency": 8},
        {"name": "constant", "kind": "constant", "requests": 16, "rate": 16, "concurrency": 8},
    ],
}
COMPILES = 0.6


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Model:
    return open_model(make_tiny_model(tmp_path_factory.mktemp("model")), name="tiny")


@pytest.fixture(scope="module")
def text(tmp_path_factory: pytest.TempPathFactory) -> str:
    return write_jsonl(tmp_path_factory.mktemp("text") / "text.jsonl", documents=40)


def profile(folder: Path, *, rehearsal: bool, shape: Mapping[str, object] = SHAPE) -> str:
    path = folder / f"rehearsal-{rehearsal}.yaml"
    told = {"name": "own", "rehearsal": rehearsal, "scenarios": {"C": dict(shape)}}
    path.write_text(yaml.safe_dump(told))
    return str(path)


def measure(
    folder: Path,
    model: Model,
    text: str,
    *,
    rehearsal: bool,
    compiles: float,
    shape: Mapping[str, object] = SHAPE,
) -> tuple[Measurement, pd.DataFrame]:
    with running(model.path, folder, compile_seconds=compiles, noise=0) as url:
        chosen = profile(folder, rehearsal=rehearsal, shape=shape)
        one = score(url, "C", profile=chosen, seed=1, model=model, text=text, out=folder)
    assert rescore(folder / one.id) == one
    return one, rows.read(folder / one.id)


def passes(measured: Measurement) -> dict[str, int]:
    """How often each traffic was rehearsed, in the order of the stages."""
    stages = [stage["name"] for stage in measured.provenance["client"]["stages"]]
    rehearsals = [load for name in stages if (load := load_of(name)) is not None]
    loads = [name for name in stages if not name.startswith(REHEARSAL)][1:-1]
    assert stages[: 1 + len(rehearsals)] == ["warmup", *(name for name in stages if load_of(name))]
    assert stages[1 + len(rehearsals) :] == [*loads, "probe"]
    return {load: rehearsals.count(load) for load in loads}


def test_kernels_are_compiled_ahead_of_the_clock(model: Model, text: str, tmp_path: Path) -> None:
    with_it, without = tmp_path / "with", tmp_path / "without"
    steady, frame = measure(with_it, model, text, rehearsal=True, compiles=COMPILES, shape=BOTH)
    hurried, _ = measure(without, model, text, rehearsal=False, compiles=COMPILES, shape=BOTH)
    assert passes(hurried) == {"burst": 0, "constant": 0}
    assert passes(steady)["burst"] == 2
    assert passes(steady)["constant"] >= 1
    assert steady.valid and hurried.valid
    assert steady.score is not None and hurried.score is not None
    assert steady.score > 1.5 * hurried.score
    assert hurried.metrics["burst.silence_s"] >= COMPILES
    assert max(steady.metrics["burst.silence_s"], steady.metrics["constant.silence_s"]) < CALM
    assert steady.request_set == hurried.request_set
    sent = frame[frame["role"] == REHEARSAL]
    assert sent["ok"].all()
    assert frame["prompt_sha256"][frame["role"].isin([WARMUP, REHEARSAL, SCORED])].is_unique
    assert frame["key"].is_unique


def test_a_server_that_compiles_nothing_rehearses_once(model: Model, text: str, tmp_path: Path) -> None:
    measured, frame = measure(tmp_path, model, text, rehearsal=True, compiles=0)
    assert measured.valid, measured.invalid_reasons
    assert passes(measured) == {"burst": 1}
    assert (frame["role"] == REHEARSAL).sum() == 8 + 7


def lengths(model: Model, sent: Sequence[Entry]) -> list[float]:
    """The tokens of each prompt, as a share of those that it stands for."""
    words = tokenizer.load(model.path)
    counts = [words.chat_tokens([{"role": "user", "content": entry.prompt}]) for entry in sent]
    return [count / entry.input_tokens for count, entry in zip(counts, sent, strict=True)]


def test_prompts_without_a_space_are_as_long_too(tmp_path: Path) -> None:
    part = profiles.scenario(profile(tmp_path, rehearsal=True), "C")
    asked = request_set(part.traffics)
    dense = RequestSet(
        tuple(replace(one, prompt="雪" * 36) for one in asked.warmup), asked.requests, asked.digest
    )
    shown = [entry for entry in entries(dense, part) if entry.role == REHEARSAL]
    assert {len(entry.prompt.partition(". ")[2]) for entry in shown} == {24}


def test_a_rehearsal_is_as_wide_as_the_load_and_its_answers_end_one_by_one(
    model: Model, text: str, tmp_path: Path
) -> None:
    chosen = profile(tmp_path, rehearsal=True)
    sent = entries(build(Plan("C", chosen, 1, text=text), model), profiles.scenario(chosen, "C"))
    assert [entry.key for entry in sent] == list(range(len(sent)))
    shown = [entry for entry in sent if entry.role == REHEARSAL]
    starts = [entry.prompt[:PREFIX] for entry in sent if entry.role != REPEAT]
    assert len(set(starts)) == len(starts)
    for number in range(1, PASSES + 1):
        one = [entry.output for entry in shown if entry.traffic == rehearsed("burst", number)]
        assert one == [16, 14, 12, 10, 8, 6, 4, *[2] * 8]
    assert all(0.8 < share < 1.2 for share in lengths(model, shown))


def test_a_schedule_is_rehearsed_as_it_begins(model: Model, text: str, tmp_path: Path) -> None:
    far = {"name": "far", "kind": "constant", "requests": 4, "rate": 0.1}
    chosen = profile(tmp_path, rehearsal=True, shape={**BOTH, "traffics": [*BOTH["traffics"], far]})
    made = build(Plan("C", chosen, 1, text=text), model)
    sent = entries(made, profiles.scenario(chosen, "C"))
    scored = [entry for entry in sent if entry.role == SCORED and entry.traffic == "constant"]
    begun = [entry for entry in scored if entry.offset is not None and entry.offset <= REHEARSAL_SECONDS]
    assert 2 < len(begun) <= len(scored)
    shown = [entry for entry in sent if entry.traffic == rehearsed("constant", 2)]
    assert [entry.offset for entry in shown] == [entry.offset for entry in begun]
    assert [entry.output for entry in shown] == [entry.output for entry in begun]
    assert [entry.input_tokens for entry in shown] == [entry.input_tokens for entry in begun]
    assert all(0.8 < share < 1.2 for share in lengths(model, shown))
    assert [entry.offset for entry in sent if entry.traffic == rehearsed("far", 1)] == [0.0]


def test_the_names_of_its_stages_are_read_back() -> None:
    names = (rehearsed("two-fold", 3), "warmup", "burst")
    assert [load_of(name) for name in names] == ["two-fold", None, None]


def in_flight(frame: pd.DataFrame, role: str) -> int:
    """How many were being answered at once: all that had a first token and no last one yet."""
    rows_of = frame[frame["role"] == role]
    last = rows_of["chunk_times"].map(max) + rows_of["t0"]
    firsts = rows_of["first_content"] + rows_of["t0"]
    return max(int(((firsts <= at) & (last > at)).sum()) for at in firsts)


def test_all_are_answered_at_once_even_where_prompts_are_read_step_by_step(
    model: Model, text: str, tmp_path: Path
) -> None:
    long = {**SHAPE, "input_tokens": 256, "output_tokens": 96, "warmup_requests": 4}
    chosen = profile(tmp_path, rehearsal=True, shape=long)
    budget: Config = {"max-num-batched-tokens": 128}
    with running(model.path, tmp_path, budget, noise=0) as url:
        one = score(url, "C", profile=chosen, seed=1, model=model, text=text, out=tmp_path)
    frame = rows.read(tmp_path / one.id)
    assert (in_flight(frame, REHEARSAL), in_flight(frame, SCORED)) == (8, 8)


@pytest.mark.parametrize(("senders", "rehearsal"), [(3, True), (1, False)])
def test_it_opens_no_more_connections_than_it_sends(
    senders: int, rehearsal: bool, model: Model, text: str, tmp_path: Path
) -> None:
    chosen = profile(tmp_path, rehearsal=rehearsal)
    with MockServer(models=("tiny",)) as server:
        one = score(
            server.url, "C", profile=chosen, seed=1, model=model, text=text, out=tmp_path, senders=senders
        )
        assert server.most <= 8 + senders
    frame = rows.read(tmp_path / one.id)
    assert (frame["role"] == REHEARSAL).sum() == (8 + 7) * rehearsal
    assert frame["key"].is_unique


@pytest.mark.parametrize(
    ("traffic", "count"),
    [
        ({"kind": "poisson", "requests": 40, "rate": 100}, 40),
        ({"kind": "constant", "requests": 600, "rate": 500}, 256),
        ({"kind": "burst", "requests": 600}, 256 + 8),
        ({"kind": "burst", "requests": 600, "concurrency": 4}, 4 + 3),
        ({"kind": "closed", "requests": 3, "concurrency": 9}, 3),
        ({"kind": "closed", "requests": 9, "concurrency": 1}, 1),
    ],
)
def test_how_many_are_rehearsed(traffic: dict[str, object], count: int, tmp_path: Path) -> None:
    chosen = profile(tmp_path, rehearsal=True, shape={**SHAPE, "traffics": [{"name": "one", **traffic}]})
    part = profiles.scenario(chosen, "C")
    (one,) = part.traffics
    asked = request_set([one])
    sent = [entry for entry in entries(asked, part) if entry.traffic == rehearsed("one", 1)]
    assert len(sent) == count


def test_a_rehearsal_needs_a_warm_up(tmp_path: Path) -> None:
    chosen = profile(tmp_path, rehearsal=True, shape={**SHAPE, "warmup_requests": 0})
    with pytest.raises(ScenarioError, match="scenario C rehearses its warm-up's text: give it"):
        profiles.profile(chosen)


def test_on_gpus_it_is_rehearsed_and_kept_baselines_of_other_profiles_stay_good() -> None:
    assert {name for name in profiles.names() if profiles.scenario(name, "C").rehearsal} == {
        "gpu-short",
        "paper",
    }
    assert "rehearsal" not in profiles.scenario("cpu", "C").figures()
    assert profiles.scenario("gpu-short", "C").figures()["rehearsal"]


@pytest.mark.parametrize("name", ["warmup", "probe", "rehearsal", "rehearsal-1"])
def test_no_traffic_is_called_like_a_stage(name: str, tmp_path: Path) -> None:
    own = {**SHAPE, "traffics": [{"name": name, "kind": "burst", "requests": 4}]}
    path = tmp_path / "own.yaml"
    path.write_text(yaml.safe_dump({"name": "own", "scenarios": {"C": own}}))
    with pytest.raises(ScenarioError, match=f"{name} is a stage of every measurement: choose another name"):
        profiles.profile(str(path))


def heard(stage: int, *seconds: float) -> Record:
    """An answer that was sent at 0 and moved at these moments, the last its end."""
    times = [int(moment * 1e9) for moment in seconds]
    return Record(0, stage, 0, 0, 0, times[-1], Outcome.COMPLETE, times=times)


def test_silence_is_what_all_answers_share() -> None:
    assert quiet([heard(0, 0.1, 3.0), heard(0, 0.2, 1.2, 2.9)]) == pytest.approx(1.7)
    assert quiet([]) == 0


def test_nobody_waits_where_nobody_asks() -> None:
    late = Record(1, 0, 0, 0, int(5e9), int(5.3e9), Outcome.COMPLETE, times=[int(5.2e9)])
    assert quiet([heard(0, 0.1, 0.4), late]) == pytest.approx(0.3)
    assert quiet([late]) == pytest.approx(0.2)


def test_who_is_sent_does_not_end_a_silence() -> None:
    waiting = [Record(key, 0, 0, 0, int(key * 1e9), int(9e9), Outcome.COMPLETE) for key in range(8)]
    assert quiet(waiting) == pytest.approx(9.0)


@pytest.mark.parametrize(
    ("walls", "moved", "over"),
    [
        ([1.0], CALM / 2, [True]),
        ([9.0, 2.0, 1.9], 1.0, [False, False, True]),
        ([4.0, 3.9, 3.9], 1.0, [False, False, True]),
        ([9.0, 2.0], CALM / 2, [True, True]),
    ],
    ids=["calm", "compiles once", "slow but steady", "calm at last"],
)
def test_it_is_over_when_calm_or_steady(
    walls: list[float], moved: float, over: list[bool], tmp_path: Path
) -> None:
    spill = tmp_path / "spill"
    rehearsal = Rehearsal([spill])
    told = []
    for stage, wall in enumerate(walls):
        with spill.open("ab") as file:
            file.write(pack(heard(stage, moved)))
        rehearsal.ended("burst", stage, wall)
        told.append(rehearsal.over("burst"))
    assert told == over
    assert not rehearsal.over("constant")
