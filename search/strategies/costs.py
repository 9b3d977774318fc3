"""What a trial will take, from what trials took."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace

import numpy as np

from scenarios.scenario import Fidelity, Plan, Scenario
from scenarios.trial import State, Trial
from search.record import Job, Record

UPPER = 0.75
"""The quantile of past durations that a trial is expected to stay under."""

FIRST = 0.5
"""What later starts take of a search's first, which builds kernels and fills caches for all of them."""

SERVED = frozenset({State.COMPLETE, State.PRUNED, State.INVALID})


@dataclass(frozen=True)
class Costs:
    """Wall seconds: of a start with its teardown, and of a whole scenario's measurement."""

    scenario: Scenario
    start: float
    whole: float

    def of(self, plans: Sequence[Plan]) -> float:
        """A trial with these measurements."""
        return self.start + self.whole * sum(work(self.scenario, plan.fidelity) for plan in plans)


def work(scenario: Scenario, fidelity: Fidelity) -> float:
    """Share of the whole scenario's time that a fidelity takes, by turnovers of what is in flight."""
    return fidelity.output * _turnovers(scenario, fidelity.requests) / _turnovers(scenario, 1.0)


def costs(record: Record, scenario: Scenario, engine: str | None = None) -> Costs | None:
    """From the trials of an engine (of all, where it has none) that served; None before there is one."""
    served = _served(record)
    return _costs([trial for trial in served if trial.engine == engine] or served, scenario)


def cost(record: Record, job: Job, scenario: Scenario) -> float:
    """Wall seconds of a job: as its config took before, else as its engine's trials did; 0 without any.

    A config that has started finds its kernels built, so it starts again as soon as its engine usually does.
    """
    own = [each for each in _served(record) if each.engine == job.engine]
    same = _costs([each for each in own if each.config == job.config], scenario)
    if same:
        usual = float(np.median(_starts(own)))
        return replace(same, start=min(same.start, usual)).of(job.plans)
    known = costs(record, scenario, job.engine)
    return known.of(job.plans) if known else 0.0


def _served(record: Record) -> list[Trial]:
    return [trial for trial in record.trials.values() if trial.state in SERVED and trial.measurements]


def _costs(own: Sequence[Trial], scenario: Scenario) -> Costs | None:
    if not own:
        return None
    return Costs(scenario, _upper(_starts(own)), _upper(_whole(trial, scenario) for trial in own))


def _starts(own: Sequence[Trial]) -> list[float]:
    return [_start(trial) * (FIRST if trial.number == 0 else 1.0) for trial in own]


def fits(record: Record, job: Job, left: float, scenario: Scenario) -> bool:
    """Whether a job can be expected to end within `left` seconds; the first one of all is taken on trust."""
    return left > cost(record, job, scenario)


def _turnovers(scenario: Scenario, share: float) -> float:
    return sum(max(1.0, share * each.requests / (each.concurrency or 1)) for each in scenario.traffics)


def _start(trial: Trial) -> float:
    return trial.seconds.get("start", 0.0) + trial.seconds.get("stop", 0.0)


def _whole(trial: Trial, scenario: Scenario) -> float:
    done = sum(work(scenario, each.fidelity) for each in trial.measurements)
    return trial.seconds.get("measure", 0.0) / done


def _upper(values: Iterable[float]) -> float:
    return float(np.quantile(list(values), UPPER))
