"""Alarms of an event loop at microseconds: its own timers only know whole milliseconds."""

from __future__ import annotations

import asyncio
import ctypes
import os
import time
from array import array
from collections.abc import Callable

_libc = ctypes.CDLL(None, use_errno=True)
_NONBLOCK = os.O_NONBLOCK | os.O_CLOEXEC
_ABSOLUTE = 1
BEAT = 0.02
"""Seconds between the heartbeats by which a loop measures its own lag."""


class _Spec(ctypes.Structure):
    _fields_ = (
        ("interval_s", ctypes.c_long),
        ("interval_ns", ctypes.c_long),
        ("value_s", ctypes.c_long),
        ("value_ns", ctypes.c_long),
    )


class Alarm:
    """Calls back when `time.monotonic_ns` reaches a time: a timerfd watched by the loop (Linux)."""

    def __init__(self, loop: asyncio.AbstractEventLoop, call: Callable[[], None]) -> None:
        self._loop = loop
        self._call = call
        self._file: int = _libc.timerfd_create(time.CLOCK_MONOTONIC, _NONBLOCK)
        if self._file < 0:
            raise OSError(ctypes.get_errno(), "timerfd_create")
        loop.add_reader(self._file, self._ring)

    def set(self, at: int) -> None:
        """Ring at `at` (ns); at once if that is past."""
        spec = _Spec(0, 0, at // 1_000_000_000, max(at % 1_000_000_000, 1))
        if _libc.timerfd_settime(self._file, _ABSOLUTE, ctypes.byref(spec), None) != 0:
            raise OSError(ctypes.get_errno(), "timerfd_settime")

    def close(self) -> None:
        """Let go of the timer."""
        self._loop.remove_reader(self._file)
        os.close(self._file)

    def _ring(self) -> None:
        try:
            os.read(self._file, 8)
        except BlockingIOError:
            return
        self._call()


class Heartbeat:
    """Samples by how much the loop comes late to its own timer: the lag of arrival stamps, in seconds."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self._due = time.monotonic() + BEAT
        self._handle = loop.call_later(BEAT, self._beat)
        self.lags = array("d")

    def _beat(self) -> None:
        self.lags.append(time.monotonic() - self._due)
        self._due = time.monotonic() + BEAT
        self._handle = self._loop.call_later(BEAT, self._beat)

    def stop(self) -> array[float]:
        """End it; the samples."""
        self._handle.cancel()
        return self.lags
