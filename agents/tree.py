"""An agent's process tree: started in its box, watched, and ended so that nothing of it is left."""

from __future__ import annotations

import json
import os
import select
import signal
import stat
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Self

import psutil

from agents.sandbox import SYSTEM, Box, Sandbox
from agents.snapshot import DEPTH
from agents.spec import AgentError
from engines.orphans import RUN_ID, survivors

KEEPER = Path(__file__).with_name("keeper.py")
INTERPRETER = Path(sys.executable).resolve()

GRACE = 5.0
"""Seconds between TERM and KILL."""

GONE = 30.0
"""Seconds in which a killed box must be gone."""


@dataclass(frozen=True)
class End:
    """How a tree ended.

    Attributes:
        left: command lines of processes that were still there when the agent was over.
        stubborn: those of them that TERM did not end.
        strays: files written outside the workspace, in the box's throw-away root.
    """

    left: tuple[str, ...]
    stubborn: tuple[str, ...]
    strays: tuple[str, ...]


class Tree:
    """A running agent. `root` is the host's pid of the first process of its box."""

    def __init__(
        self, box: Box, process: subprocess.Popen[bytes], root: int, says: int, holds: int, run_id: str
    ) -> None:
        self._box = box
        self._process = process
        self._says = says
        self._holds = holds
        self._run_id = run_id
        self.root = root
        self.code: int | None = None

    @classmethod
    def start(
        cls,
        box: Box,
        command: Sequence[str],
        env: Mapping[str, str],
        log: IO[bytes],
        run_id: str,
        launched: Callable[[], None] = lambda: None,
    ) -> Self:
        """Launch `command` in `box` with the variables `env`, and say so to `launched` at that moment.

        Raises AgentError when the box fails.
        """
        told, says = os.pipe()
        waits, holds = os.pipe()
        shown, info = os.pipe()
        keeper = [str(INTERPRETER), "-I", str(KEEPER), str(says), str(waits), *command]
        process = subprocess.Popen(
            box.argv(keeper, None, info),
            env={**env, RUN_ID: run_id},
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            pass_fds=(says, waits, info),
            start_new_session=True,
        )
        launched()
        for descriptor in (says, waits, info):
            os.close(descriptor)
        with os.fdopen(shown, "rb") as pipe:
            answer = pipe.read() if isinstance(box, Sandbox) else b""
        if os.read(told, 1) != b"+":
            os.close(told)
            os.close(holds)
            raise AgentError(f"the sandbox did not start (exit {process.wait()}): see {log.name}")
        root = int(json.loads(answer)["child-pid"]) if answer else process.pid
        return cls(box, process, root, told, holds, run_id)

    def wait(self, seconds: float) -> bool:
        """Whether the agent is over, having waited for it up to `seconds`. Sets `code`."""
        if self.code is not None:
            return True
        ready, _, _ = select.select([self._says], [], [], max(seconds, 0.0))
        if not ready:
            return False
        answer = os.read(self._says, 16)
        self.code = int(answer) if answer.removeprefix(b"-").isdigit() else -signal.SIGKILL
        return True

    def end(self, grace: float = GRACE) -> End:
        """TERM to every process, KILL to the box, and return only when all of it is gone."""
        left = self._members()
        names = tuple(filter(None, map(_words, left)))
        for process in left:
            _signal(process, signal.SIGTERM)
        psutil.wait_procs(left, timeout=grace)
        stubborn = self._members()
        end = End(names, tuple(filter(None, map(_words, stubborn))), tuple(self._strays()))
        self._kill(stubborn)
        return end

    def _kill(self, stubborn: Sequence[psutil.Process]) -> None:
        root = _process(self.root)
        for process in [*stubborn, *([root] if root else [])]:
            _signal(process, signal.SIGKILL)
        os.close(self._holds)
        os.close(self._says)
        try:
            self._process.wait(GONE)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait(GONE)
        deadline = time.monotonic() + GONE
        while root and root.is_running() and root.status() != psutil.STATUS_ZOMBIE:
            if time.monotonic() > deadline:
                raise AgentError(f"process {self.root} of the agent's box outlived KILL: end it by hand")
            time.sleep(0.01)

    def _members(self) -> list[psutil.Process]:
        """Processes of the tree, without the box's own (its first process and the keeper)."""
        root = _process(self.root)
        found = root.children(recursive=True) if root else []
        if isinstance(self._box, Sandbox):
            keepers = {child.pid for child in (root.children() if root else [])[:1]}
            return [process for process in found if process.pid not in keepers]
        pids = {process.pid for process in found}
        tagged = survivors(lambda variables: variables.get(RUN_ID) == self._run_id)
        others = map(_process, tagged - pids - {self.root})
        return found + [other for other in others if other]

    def _strays(self) -> Iterator[str]:
        if not isinstance(self._box, Sandbox):
            return
        top = Path(f"/proc/{self.root}/root")
        try:
            device = top.stat().st_dev
        except OSError:
            return
        yield from _files(top, Path("/"), device)


def _files(top: Path, folder: Path, device: int) -> Iterator[str]:
    """Files below `folder` that lie on the box's own root file system and not on anything mounted there."""
    with os.scandir(top / folder.relative_to("/")) as entries:
        for entry in entries:
            path = folder / entry.name
            info = entry.stat(follow_symlinks=False)
            if info.st_dev != device or str(path) in {*SYSTEM, "/var/tmp"}:
                continue
            if stat.S_ISDIR(info.st_mode) and len(path.parts) < DEPTH:
                yield from _files(top, path, device)
            else:
                yield str(path)


def _process(pid: int) -> psutil.Process | None:
    try:
        return psutil.Process(pid)
    except psutil.NoSuchProcess:
        return None


def _signal(process: psutil.Process, number: int) -> None:
    try:
        process.send_signal(number)
    except psutil.NoSuchProcess:
        return


def _words(process: psutil.Process) -> str:
    try:
        return " ".join(process.cmdline())[:200]
    except psutil.Error:
        return ""
