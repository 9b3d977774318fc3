"""The GPU-second meter that search and agents share: devices held x wall, first launch to last teardown.

Devices that the scorer keeps for itself, to hold a server's answers against the model once it is gone, are
`lent`: nobody pays for them.
"""

from __future__ import annotations

import threading
import time
from types import TracebackType
from typing import Self

from scenarios.ledger import Ledger, gpu_seconds

HEARTBEAT = 1.0
"""Seconds between meter events: what a SIGKILL can leave uncharged, at most."""


class Meter:
    """Charges a run for `devices` from `start()` until it is left; one segment a driver process.

    Earlier segments are read from the ledger, so that a resumed run goes on from what it had spent.
    """

    def __init__(
        self, ledger: Ledger, devices: int, budget: float | None, *, heartbeat: float = HEARTBEAT
    ) -> None:
        self._ledger = ledger
        self._heartbeat = heartbeat
        self._devices = devices
        self.budget = budget
        self._before = gpu_seconds(ledger.events)
        self._segment = sum(1 for e in ledger.events if e["event"] == "meter" and e["gpu_seconds"] == 0)
        self._started: float | None = None
        self._lent = 0
        self._since = 0.0
        self._unpaid = 0.0
        self._turn = threading.Lock()
        self._left = threading.Event()
        self._thread = threading.Thread(target=self._beat, daemon=True, name="meter")

    def start(self) -> None:
        """The devices are held from now on (called at the first launch; later calls do nothing)."""
        if self._started is None:
            self._started = time.monotonic()
            self._record(0.0)
            self._thread.start()

    def lend(self, devices: int) -> None:
        """These many devices are the scorer's from now on; a negative number gives them back."""
        with self._turn:
            now = time.monotonic()
            self._unpaid += self._lent * (now - self._since)
            self._lent, self._since = self._lent + devices, now

    @property
    def spent(self) -> float:
        """GPU-seconds of all segments until now."""
        return self._before + self._segment_seconds()

    @property
    def left(self) -> float:
        """GPU-seconds that remain; infinite without a budget."""
        return float("inf") if self.budget is None else self.budget - self.spent

    @property
    def wall_left(self) -> float:
        """Wall seconds that remain while all devices are held."""
        return self.left / self._devices

    def stop(self) -> None:
        """The devices are free: the last teardown is confirmed."""
        if self._started is not None and not self._left.is_set():
            self._left.set()
            self._thread.join()
            seconds = self._segment_seconds()
            self._started = None
            self._before += seconds
            self._record(seconds)

    def _segment_seconds(self) -> float:
        with self._turn:
            if self._started is None:
                return 0.0
            now = time.monotonic()
            unpaid = self._unpaid + self._lent * (now - self._since)
            return (now - self._started) * self._devices - unpaid

    def _beat(self) -> None:
        while not self._left.wait(self._heartbeat):
            self._record(self._segment_seconds())

    def _record(self, seconds: float) -> None:
        self._ledger.append(
            "meter", segment=self._segment, devices=self._devices, gpu_seconds=round(seconds, 3)
        )

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()
