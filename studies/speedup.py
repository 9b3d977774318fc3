"""Speedups of one run's servers, with intervals: over the torch baseline and over the engine's default.

A part is one of `default`, `found` and `submitted` of a run's result.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from search.strategies.compare import Reading, gap, reading
from studies.estimates import Interval, ratio_interval
from studies.outcome import pool, reference
from studies.record import Event, Run

Part = Mapping[str, Any]


@dataclass(frozen=True)
class Speedup:
    """A ratio of scores, and its 95 % interval where both scores have one over the same requests."""

    value: float
    interval: Interval | None = None

    def __str__(self) -> str:
        low_high = f" ({self.interval[0]:.2f} to {self.interval[1]:.2f})" if self.interval else ""
        return f"{self.value:.2f}x{low_high}"


def over_default(run: Run, part: Part) -> Speedup | None:
    """On the same requests: a submitted server's own ratio says it, the others are of the dev seed."""
    if part.get("ratio"):
        told = part.get("ratio_interval")
        return Speedup(part["ratio"], (told[0], told[1]) if told else None)
    default = run.result.get("default")
    if part is run.result.get("submitted") or not default:
        return None
    return (
        Speedup(1.0) if part is default else _side_by_side(run, part, default) or _ratio(run, part, default)
    )


def over_torch(run: Run, part: Part) -> Speedup | None:
    """Over the run's torch baseline; None without one. The submitted server's is the held-out one."""
    base = run.result.get("baseline")
    against = reference(run, "torch", pool([run]))
    if against is None or not base or not part.get("score"):
        return None
    if part is base:
        return Speedup(1.0)
    held_out = part is run.result.get("submitted") or "ratio" in part
    scale = 1 / against.score if held_out else against.scale
    if scale is None:
        return None
    whole = held_out or run.measured_whole(part)
    return Speedup(part["score"] * scale, _between(run, part, base) if whole else None)


def held_out_default(run: Run) -> Part | None:
    """The engine default on the held-out requests, beside which a search's submitted server was measured."""
    submitted = run.result.get("submitted") or {}
    if not submitted.get("ratio") or not submitted.get("score"):
        return None
    return {"score": submitted["score"] / submitted["ratio"], "ratio": 1.0}


def _side_by_side(run: Run, part: Part, default: Part) -> Speedup | None:
    """On the requests of the part's score, with what differs from start to start, as the search compares."""
    trials = {trial["trial"]: trial for trial in run.trials}
    if not {part.get("trial"), default.get("trial")} <= trials.keys():
        return None
    if part["trial"] == default["trial"]:
        return Speedup(1.0)
    mine, other = (_readings(run, trials[each["trial"]]) for each in (part, default))
    between = gap(mine[-1:], other)
    return Speedup(between.ratio, between.interval()) if between else None


def _readings(run: Run, trial: Event) -> list[Reading]:
    """What a trial read in the search's own scenario."""
    known = [run.measurements[name] for name in trial.get("measurements", ()) if name in run.measurements]
    return [
        reading(str(each["request_set"]), float(each["score"]), tuple(each["interval"] or ()) or None)
        for each in known
        if each.get("score") and each["scenario"] == run.scenario
    ]


def _ratio(run: Run, part: Part, base: Part) -> Speedup | None:
    if not part.get("score") or not base.get("score"):
        return None
    return Speedup(part["score"] / base["score"], _between(run, part, base))


def _between(run: Run, part: Part, base: Part) -> Interval | None:
    return ratio_interval(part["score"], _interval(run, part), base["score"], _interval(run, base))


def _interval(run: Run, part: Part) -> Interval | None:
    """The part's own interval, or its measurement's."""
    if part.get("interval"):
        return float(part["interval"][0]), float(part["interval"][1])
    measurement = run.measurement_of(part)
    interval = measurement.get("interval") if measurement else None
    return (float(interval[0]), float(interval[1])) if interval else None
