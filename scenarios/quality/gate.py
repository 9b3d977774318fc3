"""The gate: answers paired by item with the baseline's, by an exact one-sided McNemar test.

A task may ask for a least share of the baseline's accuracy besides (`tau`), as published benchmarks do. That
is no test: with few items honest rounding misses it often, so the chance of that is told with it.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

LEVEL = 0.01
"""Chance that a server as good as the baseline is voided, at most."""
POWER = 0.8
SWAPS = 0.03
"""Share of items that lossy but honest arithmetic turns wrong by chance, and as many right."""


@dataclass(frozen=True)
class Paired:
    """Items by what came of them: right for both, lost (only the baseline's right), won, wrong for both."""

    both: int
    lost: int
    won: int
    neither: int

    @classmethod
    def of(cls, baseline: Sequence[bool], server: Sequence[bool]) -> Paired:
        """From the verdicts on the same items in the same order."""
        pairs = list(zip(baseline, server, strict=True))
        return cls(
            *(pairs.count(pair) for pair in ((True, True), (True, False), (False, True), (False, False)))
        )

    @property
    def items(self) -> int:
        """How many there are."""
        return self.both + self.lost + self.won + self.neither

    @property
    def baseline(self) -> float:
        """The baseline's share of right answers."""
        return (self.both + self.lost) / self.items

    @property
    def server(self) -> float:
        """The server's share of right answers."""
        return (self.both + self.won) / self.items

    @property
    def chance(self) -> float:
        """Probability of at least so many lost items if losing and winning were as likely."""
        return at_least(self.lost, self.lost + self.won)

    @property
    def worse(self) -> bool:
        """Whether the server is worse than the baseline."""
        return self.chance < LEVEL

    def below(self, tau: float) -> bool:
        """Whether the server's share of right answers is under `tau` of the baseline's."""
        return self.lost - self.won > self._slack(tau)

    def _slack(self, tau: float) -> float:
        """Items by which the server may fall behind."""
        return (1 - tau) * (self.both + self.lost) + 1e-9

    def to_json(self, tau: float | None = None) -> dict[str, Any]:
        """As a measurement tells it; `false_alarm` is the chance to be void of an honest server."""
        slack = None if tau is None else self._slack(tau)
        return {
            "items": self.items,
            "baseline": round(self.baseline, 4),
            "server": round(self.server, 4),
            "lost": self.lost,
            "won": self.won,
            "p": round(self.chance, 6),
            "required": None if tau is None else round(tau * self.baseline, 4),
            "caught_from": caught_from(self.items, self.baseline, slack),
            "false_alarm": round(power(self.items, 0.0, slack), 4),
        }


def at_least(lost: int, apart: int) -> float:
    """Chance of `lost` or more of `apart` items that went apart, at even odds."""
    return float(sum(math.comb(apart, count) for count in range(lost, apart + 1)) / (1 << apart))


def caught_from(items: int, baseline: float, slack: float | None = None) -> float | None:
    """The least drop in the share of right answers that would be caught in 4 of 5 cases; None: none would."""
    for percent in range(1, round(100 * baseline) + 1):
        if power(items, percent / 100, slack) >= POWER:
            return percent / 100
    return None


def power(items: int, drop: float, slack: float | None = None) -> float:
    """Chance that a server that loses so large a share of the items is voided.

    The items that go apart are taken as binomial: lost by the drop and by chance, won by chance alone.
    `slack` is how many more may be lost than won; None: what the test alone allows.
    """
    from scipy.stats import binom  # a second, which every trial's process would pay

    apart = drop + 2 * SWAPS
    share = (drop + SWAPS) / apart
    counts = np.arange(1, items + 1)
    most = binom.isf(LEVEL, counts, 0.5)  # the most lost items of so many apart that still pass
    if slack is not None:
        most = np.minimum(most, np.floor((counts + slack) / 2))
    return float(np.sum(binom.pmf(counts, items, apart) * binom.sf(most, counts, share)))
