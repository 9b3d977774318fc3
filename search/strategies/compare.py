"""Two servers on the same requests: how far apart they are, and how sure that is."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from scenarios.measurement import Measurement

START_NOISE = 0.02
"""Standard deviation of log score between two starts of one server (relative; vLLM on a CPU shows 1-3 %)."""

UNKNOWN_NOISE = 0.1
"""Standard error of log score taken where a measurement carries no interval."""

NORMAL_95 = 1.959964


@dataclass(frozen=True)
class Reading:
    """A valid score as compared: `log` is its natural logarithm, `error` the standard error of that."""

    request_set: str
    log: float
    error: float


@dataclass(frozen=True)
class Gap:
    """Log of the ratio of two scores over shared requests, and its standard error. `blocks` were shared."""

    log: float
    error: float
    blocks: int

    @property
    def ratio(self) -> float:
        """The ratio itself."""
        return math.exp(self.log)

    def interval(self, z: float = NORMAL_95) -> tuple[float, float]:
        """Interval of the ratio, 95 % by default."""
        return math.exp(self.log - z * self.error), math.exp(self.log + z * self.error)


def readings(measurements: Iterable[Measurement]) -> tuple[Reading, ...]:
    """The valid ones among some measurements."""
    return tuple(
        reading(each.request_set, each.score, each.interval)
        for each in measurements
        if each.score is not None and each.score > 0
    )


def reading(request_set: str, score: float, interval: tuple[float, float] | None) -> Reading:
    """A valid score, above 0, with its 95 % interval."""
    return Reading(request_set, math.log(score), _error(interval))


def gap(first: Sequence[Reading], second: Sequence[Reading], starts: tuple[int, int] = (1, 1)) -> Gap | None:
    """How far `first` is above `second` on the requests that both served; None where there are none.

    Blocks are weighted by their precision. Requests being the same, the intervals that resample requests
    overstate the error of a block's ratio; `starts` of each server add what differs from start to start.
    """
    others = {reading.request_set: reading for reading in second}
    pairs = [(each, others[each.request_set]) for each in first if each.request_set in others]
    if not pairs:
        return None
    weights = [1.0 / max(a.error**2 + b.error**2, 1e-12) for a, b in pairs]
    log = sum(w * (a.log - b.log) for w, (a, b) in zip(weights, pairs, strict=True)) / sum(weights)
    variance = 1.0 / sum(weights) + START_NOISE**2 * (1.0 / starts[0] + 1.0 / starts[1])
    return Gap(log, math.sqrt(variance), len(pairs))


def _error(interval: tuple[float, float] | None) -> float:
    if interval is None or interval[0] <= 0:
        return UNKNOWN_NOISE
    return (math.log(interval[1]) - math.log(interval[0])) / (2 * NORMAL_95)
