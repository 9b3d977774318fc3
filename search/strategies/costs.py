"""What a trial will take, from what trials took."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from statistics import fmean, median

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
class Pace:
    """Wall seconds of a measurement: `each` whatever it sends, and `whole` for all of the scenario."""

    each: float
    whole: float

    def of(self, works: Sequence[float]) -> float:
        """Of measurements that send such shares of the scenario."""
        return self.each * len(works) + self.whole * sum(works)


@dataclass(frozen=True)
class Costs:
    """Wall seconds of a start with its teardown, and the paces of trials to measure by."""

    scenario: Scenario
    start: float
    paces: tuple[Pace, ...]

    def of(self, plans: Sequence[Plan]) -> float:
        """A trial with these measurements."""
        works = [work(self.scenario, plan.fidelity) for plan in plans]
        return self.start + _upper(pace.of(works) for pace in self.paces)


def work(scenario: Scenario, fidelity: Fidelity) -> float:
    """Share of the whole scenario's time that a fidelity takes, by turnovers of what is in flight."""
    return fidelity.output * _turnovers(scenario, fidelity.requests) / _turnovers(scenario, 1.0)


def costs(record: Record, scenario: Scenario, engine: str | None = None) -> Costs | None:
    """From the trials of an engine (of all, where it has none) that served; None before there is one."""
    served = _served(record)
    return _costs([trial for trial in served if trial.engine == engine] or served, scenario)


def cost(record: Record, job: Job, scenario: Scenario, again: float = 1.0) -> float:
    """Wall seconds of a job: as its config took before, else as its engine's trials did; 0 without any.

    A config that has started finds its kernels built: its second start is expected to take `again` times its
    first, and no longer than its engine's usually do. A search's first start builds for all that follow: what
    they took tells what it would have taken without that.
    """
    own = [each for each in _served(record) if each.engine == job.engine]
    known = [each for each in own if each.config == job.config]
    same = _costs(known, scenario)
    if same:
        first, *later = known
        start = _upper(map(_start, later)) if later else _restart(first, own, again)
        return replace(same, start=start).of(job.plans)
    others = costs(record, scenario, job.engine)
    return others.of(job.plans) if others else 0.0


def _restart(first: Trial, own: Sequence[Trial], again: float) -> float:
    """Seconds of a config's second start, from its first and from those of its engine's other configs."""
    if first.number:
        return min(again * _start(first), median(_starts(own)))
    others = [_start(trial) for trial in own if trial.config != first.config]
    return again * min(_start(first), median(others)) if others else FIRST * _start(first)


def slowest_start(record: Record, engine: str) -> float | None:
    """Seconds of an engine's slowest start so far that ended in a server; None before there was one."""
    own = (trial for trial in _served(record) if trial.engine == engine)
    return max((trial.seconds.get("start", 0.0) for trial in own), default=None)


def _served(record: Record) -> list[Trial]:
    trials = (trial for _, trial in sorted(record.trials.items()))
    return [trial for trial in trials if trial.state in SERVED and trial.measurements]


def _costs(own: Sequence[Trial], scenario: Scenario) -> Costs | None:
    if not own:
        return None
    return Costs(scenario, _upper(_starts(own)), _paces(own, scenario))


def _starts(own: Sequence[Trial]) -> list[float]:
    return [_start(trial) * (FIRST if trial.number == 0 else 1.0) for trial in own]


def fits(record: Record, job: Job, left: float, scenario: Scenario, again: float = 1.0) -> bool:
    """Whether a job can be expected to end within `left` seconds; the first one of all is taken on trust."""
    return left > cost(record, job, scenario, again)


def _turnovers(scenario: Scenario, share: float) -> float:
    return sum(max(1.0, share * each.requests / (each.concurrency or 1)) for each in scenario.traffics)


def _start(trial: Trial) -> float:
    return trial.seconds.get("start", 0.0) + trial.seconds.get("stop", 0.0)


def _paces(own: Sequence[Trial], scenario: Scenario) -> tuple[Pace, ...]:
    """Each trial's; of one whose measurements all have one size, with the others' median `each`."""
    points = [_points(trial, scenario) for trial in own]
    fitted = [_line(each) for each in points if len({share for share, _ in each}) > 1]
    each = median(pace.each for pace in fitted) if fitted else 0.0
    return tuple(fitted) + tuple(
        _through(some, each) for some in points if len({share for share, _ in some}) == 1
    )


Point = tuple[float, float]
"""The share of the scenario that a measurement sent, and its wall seconds, those between them included."""


def _points(trial: Trial, scenario: Scenario) -> list[Point]:
    done = trial.measurements
    between = trial.seconds.get("measure", 0.0) - sum(each.seconds for each in done)
    return [(work(scenario, each.fidelity), each.seconds + max(0.0, between) / len(done)) for each in done]


def _line(points: Sequence[Point]) -> Pace:
    """Least squares, with nothing below zero."""
    shares, seconds = zip(*points, strict=True)
    slope = float(np.polyfit(shares, seconds, 1)[0])
    each = fmean(seconds) - slope * fmean(shares)
    if slope <= 0.0 or each <= 0.0:
        return _through(points, 0.0)
    return Pace(each, slope)


def _through(points: Sequence[Point], each: float) -> Pace:
    shares, seconds = zip(*points, strict=True)
    return Pace(each, max(0.0, sum(seconds) - each * len(points)) / sum(shares))


def _upper(values: Iterable[float]) -> float:
    return float(np.quantile(list(values), UPPER))
