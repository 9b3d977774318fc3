"""The handle of a keeper: start one, hear what it says, have it end its engine."""

from __future__ import annotations

import contextlib
import json
import os
import select
import subprocess
import sys
import threading
import time
from collections.abc import Mapping
from typing import Any

from engines import keeper


class KeeperProcess:
    """A running keeper (see engines/keeper.py): `spec` is what it starts, `env` its own environment."""

    def __init__(self, spec: Mapping[str, Any], env: Mapping[str, str]) -> None:
        self.pid: int | None = None
        self._fit: bool | None = None
        self._handed = self._taken = False
        self._code: int | None = None
        self._ended = False
        self._unread = b""
        self._lock = threading.Lock()
        self._process = subprocess.Popen(
            [sys.executable, "-I", "-S", keeper.__file__],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            env=env,
            start_new_session=True,
        )
        assert self._process.stdin and self._process.stdout
        self._input, self._output = self._process.stdin, self._process.stdout
        os.set_blocking(self._output.fileno(), False)
        with contextlib.suppress(BrokenPipeError):
            self._input.write(json.dumps(spec).encode() + b"\n")
            self._input.flush()

    def death(self) -> str | None:
        """How the engine ended, None while it runs. A launcher that ends well may have left a daemon."""
        self._read()
        if self._code:
            signal = f"was killed by signal {-self._code}"
            return f"ended with exit code {self._code}" if self._code > 0 else signal
        if self._ended:
            return "ended" if self._code is None else "ended with exit code 0"
        return None

    @property
    def warm(self) -> bool:
        """Whether what it started is, or was before its launch, a fit warm interpreter."""
        return self.fit is True

    @property
    def fit(self) -> bool | None:
        """What a warm interpreter has said of itself, None before it did."""
        self._read()
        return self._fit

    def wait_warm(self, seconds: float) -> bool:
        """Whether what it started is a fit warm interpreter, after waiting at most `seconds` for its word."""
        deadline = time.monotonic() + seconds
        while self.death() is None and self._fit is None and time.monotonic() < deadline:
            self.wait(deadline - time.monotonic())
        return self.warm

    def hand_over(self, spec: Mapping[str, Any]) -> bool:
        """Give the launch to the warm interpreter that it started; False if that or the keeper is gone."""
        while self.pid is None and self.death() is None:
            self.wait(1.0)
        try:
            self._input.write(json.dumps(spec).encode() + b"\n")
            self._input.flush()
        except BrokenPipeError:
            return False
        self._handed = True
        return True

    @property
    def lapsed(self) -> bool:
        """Whether its interpreter died with a launch on the way that it never took."""
        return self.death() is not None and self._handed and not self._taken

    def wait(self, seconds: float) -> None:
        """Return when the keeper says something, or after some seconds."""
        if self._ended:
            return
        poll = select.poll()
        poll.register(self._output, select.POLLIN)
        poll.poll(seconds * 1000)

    def end(self, seconds: float) -> None:
        """Have the engine ended, and wait for it and for the keeper, at most `seconds`."""
        deadline = time.monotonic() + seconds
        with contextlib.suppress(BrokenPipeError):
            self._input.close()
        while not self._ended and time.monotonic() < deadline:
            self.wait(0.1)
            self._read()
        try:
            self._process.wait(max(0.1, deadline - time.monotonic()))
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        self._ended = True
        self._output.close()

    def _read(self) -> None:
        """Take in what the keeper said. The pipe's end means that it, and so the engine, is gone."""
        with self._lock:
            while not self._ended:
                try:
                    chunk = os.read(self._output.fileno(), 65536)
                except BlockingIOError:
                    return
                *lines, self._unread = (self._unread + chunk).split(b"\n")
                for line in lines:
                    self._take(json.loads(line))
                self._ended = self._ended or not chunk

    def _take(self, said: Mapping[str, Any]) -> None:
        if said["event"] == "started":
            self.pid = said["pid"]
        elif said["event"] == "exited":
            self._code = said["code"]
        elif said["event"] == "warm":
            self._fit = said["fit"]
        elif said["event"] == "taken":
            self._taken = True
        else:
            self._ended = True
