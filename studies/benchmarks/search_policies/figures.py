"""What a race says: medians and bands, who ends below the default, and who is there first."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import median

import numpy as np
import numpy.typing as npt

from studies.benchmarks.search_policies.bench import NOISE_FLOOR
from studies.benchmarks.search_policies.play import Run

BAND = (10.0, 90.0)
"""Percentiles between which four of five runs lie."""

OWN, RIVAL = "ceiling", "published"

Floats = npt.NDArray[np.float64]


@dataclass(frozen=True)
class Line:
    """One policy on one landscape, over its runs; qualities are true ones, as ratios to the default's.

    Attributes:
        low, middle, high: percentiles of what was submitted; a run that submits nothing counts as 0.
        worst: the worst submission.
        below: share of runs that end below the default by more than the noise floor.
        part: median submission with the smaller budget, where it was raced; `part_below` as `below`.
        trials: median number of them.
    """

    policy: str
    runs: int
    low: float
    middle: float
    high: float
    worst: float
    below: float
    trials: float
    spent: float
    part: float | None
    part_below: float | None


@dataclass(frozen=True)
class Chase:
    """When a `ceiling` policy was as good as the best `published` one in the end.

    Attributes:
        goal: that one's median submission; `rival` its name.
        share: median over runs of GPU-seconds until the best so far is that good, as a share of the rival's;
            infinite where half of the runs never are.
        within: share of runs that are there within a third.
    """

    policy: str
    rival: str
    goal: float
    share: float
    within: float


def lines(runs: Sequence[Run]) -> list[Line]:
    """One a policy, in order of appearance. `runs` are of one landscape."""
    whole = max(run.budget for run in runs)
    names = list(dict.fromkeys(str(run.policy) for run in runs))
    return [_line(name, [run for run in runs if str(run.policy) == name], whole) for name in names]


def chases(runs: Sequence[Run]) -> list[Chase]:
    """Each `ceiling` policy against the best `published` one; empty where either is missing."""
    whole = max(run.budget for run in runs)
    full = [run for run in runs if run.budget == whole]
    rivals = [line for line in lines(full) if line.policy.startswith(RIVAL)]
    if not rivals:
        return []
    best = max(rivals, key=lambda line: line.middle)
    names = dict.fromkeys(str(run.policy) for run in full if run.policy.strategy == OWN)
    return [_chase(name, [run for run in full if str(run.policy) == name], best) for name in names]


def band(runs: Sequence[Run], times: Floats) -> Floats:
    """Low, median and high of the best so far at some times, shape (3, times)."""
    known = np.array([[quality_at(run, float(at)) for at in times] for run in runs])
    return np.asarray(np.percentile(known, [BAND[0], 50.0, BAND[1]], axis=0))


def quality_at(run: Run, at: float) -> float:
    """True quality of what a run would name best at a time; at its end, of what it submits. 0 before."""
    if at >= run.spent:
        return run.submitted or 0.0
    return next((quality for reached, quality in reversed(run.curve) if reached <= at), 0.0)


def reached(run: Run, goal: float) -> float:
    """GPU-seconds until the best so far is as good as `goal`; infinite where it never is."""
    return next((at for at, quality in run.curve if quality >= goal - 1e-9), math.inf)


def _line(name: str, runs: Sequence[Run], whole: float) -> Line:
    full = [run for run in runs if run.budget == whole]
    less = [run for run in runs if run.budget < whole]
    ends = [run.submitted or 0.0 for run in full]
    low, middle, high = np.percentile(ends, [BAND[0], 50.0, BAND[1]])
    return Line(
        policy=name,
        runs=len(full),
        low=float(low),
        middle=float(middle),
        high=float(high),
        worst=min(ends),
        below=_below(full),
        trials=median(sum(run.outcomes.values()) for run in full),
        spent=median(run.spent for run in full),
        part=median(run.submitted or 0.0 for run in less) if less else None,
        part_below=_below(less) if less else None,
    )


def _below(runs: Sequence[Run]) -> float:
    return sum((run.submitted or 0.0) < 1.0 - NOISE_FLOOR for run in runs) / len(runs)


def _chase(name: str, runs: Sequence[Run], best: Line) -> Chase:
    shares = [reached(run, best.middle) / best.spent for run in runs]
    within = sum(share <= 1 / 3 for share in shares) / len(shares)
    return Chase(name, best.policy, best.middle, median(shares), within)
