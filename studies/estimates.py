"""The statistics of a comparison: estimates over seed pairs, ratios with intervals, geometric means."""

from __future__ import annotations

import math
import statistics
from collections.abc import Sequence
from dataclasses import dataclass

from scenarios.repeats import student

Interval = tuple[float, float]

Z95 = statistics.NormalDist().inv_cdf(0.975)


@dataclass(frozen=True)
class Estimate:
    """A mean over seed pairs.

    Attributes:
        mean: their mean.
        sem: standard error of it (sample SD with n-1, over sqrt n); None for one pair, of which nobody knows.
        n: how many pairs.
    """

    mean: float
    sem: float | None
    n: int


def estimate(values: Sequence[float]) -> Estimate | None:
    """The estimate of one value a seed pair; None for no values."""
    if not values:
        return None
    sem = statistics.stdev(values) / math.sqrt(len(values)) if len(values) > 1 else None
    return Estimate(statistics.fmean(values), sem, len(values))


def geometric(parts: Sequence[Estimate]) -> Estimate | None:
    """Geometric mean of estimates; its standard error by the delta method where every part has one.

    n is the smallest number of seed pairs among the parts.
    """
    if not parts or any(part.mean <= 0 for part in parts):
        return None
    mean = math.exp(statistics.fmean(math.log(part.mean) for part in parts))
    errors = [part.sem / part.mean for part in parts if part.sem is not None]
    sem = None
    if len(errors) == len(parts):
        sem = mean * math.sqrt(sum(error**2 for error in errors)) / len(parts)
    return Estimate(mean, sem, min(part.n for part in parts))


def ratio_interval(
    value: float, interval: Interval | None, base: float, base_interval: Interval | None
) -> Interval | None:
    """95 % interval of `value / base` from the two's own 95 % intervals, taken as independent and log-normal.

    None where either interval is missing or touches zero.
    """
    if interval is None or base_interval is None or min(*interval, *base_interval, value, base) <= 0:
        return None
    spread = math.hypot(log_error(interval), log_error(base_interval)) * Z95
    ratio = value / base
    return ratio * math.exp(-spread), ratio * math.exp(spread)


def quantile(errors: Sequence[tuple[float, float]]) -> float:
    """Standard errors that a 95 % interval of a sum spans, from its parts' (error, degrees of freedom).

    Student's t, with the degrees that Welch and Satterthwaite give: two pairs know little of their spread.
    """
    variance = sum(error**2 for error, _ in errors)
    known = sum(error**4 / freedom for error, freedom in errors)
    return Z95 if known == 0 else student(max(1, math.floor(variance**2 / known)))


def log_error(interval: Interval) -> float:
    """Standard error of the logarithm, from a 95 % interval."""
    low, high = interval
    return (math.log(high) - math.log(low)) / (2 * Z95)
