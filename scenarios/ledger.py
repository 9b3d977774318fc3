"""The ledger: what happened in a run, append-only and fsynced; the single source of truth.

A run is a directory:

    ledger.jsonl   one JSON object a line: `schema`, `event`, `at` (Unix time), and the event's own fields
    rows/          Parquet rows, a directory a measurement
    logs/          engine logs, a file a trial

Events: `run` (the header, first), `ask` (a config is chosen), `phase`, `measurement`, `trial` (its end),
`lost` (its worker or driver died; the config will be asked again), `meter` (GPU-seconds so far),
`devices` (GPU memory and processes before and after a stretch of the run),
`note`, `result` and `end`. `pandas.read_json(run / "ledger.jsonl", lines=True)` reads all of it.
"""

from __future__ import annotations

import fcntl
import json
import os
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, Self, TextIO

import pandas as pd

SCHEMA = 1
FILE = "ledger.jsonl"

Event = Mapping[str, Any]


class LedgerError(Exception):
    """A run directory cannot be used. The message is one line that names the fix."""


@dataclass(frozen=True)
class Damage:
    """A line that does not parse: kept in the file, skipped by readers, reported."""

    line: int
    text: str


def read(run: Path) -> tuple[list[dict[str, Any]], list[Damage]]:
    """All events of a run, in order, and the lines that had to be skipped.

    Raises LedgerError when the directory holds no ledger, or one of a later schema.
    """
    path = run / FILE
    if not path.is_file():
        raise LedgerError(f"{run} holds no ledger: name a run directory (one with {FILE} in it)")
    events: list[dict[str, Any]] = []
    damaged: list[Damage] = []
    with path.open(encoding="utf-8", errors="replace") as lines:
        for number, line in enumerate(lines, start=1):
            event = _parse(line)
            if event is None:
                if line.strip():
                    damaged.append(Damage(number, line.rstrip("\n")[:200]))
            elif event["schema"] > SCHEMA:
                raise LedgerError(
                    f"{path} has schema {event['schema']}; this version reads up to {SCHEMA}: upgrade"
                )
            else:
                events.append(event)
    return events, damaged


def frame(run: Path) -> pd.DataFrame:
    """The events of a run as a DataFrame, one row an event."""
    return pd.DataFrame(read(run)[0])


def header(events: list[dict[str, Any]]) -> dict[str, Any]:
    """The `run` event. Raises LedgerError when the ledger has none."""
    for event in events:
        if event["event"] == "run":
            return event
    raise LedgerError("the ledger has no header: it is not a run of this program")


def gpu_seconds(events: list[dict[str, Any]]) -> float:
    """GPU-seconds that a run has held its devices, over all its segments (one a driver process)."""
    last: dict[int, float] = {}
    for event in events:
        if event["event"] == "meter":
            last[event["segment"]] = event["gpu_seconds"]
    return sum(last.values())


class Ledger:
    """An open ledger: one writer at a time, held by a lock that dies with its process."""

    def __init__(self, run: Path, lock: TextIO, events: list[dict[str, Any]], damaged: list[Damage]) -> None:
        self.run = run
        self.events = events
        self.damaged = damaged
        self._lock = lock
        self._mutex = threading.Lock()
        self._observers: list[Callable[[Event], None]] = []
        self._file = (run / FILE).open("ab")

    @classmethod
    def create(cls, run: Path, header: Mapping[str, Any]) -> Ledger:
        """A new run. Raises LedgerError when the directory already holds one."""
        if (run / FILE).exists():
            raise LedgerError(f"{run} already holds a run: add --resume to continue it, or name a new --run")
        try:
            run.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise LedgerError(f"{run} cannot be made ({error.strerror}): name another --run") from error
        ledger = cls(run, _locked(run), [], [])
        ledger.append("run", **header)
        _sync_directory(run)
        return ledger

    @classmethod
    def resume(cls, run: Path) -> Ledger:
        """An existing run, for appending. A torn last line is closed, kept and reported."""
        lock = _locked(run)
        try:
            events, damaged = read(run)
            header(events)
        except LedgerError:
            lock.close()
            raise
        ledger = cls(run, lock, events, damaged)
        with (run / FILE).open("rb") as tail:
            tail.seek(-1, os.SEEK_END)
            torn = tail.read(1) != b"\n"
        if torn:
            ledger._write(b"\n")
        return ledger

    def append(self, event: str, **fields: Any) -> dict[str, Any]:
        """Write one event; it is on disk when this returns. Returns it as a reader will see it."""
        record = {"schema": SCHEMA, "event": event, "at": round(time.time(), 3), **fields}
        line = json.dumps(record, default=_plain, allow_nan=False, separators=(",", ":")).encode()
        written: dict[str, Any] = json.loads(line)
        with self._mutex:
            self._write(line + b"\n")
            self.events.append(written)
        for observer in self._observers:
            observer(written)
        return written

    def subscribe(self, observer: Callable[[Event], None]) -> None:
        """Call `observer` with every event appended from now on."""
        self._observers.append(observer)

    def close(self) -> None:
        """Let go of the run."""
        self._file.close()
        self._lock.close()

    def _write(self, data: bytes) -> None:
        self._file.write(data)
        self._file.flush()
        os.fsync(self._file.fileno())

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def _parse(line: str) -> dict[str, Any] | None:
    try:
        event = json.loads(line)
    except json.JSONDecodeError:
        return None
    if (
        isinstance(event, dict)
        and isinstance(event.get("schema"), int)
        and isinstance(event.get("event"), str)
    ):
        return event
    return None


def _locked(run: Path) -> TextIO:
    if not run.is_dir():
        raise LedgerError(f"{run} does not exist: name a run directory")
    lock = (run / "lock").open("w")
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        lock.close()
        raise LedgerError(f"{run} is in use by another process: wait for it, or name another --run") from None
    return lock


def _sync_directory(run: Path) -> None:
    handle = os.open(run, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def _plain(value: Any) -> Any:
    if isinstance(value, Path):
        return str(value)
    if hasattr(value, "item"):
        return value.item()
    raise TypeError(f"{type(value).__name__} has no place in a ledger")
