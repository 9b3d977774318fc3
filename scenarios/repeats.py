"""Repeats of a measurement: one server scored again and again, with prompts that it has not seen."""

from __future__ import annotations

import math
import statistics
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from scipy.special import stdtrit

from scenarios.measurement import Measurement
from scenarios.scenario import Fidelity

LEVEL = 0.95
FEWEST, MOST = 3, 20
"""Repeats from which on an interval may end them, and how many there are at most where nobody says."""

Measure = Callable[[int, Fidelity], Measurement]
"""Measures with a seed and a block of requests of its own."""


@dataclass(frozen=True)
class Repeats:
    """Repeats so far, all of them, in order.

    `within`: the half-width that the interval was to reach, as a share of the mean; None where their number
    was given.
    """

    measurements: tuple[Measurement, ...]
    within: float | None = None

    @property
    def reason(self) -> str | None:
        """Why there is no mean; None where there is one."""
        for number, measured in enumerate(self.measurements, start=1):
            if not measured.valid:
                first = measured.invalid_reasons[0]
                return f"repeat {number} is invalid: {first.code}: {first.detail}"
        return None

    @property
    def valid(self) -> bool:
        """Whether every repeat is."""
        return self.reason is None

    @cached_property
    def scores(self) -> tuple[float, ...]:
        """Scores of the valid ones."""
        return tuple(one.score for one in self.measurements if one.score is not None)

    @property
    def mean(self) -> float | None:
        """Mean score; None when one is invalid."""
        return statistics.fmean(self.scores) if self.valid else None

    @property
    def spread(self) -> float | None:
        """Standard deviation between repeats, as a share of the mean; None for one, or an invalid one."""
        if not self.valid or len(self.scores) < 2 or not self.mean:
            return None
        return statistics.stdev(self.scores) / self.mean

    @property
    def margin(self) -> float | None:
        """Half-width of the 95 % interval of the mean (Student's t), as a share of it."""
        if self.spread is None:
            return None
        count = len(self.scores)
        return student(count - 1) * self.spread / math.sqrt(count)

    @property
    def interval(self) -> tuple[float, float] | None:
        """95 % interval of the mean."""
        if self.mean is None or self.margin is None:
            return None
        return self.mean * (1 - self.margin), self.mean * (1 + self.margin)

    def to_json(self) -> dict[str, Any]:
        """The result block: mean, interval, spread and margin (shares of the mean), `reason` for a null."""
        return {
            "count": len(self.measurements),
            "mean": self.mean,
            "interval": self.interval,
            "spread": self.spread,
            "margin": self.margin,
            "within": self.within,
            "valid": self.valid,
            "reason": self.reason,
        }


def repeat(
    measure: Measure,
    *,
    seed: int,
    blocks: int,
    most: int = MOST,
    within: float | None = None,
    tell: Callable[[Repeats], None] | None = None,
) -> Repeats:
    """Measure until there are `most`, or until the interval is within the share `within` of the mean.

    Each repeat takes the next block of requests, and a further seed once `blocks` of one are used up, so that
    no prompt comes twice. An invalid repeat is kept and is the last: no further one could make a mean.
    `tell` hears how things stand after each.
    """
    so_far = Repeats((), within)
    while len(so_far.measurements) < most and so_far.valid and not _narrow(so_far):
        place = len(so_far.measurements)
        measured = measure(seed + place // blocks, Fidelity(block=place % blocks))
        so_far = Repeats((*so_far.measurements, measured), within)
        if tell is not None:
            tell(so_far)
    return so_far


def student(freedom: int) -> float:
    """How many standard errors a 95 % interval reaches to either side."""
    return float(stdtrit(freedom, (1 + LEVEL) / 2))


def _narrow(so_far: Repeats) -> bool:
    if so_far.within is None or len(so_far.measurements) < FEWEST:
        return False
    return so_far.margin is not None and so_far.margin <= so_far.within
