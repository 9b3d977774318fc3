"""When requests are to be sent: schedules drawn once, beforehand, and the figures that check them."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from scenarios.scenario import ScenarioError, Traffic

WINDOW = 4.0
"""Arrivals a window, on average, that `dispersion` counts over."""


def generator(*key: int | str) -> np.random.Generator:
    """A generator that the key alone decides, the same on every machine."""
    text = "\0".join(str(part) for part in key)
    return np.random.Generator(np.random.PCG64(int.from_bytes(hashlib.sha256(text.encode()).digest()[:16])))


def offsets(traffic: Traffic, count: int, *, seed: int, scenario: str, block: int) -> list[float | None]:
    """Intended send times of `count` requests, seconds from the start of the traffic, in order.

    None for closed loops, where the previous answer decides. A poisson schedule of fewer requests is the
    start of that of more. A ramp is a Poisson process whose rate grows from 0 to `rate` over the traffic.
    Raises ScenarioError: no rate, or a trace that is too short.
    """
    if traffic.kind == "closed":
        return [None] * count
    if traffic.kind == "burst":
        return [0.0] * count
    if traffic.kind == "replay":
        return list(_replayed(traffic, count))
    rate = _rate(traffic)
    if traffic.kind == "constant":
        return [index / rate for index in range(count)]
    unit = np.cumsum(generator("arrivals", seed, scenario, traffic.name, block).exponential(size=count))
    if traffic.kind == "poisson":
        return [float(at) for at in unit / rate]
    duration = 2 * traffic.requests / rate
    return [float(at) for at in np.sqrt(2 * duration * unit / rate)]


def rate(times: Sequence[float]) -> float:
    """Arrivals a second between the first and the last; infinite when all come at once."""
    span = max(times) - min(times)
    return (len(times) - 1) / span if span > 0 else float("inf")


def dispersion(times: Sequence[float]) -> float:
    """Index of dispersion: variance over mean of the counts in equal windows, about four arrivals in each.

    1 for a Poisson process, 0 for a constant rate, the number of senders when all fire together. NaN below
    eight arrivals or when all come at once.
    """
    ordered = np.sort(np.asarray(times, dtype=float))
    if len(ordered) < 2 * WINDOW or ordered[-1] <= ordered[0]:
        return float("nan")
    counts = _counts(ordered)
    return float(np.var(counts, ddof=1) / np.mean(counts))


def _counts(ordered: npt.NDArray[np.float64]) -> npt.NDArray[np.int64]:
    windows = int(len(ordered) / WINDOW)
    # One mean gap more than the span, so that a constant rate fills its last window as it does the others.
    span = (ordered[-1] - ordered[0]) * len(ordered) / (len(ordered) - 1)
    half = span / len(ordered) / 2
    return np.histogram(ordered, bins=windows, range=(ordered[0] - half, ordered[0] - half + span))[0]


def _rate(traffic: Traffic) -> float:
    if not traffic.rate or traffic.rate <= 0:
        raise ScenarioError(
            f"traffic {traffic.name} is {traffic.kind} without a rate: give it one, in requests/s"
        )
    return traffic.rate


def _replayed(traffic: Traffic, count: int) -> Sequence[float]:
    if len(traffic.trace) < count:
        raise ScenarioError(
            f"traffic {traffic.name} has {len(traffic.trace)} offsets for {count} requests: use a longer one"
        )
    return sorted(traffic.trace)[:count]
