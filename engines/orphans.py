"""End the processes of servers whose run was killed, and no others."""

from __future__ import annotations

import contextlib
import os
import select
import signal
import time
from collections.abc import Callable, Mapping
from pathlib import Path

RUN_ID = "CEILING_RUN_ID"
SERVER = "CEILING_SERVER"
"""Variables in the environment of every process of a server: the run's id, and the server's own."""

KILL_SECONDS = 3.0

Mine = Callable[[Mapping[str, str]], bool]


def reap(run_id: str, *, grace: float = 8.0) -> list[int]:
    """End what the servers of a run left running; returns the process ids that it ended.

    A process is one of them if its environment holds the run's id and a server's, or if it descends from
    one. TERM first (a keeper then ends its engine), KILL after `grace` seconds. An empty id matches nothing.
    """
    if not run_id:
        return []
    return end(lambda variables: variables.get(RUN_ID) == run_id and SERVER in variables, grace)


def end(mine: Mine, grace: float) -> list[int]:
    """End the processes whose environment is `mine`, with their descendants; returns their ids."""
    ended: set[int] = set()
    deadline = time.monotonic() + grace
    while time.monotonic() < deadline + KILL_SECONDS:
        killing = time.monotonic() >= deadline
        found = survivors(mine)
        if not found:
            break
        for pid in found if killing else found - ended:
            _signal(pid, mine, signal.SIGKILL if killing else signal.SIGTERM)
        ended |= found
        _wait(found, 0.25)
    return sorted(ended)


def survivors(mine: Mine) -> set[int]:
    """Ids of the live processes whose environment is `mine`, and of their descendants, never a caller."""
    parents = _parents()
    found = {pid for pid in parents if mine(_environment(pid))} - _ancestors(os.getpid(), parents)
    while below := {pid for pid, parent in parents.items() if parent in found} - found:
        found |= below
    return found - _ancestors(os.getpid(), parents)


def _signal(pid: int, mine: Mine, number: signal.Signals) -> None:
    """Signal a process through a descriptor, after a second look that its id was not given to another one."""
    with contextlib.suppress(ProcessLookupError, PermissionError):
        descriptor = os.pidfd_open(pid)
        try:
            if pid in survivors(mine):
                signal.pidfd_send_signal(descriptor, number)
        finally:
            os.close(descriptor)


def _wait(pids: set[int], seconds: float) -> None:
    """Return when all of these processes ended, or after some seconds."""
    poll, waiting = select.poll(), set()
    for pid in pids:
        with contextlib.suppress(ProcessLookupError):
            waiting.add(os.pidfd_open(pid))
    for descriptor in waiting:
        poll.register(descriptor, select.POLLIN)
    deadline = time.monotonic() + seconds
    while waiting and (left := deadline - time.monotonic()) > 0:
        for descriptor, _ in poll.poll(left * 1000):
            poll.unregister(descriptor)
            waiting.remove(descriptor)
            os.close(descriptor)
    for descriptor in waiting:
        os.close(descriptor)


def _parents() -> dict[int, int]:
    """Process id -> parent's id, without zombies (nothing of those is left to end)."""
    parents = {}
    for place in Path("/proc").iterdir():
        if place.name.isdigit():
            with contextlib.suppress(OSError):
                state, parent = (place / "stat").read_text(errors="replace").rpartition(")")[2].split()[:2]
                if state != "Z":
                    parents[int(place.name)] = int(parent)
    return parents


def _environment(pid: int) -> dict[str, str]:
    try:
        block = Path(f"/proc/{pid}/environ").read_bytes()
    except OSError:
        return {}
    pairs = (item.partition("=") for item in block.decode(errors="replace").split("\0"))
    return {key: value for key, equals, value in pairs if equals}


def _ancestors(pid: int, parents: Mapping[int, int]) -> set[int]:
    """A process and those above it."""
    line = {pid}
    while (pid := parents.get(pid, 0)) and pid not in line:
        line.add(pid)
    return line
