"""Ports on loopback that two servers of one machine never share."""

from __future__ import annotations

import contextlib
import fcntl
import os
import random
import socket
import tempfile
from collections.abc import Iterator
from pathlib import Path

from engines.contract import EngineError

LOOPBACK = "127.0.0.1"

_SPAN = 8192
"""Ports below the range of outgoing connections from which ours are drawn."""


@contextlib.contextmanager
def held_port() -> Iterator[int]:
    """A free port on loopback, kept from every other Ceiling process by a locked file while the block runs.

    It lies below the range that the kernel gives to outgoing connections: while an engine imports for a
    minute, no client's socket can take it. Raises EngineError if none is free.
    """
    first = _first_outgoing()
    ports = list(range(max(1024, first - _SPAN), first))
    random.SystemRandom().shuffle(ports)
    for port in ports:
        lock = _locked(port)
        if lock is None:
            continue
        try:
            if is_free(port):
                yield port
                return
        finally:
            _unlocked(port, lock)
    raise EngineError(f"no port between {ports and min(ports)} and {first} is free on {LOOPBACK}")


def is_free(port: int) -> bool:
    """Whether a server could listen on the port now (connections that linger after one do not matter)."""
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((LOOPBACK, port))
        except OSError:
            return False
    return True


def answers(port: int, timeout: float = 0.5) -> bool:
    """Whether something accepts connections on the port."""
    try:
        with socket.create_connection((LOOPBACK, port), timeout):
            return True
    except OSError:
        return False


def _first_outgoing() -> int:
    try:
        low = int(Path("/proc/sys/net/ipv4/ip_local_port_range").read_text().split()[0])
    except (OSError, ValueError):
        return 32768
    return low if low > 1024 + _SPAN else 32768


def _lock_path(port: int) -> Path:
    return Path(tempfile.gettempdir()) / f"ceiling-ports-{os.getuid()}" / str(port)


def _locked(port: int) -> int | None:
    """A descriptor that holds the port's lock file, None if another process (or thread) holds it."""
    path = _lock_path(port)
    path.parent.mkdir(mode=0o700, exist_ok=True)
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        if os.path.samestat(os.fstat(descriptor), path.stat()):
            return descriptor
    except (BlockingIOError, FileNotFoundError):
        os.close(descriptor)
        return None
    os.close(descriptor)
    return None


def _unlocked(port: int, descriptor: int) -> None:
    _lock_path(port).unlink(missing_ok=True)
    os.close(descriptor)
