"""The rehearsal: a measurement's widest load on other text, over and over until the server is steady.

A server compiles kernels when a number of requests or of tokens first occurs, long after it said that it
was ready. What it compiles while it is measured reads as slowness: on an H100, vLLM 0.24.0 with block-scaled
8-bit weights took 71 s for a burst that takes 7 s (studies/results/h100-4x/C-B-survey/3, trial 19).
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from itertools import chain, pairwise
from pathlib import Path

from scenarios.load.spill import NEVER, Outcome, Record, SpillReader

CALM = 0.5
"""Seconds. A pass in which somebody was always heard within so long compiled nothing that matters."""
STEADY = 0.8
"""A pass that takes more than this share of the one before gains nothing by another."""
FEWEST = 3
"""Passes that it takes to tell a server that is slow from one that compiles as long each time."""


class Rehearsal:
    """Whether another pass is due, by what the senders have spilled."""

    def __init__(self, spills: Sequence[Path]) -> None:
        self._readers = [SpillReader(spill) for spill in spills]
        self._walls: list[float] = []
        self.over = False

    def ended(self, stage: int, wall: float) -> None:
        """A pass, stage number `stage`, has ended after `wall` seconds."""
        records = [record for record in chain.from_iterable(self._readers) if record.stage == stage]
        settled = len(self._walls) + 1 >= FEWEST and wall > STEADY * self._walls[-1]
        hung = any(record.outcome is Outcome.TIMEOUT for record in records)
        self.over = settled or hung or silence(records) < CALM
        self._walls.append(wall)


def silence(records: Iterable[Record]) -> float:
    """The longest time in seconds, from the first send to the last end, in which no answer moved."""
    known = [record for record in records if record.sent != NEVER]
    moments = sorted(chain.from_iterable((one.sent, *one.times, one.end) for one in known))
    return max((later - earlier for earlier, later in pairwise(moments)), default=0) / 1e9
