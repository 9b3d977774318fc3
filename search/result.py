"""What came of a search, as a pure function of its events."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

from scenarios import profiles
from scenarios.ledger import gpu_seconds, header
from scenarios.measurement import Measurement
from scenarios.trial import State, Trial
from search.record import Record
from search.strategies import strategy
from search.strategies.exploring import EXPLORED
from search.strategies.strategy import Setting, Strategy

Events = Sequence[Mapping[str, Any]]

SPLIT = ("start", "measure", "stop")
"""What trials' charged seconds went to."""


def result(events: Events) -> dict[str, Any]:
    """The `result` event's fields; `curve` is a list of [GPU-seconds, best score so far]."""
    record = Record.of(events)
    plan = _strategy(events)
    spent = gpu_seconds(list(map(dict, events)))
    return {
        "baseline": _baseline(events),
        "default": _default(record),
        "found": _found(plan.best(record)),
        "submitted": _submitted(record, plan),
        "nothing_submitted": _nothing(record, plan),
        "gpu_seconds": round(spent, 3),
        "split": _split(events, record, spent),
        "check_seconds": round(sum(t.seconds.get("check", 0.0) for t in record.trials.values()), 3),
        "trials": len(record.trials),
        "outcomes": dict(Counter(trial.state.value for trial in record.trials.values())),
        "curve": _curve(events, record, plan),
    }


def _strategy(events: Events) -> Strategy:
    spec = header(list(map(dict, events)))["spec"]
    setting = Setting(
        defaults={name: {} for name in spec["engines"]},
        scenario=profiles.scenario(spec["profile"], spec["scenario"]),
        profile=spec["profile"],
        text=spec["text"] or "",
        dev_seed=spec["seed"],
        eval_seed=spec["eval_seed"],
        also=tuple(spec.get("also", ())),
    )
    return strategy(spec["strategy"], setting)


def _baseline(events: Events) -> dict[str, Any] | None:
    for event in events:
        if event["event"] == "measurement" and event.get("origin") == "baseline":
            return {"score": event["score"], "measurement": event["id"]}
    return None


def _default(record: Record) -> dict[str, Any] | None:
    best = max(record.complete("default"), key=lambda trial: trial.score or 0.0, default=None)
    if best is None:
        return None
    return {"engine": best.engine, "trial": best.number, "score": best.score}


def _found(best: Trial | None) -> dict[str, Any] | None:
    if best is None:
        return None
    return {**_about(best), "score": best.score, "measurement": best.measurements[-1].id}


def _submitted(record: Record, plan: Strategy) -> dict[str, Any] | None:
    verdict = plan.verdict(record)
    if verdict.trial is None:
        return None
    trial = record.trials[verdict.trial]
    first: Measurement | None = trial.measurements[0] if trial.measurements else None
    valid = trial.state is State.COMPLETE
    reason = verdict.reason if valid else f"{trial.state.value}: {trial.detail}"
    return {
        **_about(trial),
        "score": first.score if first and valid else None,
        "interval": list(first.interval) if first and first.interval and valid else None,
        "valid": valid,
        "reason": reason,
        "measurement": first.id if first else None,
        **verdict.to_json(),
    }


def _nothing(record: Record, plan: Strategy) -> str | None:
    """Why nothing is submitted, where nothing is."""
    verdict = plan.verdict(record)
    return verdict.reason if verdict.trial is None else None


def _about(trial: Trial) -> dict[str, Any]:
    return {
        "trial": trial.number,
        "engine": trial.engine,
        "config": dict(trial.config),
        "command": trial.command,
    }


def _split(events: Events, record: Record, spent: float) -> dict[str, float]:
    """GPU-seconds by what they went to; `lost` are attempts without a word, or void by the client."""
    trials = record.trials.values()
    parts = {part: sum(trial.devices * trial.seconds.get(part, 0.0) for trial in trials) for part in SPLIT}
    lost = sum(event["gpu_seconds"] for event in events if event["event"] == "lost")
    if lost:
        parts["lost"] = lost
    idle = max(0.0, spent - sum(parts.values()))
    return {part: round(seconds, 3) for part, seconds in {**parts, "idle": idle}.items()}


def _curve(events: Events, record: Record, plan: Strategy) -> list[list[float]]:
    """Of what the strategy weighs: the published one measures the default for the record only."""
    curve: list[list[float]] = []
    for event in events:
        if event["event"] != "trial" or event["state"] != State.COMPLETE.value or event["score"] is None:
            continue
        weighed = (
            event["origin"] in EXPLORED and plan.value(record, record.trials[event["trial"]]) is not None
        )
        if weighed and (not curve or event["score"] > curve[-1][1]):
            curve.append([event.get("spent", 0.0), event["score"]])
    return curve
