"""An alarm on CLOCK_MONOTONIC that is finer than an event loop's own timers (1 ms)."""

from __future__ import annotations

import asyncio
import ctypes
import os
import sys
import time
from collections.abc import Callable

_ABSOLUTE = 1


class _Moment(ctypes.Structure):
    """struct itimerspec without an interval."""

    _fields_ = (
        ("interval_seconds", ctypes.c_long),
        ("interval_nanoseconds", ctypes.c_long),
        ("seconds", ctypes.c_long),
        ("nanoseconds", ctypes.c_long),
    )


class Alarm:
    """Calls `ring` at one moment at a time. On Linux by a timerfd, elsewhere by the loop's timer.

    Args:
        loop: the running loop.
        ring: called at, never before, the moment last set.
    """

    def __init__(self, loop: asyncio.AbstractEventLoop, ring: Callable[[], None]) -> None:
        self._loop = loop
        self._ring = ring
        self._handle: asyncio.TimerHandle | None = None
        self._file = -1
        if sys.platform == "linux":
            self._libc = ctypes.CDLL(None, use_errno=True)
            self._file = self._libc.timerfd_create(time.CLOCK_MONOTONIC, os.O_NONBLOCK | os.O_CLOEXEC)
        if self._file >= 0:
            loop.add_reader(self._file, self._expired)

    def at(self, moment: float) -> None:
        """Set the moment, in seconds of CLOCK_MONOTONIC; the one set before is forgotten."""
        if self._file >= 0:
            nanoseconds = max(1, int(moment * 1e9))
            setting = _Moment(0, 0, nanoseconds // 10**9, nanoseconds % 10**9)
            self._libc.timerfd_settime(self._file, _ABSOLUTE, ctypes.byref(setting), None)
            return
        if self._handle is not None:
            self._handle.cancel()
        self._handle = self._loop.call_later(max(0.0, moment - time.monotonic()), self._ring)

    def _expired(self) -> None:
        try:
            os.read(self._file, 8)
        except BlockingIOError:
            return
        self._ring()
