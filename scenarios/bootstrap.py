"""The 95 % interval of a score, seeded: requests are drawn again within their traffic.

A server of one request at a time (the torch baseline) gets too few of them for that, and how long each waited
is its place in the queue. What varies there is the server's pace: pieces of its answers are drawn again, and
all that waits for them goes with their mean. Pieces that follow one another are alike, so such an interval is
too narrow rather than too wide.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace

import numpy as np
import numpy.typing as npt

from scenarios.scenario import Score

Floats = npt.NDArray[np.float64]

DRAWS = 1000
LEVEL = 0.95


@dataclass(frozen=True)
class Sample:
    """One traffic's requests.

    Attributes:
        ttft, tpot: seconds, infinite where failed (tpot without NaN: requests for one token are left out).
        service: seconds from send to end; NaN where it never ended.
        good: 1.0 where the request counts for throughput.
        rate: good requests a second.
        bound: share of the time in which all slots were taken: there the rate follows the service time, while
            outside of it the schedule sets the rate.
        pieces: seconds a token over pieces of the answers, of a server of one request at a time; else empty.
        queued: whether a request of such a server waits for others.
    """

    ttft: Floats
    tpot: Floats
    service: Floats
    good: Floats
    rate: float
    bound: float
    pieces: Floats = field(default_factory=lambda: np.empty(0))
    queued: bool = False


def score(kind: Score, samples: Mapping[str, Sample]) -> float:
    """The scenario's score, higher is better; 0 where the latency it rests on is infinite."""
    ttft = median(np.concatenate([sample.ttft for sample in samples.values()]))
    tpot = median(np.concatenate([sample.tpot for sample in samples.values()]))
    rate = float(np.prod([sample.rate for sample in samples.values()]) ** (1 / len(samples)))
    return combine(kind, ttft, tpot, rate)


def combine(kind: Score, ttft: float, tpot: float, rate: float) -> float:
    """The score from its three figures (seconds, seconds, requests a second)."""
    if kind is Score.TTFT:
        return _inverse(ttft)
    if kind is Score.TPOT:
        return _inverse(tpot)
    if kind is Score.THROUGHPUT:
        return rate
    return float((_inverse(ttft) * _inverse(tpot) * rate) ** (1 / 3))


def interval(kind: Score, samples: Mapping[str, Sample], seed: int) -> tuple[float, float]:
    """95 % percentile bootstrap interval of the score."""
    generator = np.random.default_rng(seed)
    values = [
        score(kind, {name: _drawn(one, generator) for name, one in samples.items()}) for _ in range(DRAWS)
    ]
    low, high = np.quantile(values, [(1 - LEVEL) / 2, (1 + LEVEL) / 2])
    return float(low), float(high)


def median(values: Floats) -> float:
    """The median of values that may be infinite; NaN without any."""
    return quantile(values, 0.5)


def quantile(values: Floats, share: float) -> float:
    """A quantile by linear interpolation; infinite as soon as it leans on an infinite value."""
    if not len(values):
        return float("nan")
    ordered = np.sort(values)
    place = share * (len(ordered) - 1)
    low, part = int(place), place - int(place)
    if part == 0:
        return float(ordered[low])
    if np.isinf(ordered[low + 1]):
        return float("inf")
    return float(ordered[low] * (1 - part) + ordered[low + 1] * part)


def _inverse(seconds: float) -> float:
    return 1.0 / seconds if seconds > 0 and np.isfinite(seconds) else 0.0


def _drawn(sample: Sample, generator: np.random.Generator) -> Sample:
    if len(sample.pieces):
        return _paced(sample, generator)
    pick = generator.integers(0, len(sample.good), len(sample.good))
    tpot = (
        sample.tpot[generator.integers(0, len(sample.tpot), len(sample.tpot))]
        if len(sample.tpot)
        else sample.tpot
    )
    return Sample(
        sample.ttft[pick],
        tpot,
        sample.service[pick],
        sample.good[pick],
        sample.rate * _ratio(sample, pick),
        sample.bound,
    )


def _paced(sample: Sample, generator: np.random.Generator) -> Sample:
    """The same requests at the mean pace of pieces drawn again, as are first tokens that wait for nobody."""
    slower = float(generator.choice(sample.pieces, len(sample.pieces)).mean() / sample.pieces.mean())
    ttft = sample.ttft * slower if sample.queued else generator.choice(sample.ttft, len(sample.ttft))
    return replace(sample, ttft=ttft, tpot=sample.tpot * slower, rate=sample.rate / slower)


def _ratio(sample: Sample, pick: npt.NDArray[np.int64]) -> float:
    """By how much the rate of the drawn requests differs: by Little's law while the slots are full."""
    whole = float(np.sum(sample.good))
    if whole == 0:
        return 0.0
    counted = float(np.sum(sample.good[pick])) / whole
    before, after = _mean(sample.service), _mean(sample.service[pick])
    if not (before > 0 and after > 0):
        return counted
    return float(counted * (before / after) ** sample.bound)


def _mean(values: Floats) -> float:
    known = values[np.isfinite(values)]
    return float(known.mean()) if len(known) else float("nan")
