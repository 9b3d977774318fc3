"""The final trials: candidates against the default on held-out requests, and what follows from them."""

from __future__ import annotations

import heapq
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import groupby
from statistics import NormalDist

import numpy as np

from engines.contract import Config
from scenarios.scenario import Plan
from scenarios.trial import State, Trial
from search.record import Job, Record
from search.strategies.compare import Gap, Reading, gap, readings
from search.strategies.costs import cost
from search.strategies.strategy import Setting, Verdict

SIGNIFICANCE = 0.05
"""One-sided error rate of calling a candidate faster than the default, over all candidates (Bonferroni)."""

MOST_CANDIDATES = 3
DRAWS = 20_000


@dataclass(frozen=True)
class Finals:
    """The final jobs in order. `rich`: the default brackets the candidates; all serve two blocks."""

    jobs: tuple[Job, ...]
    rich: bool = False

    @classmethod
    def choices(
        cls, default: Trial | None, better: Sequence[Trial], blocks: tuple[Plan, Plan], devices: int = 1
    ) -> Iterator[Finals]:
        """From the richest to the plainest that still compares with the default.

        Several devices serve the two blocks side by side, from a start of the candidate's each, and compare
        as many candidates as they have room for.
        """
        if default is None or not better:
            return
        first, second = ((block,) for block in blocks)
        most = min(MOST_CANDIDATES, len(better))
        for count in range(most, 0, -1):
            chosen = better[:count]
            rounds = [blocks] if devices == 1 else [first, second]
            candidates = [_job(trial, plans) for plans in rounds for trial in chosen]
            yield cls((_job(default, first), *candidates, _job(default, second)), rich=True)
        for count in range(max(1, min(most, devices - 1)), 0, -1):
            yield cls(tuple(_job(trial, first) for trial in (default, *better[:count])))

    @classmethod
    def least(cls, default: Trial | None, better: Sequence[Trial], blocks: tuple[Plan, Plan]) -> Finals:
        """The best trial on the held-out seed, and the default if there is still time for it then."""
        ranked = [trial for trial in (*better[:1], default) if trial]
        return cls(tuple(_job(trial, blocks[:1]) for trial in ranked))

    def wall(self, record: Record, setting: Setting) -> float:
        """Wall seconds that they are expected to take, each begun when a device is free."""
        free = [0.0] * setting.devices
        for job in self.jobs:
            again = setting.restarts.get(job.engine, 1.0)
            heapq.heapreplace(free, free[0] + cost(record, job, setting.scenario, again))
        return max(free)


def verdict(record: Record, rivals: int = 0) -> Verdict:
    """The candidate that beats the default significantly and by most; otherwise the default.

    `rivals` is how many trials read faster than the default before the final ones.
    """
    finals = record.ended("final")
    if not finals:
        return Verdict(None, "nothing was measured on the held-out seed")
    default, candidates = _sorted_out(record, finals)
    if not readings(each for trial in default for each in trial.measurements):
        return _unopposed(default, candidates)
    gaps = {
        name: apart
        for name, trials in candidates.items()
        if (apart := _gap(trials, default)) is not None and _all_valid(trials)
    }
    base = _default_verdict(default, len(gaps), len(candidates), rivals)
    if not gaps:
        return base
    winner = max(gaps, key=lambda name: gaps[name].log)
    apart = gaps[winner]
    chances = _chances(list(gaps.values()))
    low = apart.log - NormalDist().inv_cdf(1 - SIGNIFICANCE / len(gaps)) * apart.error
    chosen = candidates[winner][0]
    if low > 0:
        why = f"{apart.ratio:.2f}x the default on the same held-out requests"
        place = list(gaps).index(winner) + 1
        return Verdict(chosen.number, why, apart.ratio, apart.interval(), float(chances[place]))
    why = (
        f"the default: the best candidate reads {apart.ratio:.2f}x of it on held-out requests "
        f"(95 % {apart.interval()[0]:.2f}-{apart.interval()[1]:.2f}), not clearly faster"
    )
    return Verdict(base.trial, why, 1.0, None, float(chances[0]))


Name = tuple[str, str]


def _sorted_out(record: Record, finals: Sequence[Trial]) -> tuple[list[Trial], dict[Name, list[Trial]]]:
    """The default's final trials, and each candidate's, in the order of their first ask."""
    defaults = {_name(trial) for trial in record.ended("default")}
    ordered = sorted(finals, key=_name)
    groups = {name: list(trials) for name, trials in groupby(ordered, key=_name)}
    default = next((groups[name] for name in groups if name in defaults), [])
    names = sorted((name for name in groups if name not in defaults), key=lambda name: groups[name][0].number)
    return default, {name: groups[name] for name in names}


def _name(trial: Trial) -> Name:
    return trial.engine, repr(sorted(trial.config.items()))


def _all_valid(trials: Sequence[Trial]) -> bool:
    return all(trial.state is State.COMPLETE for trial in trials)


def _gap(first: Sequence[Trial], second: Sequence[Trial]) -> Gap | None:
    mine = readings(each for trial in first for each in trial.measurements)
    other = readings(each for trial in second for each in trial.measurements)
    return gap(mine, other, (_starts(first, other), _starts(second, mine)))


def _starts(trials: Sequence[Trial], others: Sequence[Reading]) -> int:
    """How many of them, each a start, have a reading on requests that the others have one on."""
    shared = {reading.request_set for reading in others}
    told = (readings(trial.measurements) for trial in trials)
    return sum(any(reading.request_set in shared for reading in own) for own in told)


def _default_verdict(default: Sequence[Trial], valid: int, candidates: int, rivals: int) -> Verdict:
    measured = next((trial for trial in default if trial.state is State.COMPLETE), default[0])
    if not candidates and rivals:
        why = "the default: no time was left to measure a trial that read faster on held-out requests"
    elif not candidates:
        why = "the default: no trial read faster than it"
    elif not valid:
        why = "the default: no candidate passed every gate on held-out requests"
    else:
        why = "the default"
    return Verdict(measured.number, why, 1.0)


def _unopposed(default: Sequence[Trial], candidates: dict[Name, list[Trial]]) -> Verdict:
    """Nothing to compare with: the first candidate that is valid, else the first."""
    first = [trials[0] for trials in (*candidates.values(), default) if trials]
    chosen = next((trial for trial in first if trial.state is State.COMPLETE), first[0])
    return Verdict(chosen.number, "the best trial on the dev seed, not compared with the default")


def _chances(gaps: Sequence[Gap]) -> np.ndarray:
    """Chance of each to be the best, the default first (its log ratio to itself is 0)."""
    means = np.array([0.0, *(each.log for each in gaps)])
    errors = np.array([0.0, *(each.error for each in gaps)])
    draws = np.random.default_rng(0).normal(means, errors, size=(DRAWS, len(means)))
    return np.bincount(draws.argmax(axis=1), minlength=len(means)) / DRAWS


def _job(trial: Trial, plans: tuple[Plan, ...]) -> Job:
    config: Config = trial.config
    return Job(trial.engine, config, "final", plans)
