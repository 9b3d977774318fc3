"""The early drop: a config leaves the ladder once it is clearly behind its rival on the same requests.

Between two blocks a paired test decides; within a block, the clock does: one that takes `PATIENCE` times as
long as the rival's slowest is cut off.
"""

from __future__ import annotations

from dataclasses import dataclass
from statistics import NormalDist

from scenarios.measurement import Measurement
from scenarios.scenario import Plan
from scenarios.trial import Drop, Trial
from search.strategies.compare import Reading, gap, readings

ERROR_RATE = 0.05
"""Chance, at most, that a config as good as its rival is dropped, over all looks (Bonferroni)."""

PATIENCE = 3.0
"""Times the rival's seconds for a block: the requests being the same, the score is then far below its."""

GRACE = 3.0
"""Seconds that a block may take beyond that, so that short ones are not cut by a hiccup."""


def patience(rival: Trial | None) -> float | None:
    """Seconds that a measurement may take beside this rival's; None without one that was measured."""
    slowest = max((each.seconds for each in rival.measurements), default=None) if rival else None
    return None if slowest is None else PATIENCE * slowest + GRACE


@dataclass(frozen=True)
class Race:
    """A `Decide`: climbs the plans, and drops out when behind. Picklable.

    `rival` holds the readings of the trial to beat; empty means that nothing is dropped.
    """

    plans: tuple[Plan, ...]
    rival: tuple[Reading, ...] = ()
    number: int | None = None

    def __call__(self, measurements: tuple[Measurement, ...]) -> Plan | Drop | None:
        """The next rung, a drop, or None at the top."""
        if len(measurements) == len(self.plans):
            return None
        behind = gap(readings(measurements), self.rival)
        looks = len(self.plans) - 1
        if (
            behind is not None
            and behind.log + NormalDist().inv_cdf(1 - ERROR_RATE / looks) * behind.error < 0
        ):
            return Drop(
                f"{behind.ratio:.2f}x of trial {self.number} on the same requests, "
                f"at most {behind.interval()[1]:.2f}x (95 %)"
            )
        return self.plans[len(measurements)]
