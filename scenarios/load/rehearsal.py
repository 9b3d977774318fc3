"""The rehearsal: the loads of a measurement on other text, each over and over until the server is steady.

A server compiles kernels when a number of requests or of tokens first occurs, long after it said that it
was ready. What it compiles while it is measured reads as slowness: on an H100, vLLM 0.24.0 with block-scaled
8-bit weights took 71 s for a burst that takes 7 s (studies/results/h100-4x/C-B-survey/3, trial 19); with the
burst rehearsed it still took 19 s for constant arrivals that take 3 s (4, trial 37), for a step that reads
one prompt beside 20 answers is of another size.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from itertools import chain
from pathlib import Path

import numpy as np

from scenarios.load.spill import NEVER, Outcome, Record, SpillReader
from scenarios.silence import silence

CALM = 0.5
"""Seconds. A pass in which somebody was always heard within so long compiled nothing that matters."""
STEADY = 0.8
"""A pass that takes more than this share of the one before gains nothing by another."""
FEWEST = 3
"""Passes that it takes to tell a server that is slow from one that compiles as long each time."""


class Rehearsal:
    """Whether another pass of a load is due, by what the senders have spilled."""

    def __init__(self, spills: Sequence[Path]) -> None:
        self._readers = [SpillReader(spill) for spill in spills]
        self._walls: dict[str, list[float]] = {}
        self._over: set[str] = set()

    def over(self, load: str) -> bool:
        """Whether this load has been rehearsed enough."""
        return load in self._over

    def ended(self, load: str, stage: int, wall: float) -> None:
        """A pass of this load, stage number `stage`, has ended after `wall` seconds."""
        records = [record for record in chain.from_iterable(self._readers) if record.stage == stage]
        walls = self._walls.setdefault(load, [])
        settled = len(walls) + 1 >= FEWEST and wall > STEADY * walls[-1]
        hung = any(record.outcome is Outcome.TIMEOUT for record in records)
        if settled or hung or quiet(records) < CALM:
            self._over.add(load)
        walls.append(wall)


def quiet(records: Iterable[Record]) -> float:
    """The longest time in seconds in which one of these waited and no answer moved."""
    known = [record for record in records if record.sent != NEVER]
    sent, ended = (np.array([getattr(one, name) for one in known], float) for name in ("sent", "end"))
    heard = np.fromiter(chain.from_iterable(one.times for one in known), float)
    return silence(sent, heard, ended) / 1e9
