"""A run as studies read it: the ledger of a directory, folded into what a table or a chart needs."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from scenarios import ledger

Event = Mapping[str, Any]

SCORED_ALREADY = frozenset({"baseline", "final"})
"""Origins whose trials are no part of a method's own exploration."""


@dataclass(frozen=True)
class Point:
    """Best score so far, after `gpu_seconds` of the run."""

    gpu_seconds: float
    score: float
    trial: int


@dataclass(frozen=True)
class Run:
    """One run directory, read.

    Attributes:
        header: its `run` event.
        result: its `result` event; recomputed from the events where the run has not come to one.
        ended: why it ended; None while it runs, or when it was killed.
        damaged: lines of the ledger that could not be read.
    """

    path: Path
    header: Event
    events: Sequence[Event]
    result: Event
    ended: str | None
    damaged: int

    @property
    def method(self) -> str:
        """What arrived at the servers: `tpe`, `agent:greedy`."""
        return str(self.header["method"])

    @property
    def engines(self) -> tuple[str, ...]:
        """Engines that were allowed."""
        return tuple(self.header.get("engines", ()))

    @property
    def scenario(self) -> str:
        """Letter of its scenario."""
        return str(self.header["scenario"])

    @property
    def seeds(self) -> tuple[int, int]:
        """The seed pair (dev, eval)."""
        seeds = self.header.get("seeds", {})
        return int(seeds.get("dev", 0)), int(seeds.get("eval", 0))

    @property
    def finished(self) -> bool:
        """Whether there is nothing left to do in it: it ended by itself, with a result."""
        concluded = any(event["event"] == "result" for event in self.events)
        return concluded and self.ended is not None and self.ended != "interrupted"

    @property
    def versions(self) -> Mapping[str, str]:
        """Versions of its engines."""
        return dict((self.header.get("provenance") or {}).get("engines") or {})

    @property
    def commit(self) -> str:
        """The harness's commit, as its measurements say; `+` where files were changed since."""
        for event in self.measurements.values():
            harness = (event.get("provenance") or {}).get("harness") or {}
            if harness.get("commit"):
                return str(harness["commit"])[:12] + ("+" if harness.get("modified") else "")
        return ""

    @cached_property
    def trials(self) -> tuple[Event, ...]:
        """Ends of its trials, in order."""
        return tuple(event for event in self.events if event["event"] == "trial")

    @cached_property
    def measurements(self) -> dict[str, Event]:
        """Measurements by id."""
        return {event["id"]: event for event in self.events if event["event"] == "measurement"}

    def measurement_of(self, part: Event) -> Event | None:
        """The measurement that a part of the result rests on: the one it names, else its trial's last one."""
        ids = [part["measurement"]] if part.get("measurement") else []
        for trial in self.trials:
            if not ids and trial["trial"] == part.get("trial"):
                ids = list(trial.get("measurements", ()))
        return self.measurements.get(str(ids[-1])) if ids else None

    def measured_whole(self, part: Event) -> bool:
        """Whether a part of the result rests on a whole scenario (a part of it scores otherwise)."""
        measured = self.measurement_of(part)
        fidelity = measured["fidelity"] if measured else {}
        return all(fidelity.get(share, 1.0) == 1.0 for share in ("requests", "output"))

    @cached_property
    def curve(self) -> tuple[Point, ...]:
        """Best dev-seed score so far against GPU-seconds; a point an improvement.

        The published protocol measures the default for the record only: it could not submit it.
        """
        published = (self.header.get("spec") or {}).get("strategy") == "published"
        left_out = {*SCORED_ALREADY, *(["default"] if published else [])}
        clock = _Clock()
        points: list[Point] = []
        for event in self.events:
            clock.see(event)
            score = event.get("score") if event["event"] == "trial" else None
            if score is None or event.get("origin") in left_out or event["state"] != "complete":
                continue
            if not points or score > points[-1].score:
                points.append(Point(clock.spent(event["at"]), float(score), int(event["trial"])))
        return tuple(points)


class _Clock:
    """GPU-seconds at a moment, from the meter events before it."""

    def __init__(self) -> None:
        self._before = 0.0
        self._last = 0.0
        self._at: float | None = None
        self._devices = 1

    def see(self, event: Event) -> None:
        if event["event"] != "meter":
            return
        if event["gpu_seconds"] == 0:
            self._before += self._last
        self._last, self._at, self._devices = event["gpu_seconds"], event["at"], event["devices"]

    def spent(self, at: float) -> float:
        since = 0.0 if self._at is None else max(at - self._at, 0.0)
        return self._before + self._last + since * self._devices


def open_run(path: Path) -> Run:
    """Read a run directory. Raises LedgerError when it holds no run."""
    events, damaged = ledger.read(path)
    try:
        header = ledger.header(events)
    except ledger.LedgerError as error:
        raise ledger.LedgerError(f"{path}: {error}") from error
    ends = [event["reason"] for event in events if event["event"] == "end"]
    results = [event for event in events if event["event"] == "result"]
    return Run(
        path=path,
        header=header,
        events=events,
        result=results[-1] if results else unfinished_result(events),
        ended=ends[-1] if ends else None,
        damaged=len(damaged),
    )


def find_runs(path: Path) -> list[Path]:
    """Run directories at or below `path`, sorted."""
    if (path / ledger.FILE).is_file():
        return [path]
    return sorted(file.parent for file in path.rglob(ledger.FILE))


def unfinished_result(events: Sequence[Event]) -> dict[str, Any]:
    """What a `result` event would say so far, without baseline and without a submitted server."""
    trials = [event for event in events if event["event"] == "trial"]
    scored = [trial for trial in trials if trial["state"] == "complete" and trial.get("score") is not None]
    own = [trial for trial in scored if trial.get("origin") not in SCORED_ALREADY]
    best = max(own, key=lambda trial: float(trial["score"]), default=None)
    default = next((trial for trial in scored if trial.get("origin") == "default"), None)
    return {
        "baseline": None,
        "default": default and {key: default[key] for key in ("engine", "trial", "score")},
        "found": best and {key: best.get(key) for key in ("trial", "engine", "config", "score", "command")},
        "submitted": None,
        "gpu_seconds": ledger.gpu_seconds(list(map(dict, events))),
        "split": _split(trials),
        "trials": len(trials),
        "outcomes": dict(Counter(str(trial["state"]) for trial in trials)),
    }


def _split(trials: Sequence[Event]) -> dict[str, float]:
    parts = ("start", "measure", "stop")
    return {part: sum(trial.get("seconds", {}).get(part, 0.0) for trial in trials) for part in parts}
