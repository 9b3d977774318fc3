"""Trials say whether their server's imports were done ahead, and a paste of their command starts cold."""

from __future__ import annotations

import uuid
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from engines.contract import Model
from engines.host import this_host
from engines.orphans import RUN_ID, survivors
from engines.simulated.engine import MODULE, Simulated
from engines.warm import Starts, Warm, interpreters
from scenarios.models import open_model
from scenarios.scenario import Fidelity, Plan
from scenarios.trial import State, Trial, TrialSpec
from scenarios.trial_run import run_trial
from tests.scenarios.plain_text import write_jsonl
from tests.tiny_model import make_tiny_model


class WarmSimulated(Simulated):
    """The simulated engine, imported ahead."""

    warm = Warm(MODULE)


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Model:
    return open_model(make_tiny_model(tmp_path_factory.mktemp("model")), max_length=1024)


@pytest.fixture
def run_id() -> Iterator[str]:
    """An id of a run whose interpreters are gone when the test ends."""
    identity = uuid.uuid4().hex
    yield identity
    kept = interpreters("warm", this_host())
    assert kept is not None
    kept.close()
    assert not waiting(identity)


def waiting(run_id: str) -> set[int]:
    return survivors(lambda variables: variables.get(RUN_ID) == run_id)


def trials(model: Model, run: Path, run_id: str, starts: Starts) -> list[Trial]:
    text = write_jsonl(run / "text.jsonl")
    plan = Plan("A", "smoke", 21, Fidelity(requests=0.5), text)
    spec = TrialSpec(0, "simulated", {}, "planner", model, plan, str(run), starts=starts)
    config = {"max-num-seqs": 8}
    return [
        run_trial(replace(spec, number=number, config=config), print, run_id=run_id, engine=WarmSimulated())
        for number in range(2)
    ]


def test_the_second_trial_starts_warm(model: Model, tmp_path: Path, run_id: str) -> None:
    cold, warm = trials(model, tmp_path, run_id, "warm")
    assert [cold.state, warm.state] == [State.COMPLETE, State.COMPLETE], warm.detail
    assert [cold.warm, warm.warm] == [False, True]
    assert waiting(run_id), "the third was not prepared"
    assert f"-m {MODULE} " in warm.command
    kept = {each.id: each for each in warm.measurements}
    assert warm.to_json()["warm"] is True
    assert Trial.from_json(warm.to_json() | {"number": 1}, kept) == warm


def test_cold_starts_prepare_nothing(model: Model, tmp_path: Path, run_id: str) -> None:
    assert [trial.warm for trial in trials(model, tmp_path, run_id, "cold")] == [False, False]
    assert not waiting(run_id)
