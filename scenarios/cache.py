"""The user's cache: what was fetched or derived once is kept there, whole or not at all."""

from __future__ import annotations

import fcntl
import hashlib
import os
import tempfile
from collections.abc import Callable
from pathlib import Path

import platformdirs

STAMP = ".stamp"


def home() -> Path:
    """$CEILING_CACHE, or the user's cache directory for `ceiling`."""
    return Path(os.environ.get("CEILING_CACHE") or platformdirs.user_cache_dir("ceiling")).absolute()


def sha256(path: Path) -> str:
    """Hex digest of a file."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def once(target: Path, stamp: str, build: Callable[[Path], None]) -> Path:
    """The directory `target`, made by `build(directory)` unless one with the same stamp is there.

    Built beside it and renamed, under a lock: a killed build leaves nothing, two at once build one.
    """
    target.parent.mkdir(parents=True, exist_ok=True)
    if _stamped(target) == stamp:
        return target
    with (target.parent / f".{target.name}.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if _stamped(target) != stamp:
            _build(target, stamp, build)
    return target


def _build(target: Path, stamp: str, build: Callable[[Path], None]) -> None:
    with tempfile.TemporaryDirectory(dir=target.parent, prefix=f".{target.name}-") as scratch:
        fresh = Path(scratch) / "new"
        fresh.mkdir()
        build(fresh)
        (fresh / STAMP).write_text(stamp, encoding="utf-8")
        if target.exists():
            target.rename(Path(scratch) / "old")
        fresh.rename(target)


def _stamped(target: Path) -> str | None:
    path = target / STAMP
    return path.read_text(encoding="utf-8") if path.is_file() else None
