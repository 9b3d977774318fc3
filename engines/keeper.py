# ruff: noqa: PTH123, PTH202, PTH208
"""The program between Ceiling and an engine: it starts the engine and sees to it that nothing of it stays.

Run as `python -I -S keeper.py` (standard library only, so that it starts at once). Its first line of standard
input is the launch as JSON; after that the pipe stays open, and its end, the death of the parent or a
SIGTERM mean: end everything. A launch with `waits` has a socket to the keeper as its standard input: a second
line on the pipe is for it (engines/warm_child.py), and its lines are passed on. On standard output the keeper
says, a JSON object a line, what happens:

    {"event": "started", "pid": N}        the engine runs, leader of its own session and process group
    {"event": "exited", "code": N}        the process that was started ended (negative: by that signal)
    {"event": "ended", "left": [PID]}     nothing of the engine runs any more, but for what is listed

Two processes run this. Both are child subreapers, so that whatever an engine forks, daemonised or not, stays
their descendant; the outer one (the guard) takes over if the inner one is killed.
"""

from __future__ import annotations

import contextlib
import ctypes
import json
import os
import select
import signal
import socket
import sys
import time
from typing import Any

PR_SET_PDEATHSIG = 1
PR_SET_CHILD_SUBREAPER = 36

WATCH = 0.5
"""Seconds between looks at the size of the log."""

KEPT = 1 << 20
"""Bytes of a flooded log's end that survive its truncation."""

KILL_SECONDS = 3.0
"""How long SIGKILL is repeated; what stays after that is stuck in the kernel."""


CONTAINER_SECONDS = 20.0
"""How long the removal of a container may take."""


def main() -> None:
    """Read the launch, then be guard and keeper."""
    spec = _read_line()
    if spec is None:
        return
    for number in (signal.SIGINT, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)
    _prctl(PR_SET_CHILD_SUBREAPER, 1)
    inner = os.fork()
    if inner:
        _guard(inner, spec)
    else:
        _prctl(PR_SET_CHILD_SUBREAPER, 1)
        _keep(spec)


def _read_line() -> dict[str, Any] | None:
    """A launch; None if the pipe ended before one was written."""
    line = b""
    while not line.endswith(b"\n"):
        chunk = os.read(0, 65536)
        if not chunk:
            return None
        line += chunk
    spec: dict[str, Any] = json.loads(line)
    return spec


def _guard(inner: int, spec: dict[str, Any]) -> None:
    """Wait for the keeper; if it was killed, end what it kept."""
    signal.signal(signal.SIGTERM, lambda *_: os.kill(inner, signal.SIGTERM))
    while os.waitpid(-1, 0)[0] != inner:
        continue
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    if not _gone():
        _say(event="ended", left=_end(0, spec))


def _keep(spec: dict[str, Any]) -> None:
    """Start the engine, watch until it is gone or is to go, and end it."""
    parent = _pidfd(spec["parent"])
    wake = _wake_on(signal.SIGCHLD, signal.SIGTERM)
    desk, seat = socket.socketpair() if spec.get("waits") else (None, None)
    engine = _start(spec, seat)
    _say(event="started", pid=engine)
    parents = [] if parent is None else [parent]
    desks = [] if desk is None else [desk.fileno()]
    stopping = False
    while not stopping:
        ready, _, _ = select.select([0, *parents, wake, *desks], [], [], WATCH)
        signals = os.read(wake, 4096) if wake in ready else b""
        stopping = signal.SIGTERM in signals or any(each in ready for each in parents)
        if 0 in ready:
            stopping = not _hand_over(spec, desks) or stopping
        desks = [each for each in desks if each not in ready or _pass_on(each)]
        ended = _reap()
        if engine in ended:
            _say(event="exited", code=ended[engine])
        stopping = stopping or _childless()
        _trim(spec["log"], spec["log_limit"])
    _say(event="ended", left=_end(engine, spec))


def _hand_over(spec: dict[str, Any], desks: list[int]) -> bool:
    """Take a launch in for what waits for one; False at the pipe's end."""
    launch = _read_line()
    if launch is None:
        return False
    spec.update(launch)
    line = json.dumps(launch).encode() + b"\n"
    for desk in desks:
        with contextlib.suppress(OSError):
            while line:
                line = line[os.write(desk, line) :]
    return True


def _pass_on(desk: int) -> bool:
    """What it says, to the parent; False once it has left the desk."""
    with contextlib.suppress(OSError):
        line = os.read(desk, 4096)
        if line:
            os.write(1, line)
        return bool(line)
    return False


def _start(spec: dict[str, Any], seat: socket.socket | None) -> int:
    """The engine in a session of its own, with output appended to the log file and nothing of ours open.

    Its standard input is the seat, or nothing.
    """
    pid = os.fork()
    if pid:
        if seat is not None:
            seat.close()
        return pid
    try:
        os.setsid()
        _prctl(PR_SET_PDEATHSIG, signal.SIGTERM)
        log = os.open(spec["log"], os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)
        os.dup2(os.open(os.devnull, os.O_RDONLY) if seat is None else seat.fileno(), 0)
        os.dup2(log, 1)
        os.dup2(log, 2)
        for number in (signal.SIGINT, signal.SIGHUP, signal.SIGTERM, signal.SIGCHLD, signal.SIGPIPE):
            signal.signal(number, signal.SIG_DFL)
        os.chdir(spec["cwd"])
        os.execvpe(spec["argv"][0], spec["argv"], spec["env"])
    except OSError as error:
        os.write(2, f"cannot start {spec['argv'][0]}: {error}\n".encode())
    os._exit(127)


def _end(engine: int, spec: dict[str, Any]) -> list[int]:
    """TERM to the group and to whatever else descends from us, then KILL; returns the ids that stayed.

    A container that does not descend from us is removed by its id.
    """
    members = _descendants()
    if engine in members:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(engine, signal.SIGTERM)
    for pid in members:
        if engine == 0 or _group(pid) != engine:
            _signal(pid, signal.SIGTERM)
    deadline = time.monotonic() + spec["grace"]
    while not _gone() and time.monotonic() < deadline:
        time.sleep(0.02)
    if spec.get("container"):
        _remove(spec["container"], spec["env"])
    deadline = time.monotonic() + KILL_SECONDS
    while not _gone() and time.monotonic() < deadline:
        for pid in _descendants():
            _signal(pid, signal.SIGKILL)
        time.sleep(0.02)
    return _descendants()


def _remove(container: dict[str, str], env: dict[str, str]) -> None:
    """Have the container's tool remove it, whatever state it is in; it may be gone already."""
    try:
        with open(container["cidfile"]) as file:
            identity = file.read().strip()
    except OSError:
        return
    quiet = [(os.POSIX_SPAWN_OPEN, fd, os.devnull, os.O_RDWR, 0) for fd in (0, 1, 2)]
    argv = [container["tool"], "rm", "--force", identity]
    tool = os.posix_spawn(argv[0], argv, env, file_actions=quiet)
    deadline = time.monotonic() + CONTAINER_SECONDS
    while time.monotonic() < deadline:
        if tool in _reap():
            return
        time.sleep(0.02)


def _reap() -> dict[int, int]:
    """Exit codes of the children that ended since the last call."""
    ended = {}
    with contextlib.suppress(ChildProcessError):
        while (waited := os.waitpid(-1, os.WNOHANG))[0]:
            ended[waited[0]] = os.waitstatus_to_exitcode(waited[1])
    return ended


def _gone() -> bool:
    """Whether no descendant is left, once those that ended are reaped."""
    _reap()
    return _childless()


def _childless() -> bool:
    """Whether no child is left, and so, since orphans come to us, no descendant."""
    try:
        os.waitid(os.P_ALL, 0, os.WEXITED | os.WNOHANG | os.WNOWAIT)
    except ChildProcessError:
        return True
    return False


def _descendants() -> list[int]:
    """Ids of the processes below this one."""
    parents = {}
    for name in os.listdir("/proc"):
        if name.isdigit():
            with contextlib.suppress(OSError), open(f"/proc/{name}/stat", "rb") as stat:
                parents[int(name)] = int(stat.read().rpartition(b")")[2].split()[1])
    below = {os.getpid()}
    grown = True
    while grown:
        found = {pid for pid, parent in parents.items() if parent in below} - below
        below |= found
        grown = bool(found)
    return sorted(below - {os.getpid()})


def _group(pid: int) -> int:
    try:
        return os.getpgid(pid)
    except ProcessLookupError:
        return 0


def _signal(pid: int, number: signal.Signals) -> None:
    with contextlib.suppress(ProcessLookupError):
        os.kill(pid, number)


def _trim(log: str, limit: int) -> None:
    """Cut a flooded log to its end, in place: the engine appends, so its next line follows."""
    with contextlib.suppress(FileNotFoundError):
        size = os.path.getsize(log)
        if size <= limit:
            return
        with open(log, "r+b") as file:
            file.seek(-min(KEPT, limit // 2), os.SEEK_END)
            end = file.read(KEPT)
            file.truncate(0)
        with open(log, "ab") as file:
            file.write(f"[{size >> 20} MiB of log were cut here]\n".encode() + end)


def _wake_on(*numbers: signal.Signals) -> int:
    """A descriptor that delivers these signals' numbers as bytes."""
    read, write = os.pipe()
    os.set_blocking(write, False)
    os.set_blocking(read, False)
    signal.set_wakeup_fd(write, warn_on_full_buffer=False)
    for number in numbers:
        signal.signal(number, lambda *_: None)
    return read


def _pidfd(pid: int) -> int | None:
    """Readable once that process is dead; None on a kernel without it (the pipe's end remains)."""
    try:
        return os.pidfd_open(pid)
    except ProcessLookupError:
        sys.exit(0)
    except OSError:
        return None


def _say(**event: object) -> None:
    with contextlib.suppress(BrokenPipeError):
        os.write(1, json.dumps(event).encode() + b"\n")


def _prctl(option: int, value: int) -> None:
    ctypes.CDLL(None, use_errno=True).prctl(option, value, 0, 0, 0)


if __name__ == "__main__":
    main()
