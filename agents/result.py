"""The result of an agent run, from its events: found and submitted, costs and outcomes, side by side."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from agents.spec import AgentResult
from scenarios.ledger import gpu_seconds

Event = Mapping[str, Any]

ATTEMPTS = frozenset(
    {
        "client-changed",
        "wrote-outside",
        "write-refused",
        "outlived-term",
        "left-running",
        "server-left",
        "teardown",
    }
)
"""Notes on what an agent tried, or left, that the sandbox dealt with."""


def result(run: Path, events: Sequence[Event]) -> AgentResult:
    """Fold the events of a run."""
    own = [event for event in _of(events, "trial") if event["origin"] == "agent"]
    spent = gpu_seconds([dict(event) for event in events])
    baseline = _baseline(events)
    return AgentResult(
        run=run,
        baseline=baseline,
        default=None,
        found=_found(own),
        submitted=_submitted(events, baseline),
        gpu_seconds=spent,
        split=_split(events, own, spent),
        trials=len(own),
        outcomes=dict(Counter(str(event["state"]) for event in own)),
        configs=len(_scripts(events)),
        notes=dict(Counter(e["what"] for e in _of(events, "note") if e["what"] in ATTEMPTS)),
    )


def _of(events: Sequence[Event], kind: str) -> list[Event]:
    return [event for event in events if event["event"] == kind]


def _baseline(events: Sequence[Event]) -> dict[str, Any] | None:
    for event in _of(events, "measurement"):
        if event.get("origin") == "baseline":
            return {"score": event["score"], "measurement": event["id"]}
    return None


def _found(trials: Iterable[Event]) -> dict[str, Any] | None:
    scored = [trial for trial in trials if trial["state"] == "complete" and trial["score"] is not None]
    best = max(scored, key=lambda trial: float(trial["score"]), default=None)
    if best is None:
        return None
    kept = ("trial", "engine", "config", "score", "command", "snapshot")
    return {**{key: best[key] for key in kept}, "measurement": best["measurements"][-1]}


def _submitted(events: Sequence[Event], baseline: Mapping[str, Any] | None) -> dict[str, Any] | None:
    finals = [trial for trial in _of(events, "trial") if trial["origin"] == "final"]
    if not finals:
        return None
    final = finals[-1]
    valid = final["state"] == "complete"
    reason = None if valid else _reason(final)
    reference = baseline["score"] if baseline else None
    if valid and reference and final["score"] < reference:
        reason = f"slower than the torch baseline ({final['score'] / reference:.2f}x)"
    speedup = 1.0 if reason else final["score"] / reference if reference else None
    return {
        **{key: final[key] for key in ("trial", "engine", "config", "command", "snapshot")},
        "score": final["score"] if valid else None,
        "valid": valid,
        "reason": reason,
        "speedup": speedup,
        "measurement": final["measurements"][-1] if final["measurements"] else None,
    }


def _reason(final: Event) -> str:
    """Why a final trial has no score, in one line."""
    known = final["crash"] if final["crash"] not in (None, "unknown") else final["state"]
    return f"{known}: {str(final['detail']).partition(' (log: ')[0]}"


def _split(events: Sequence[Event], trials: Iterable[Event], spent: float) -> dict[str, float]:
    """GPU-seconds by what they went to; what an agent does beside supervised calls is `idle`."""
    devices = next((event["devices"] for event in events if event["event"] == "meter"), 1)
    notes = _of(events, "note")
    start = devices * sum(note["seconds"] for note in notes if note["what"] == "serve-start")
    stop = devices * sum(note["seconds"] for note in notes if note["what"] == "serve-stop")
    measure = devices * sum(trial["seconds"].get("measure", 0.0) for trial in trials)
    busy = {"start": start, "measure": measure, "stop": stop}
    rounded = {name: round(value, 3) for name, value in busy.items()}
    return {**rounded, "idle": round(max(spent - sum(busy.values()), 0.0), 3)}


def _scripts(events: Sequence[Event]) -> set[str]:
    """Hashes of the launchers that were started or scored while the agent ran."""
    asked = {ask["script"]["sha256"] for ask in _of(events, "ask") if ask["origin"] == "agent"}
    return asked | {note["script"] for note in _of(events, "note") if note["what"] == "serve-start"}
