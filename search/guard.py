"""A process beside a driver: when that dies without a word, it ends what Ray would leave for a minute.

Ray's agents outlive a driver that was killed, since they first try to report to a server that is gone too. So
does a worker that was just starting: it waits for a raylet that is no more.
"""

from __future__ import annotations

import contextlib
import subprocess
import sys
from collections.abc import Iterator

import psutil

GRACE = 3.0
"""Seconds in which Ray's processes may end by themselves."""

SOCKET = "--raylet_socket_name="
"""How a raylet's command line begins to name its socket; workers name it after another option."""


@contextlib.contextmanager
def guarded() -> Iterator[None]:
    """Watch over the descendants that this process has now, until the block is left."""
    below = psutil.Process().children(recursive=True)
    guard = subprocess.Popen(
        [sys.executable, "-P", __file__], stdin=subprocess.PIPE, text=True, start_new_session=True
    )
    assert guard.stdin is not None
    guard.stdin.write("".join(f"{process.pid}\n" for process in below))
    guard.stdin.flush()
    try:
        yield
    finally:
        with contextlib.suppress(BrokenPipeError):
            guard.stdin.close()
        guard.wait()


def main() -> None:
    """Read process ids until the driver is gone; then end those that are still the same processes."""
    processes, sockets = [], set[str]()
    for line in sys.stdin:
        with contextlib.suppress(psutil.NoSuchProcess):
            processes.append(psutil.Process(int(line)))
            sockets |= _sockets(processes[-1:])
    _, alive = psutil.wait_procs(processes, timeout=GRACE)
    _end(alive)
    _end(_workers(sockets))


def _end(processes: list[psutil.Process]) -> None:
    for process in processes:
        with contextlib.suppress(psutil.NoSuchProcess):
            process.kill()
    psutil.wait_procs(processes, timeout=GRACE)


def _sockets(processes: list[psutil.Process]) -> set[str]:
    """What raylets among them are called by their workers: their sockets, one a Ray session."""
    found = set()
    for process in processes:
        with contextlib.suppress(psutil.Error):
            found |= {word.split("=")[1] for word in process.cmdline() if word.startswith(SOCKET)}
    return found


def _workers(sockets: set[str]) -> list[psutil.Process]:
    """Processes that name one of these sockets on their command line: workers that never got further."""
    found = []
    for process in psutil.process_iter():
        with contextlib.suppress(psutil.Error):
            if any(word.split("=")[-1] in sockets for word in process.cmdline()):
                found.append(process)
    return found


if __name__ == "__main__":
    main()
