"""A process beside a driver: when that dies without a word, it ends what Ray would leave for a minute.

Ray's agents outlive a driver that was killed, since they first try to report to a server that is gone too.
"""

from __future__ import annotations

import contextlib
import subprocess
import sys
from collections.abc import Iterator

import psutil

GRACE = 3.0
"""Seconds in which Ray's processes may end by themselves."""


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
    processes = []
    for line in sys.stdin:
        with contextlib.suppress(psutil.NoSuchProcess):
            processes.append(psutil.Process(int(line)))
    _, alive = psutil.wait_procs(processes, timeout=GRACE)
    for process in alive:
        with contextlib.suppress(psutil.NoSuchProcess):
            process.kill()
    psutil.wait_procs(alive, timeout=GRACE)


if __name__ == "__main__":
    main()
