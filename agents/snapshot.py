"""Snapshots of a workspace, and fresh copies of it, made from outside while the agent may be at work.

Links are kept as links and never followed, devices, sockets and pipes are left out: whatever an agent plants,
nothing outside its workspace is read.
"""

from __future__ import annotations

import hashlib
import io
import os
import shutil
import stat
import subprocess
import tarfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

DEPTH = 64
"""Directories below this many others are left out: a tree can be made deeper than Python can walk."""

FILES = 20_000
BYTES = 64 * 1024**2
"""A snapshot's caps. Files that do not fit are left out and listed."""

SET_ID = stat.S_ISUID | stat.S_ISGID


@dataclass(frozen=True)
class Snapshot:
    """A workspace at one moment.

    Attributes:
        file: the tarball, relative to the run.
        files, size: how many files and bytes are in it.
        left_out: paths that were too large, or of no kind that can be kept.
    """

    file: str
    files: int
    size: int
    left_out: tuple[str, ...]


def take(workspace: Path, run: Path, name: str, *, limit: int = BYTES) -> Snapshot:
    """Write `snapshots/NAME.tar.gz` under `run`. Files that vanish meanwhile are left out."""
    target = run / "snapshots" / f"{name}.tar.gz"
    target.parent.mkdir(parents=True, exist_ok=True)
    count, size, left_out = 0, 0, []
    with tarfile.open(target, "w:gz", compresslevel=1) as archive:
        for path, descriptor, entry in _entries(workspace):
            info = _info(path, entry)
            room = size + entry.st_size <= limit and count < FILES
            if info is None or not room or not _add(archive, info, path, descriptor):
                left_out.append(path)
                continue
            count, size = count + 1, size + info.size
    return Snapshot(str(target.relative_to(run)), count, size, tuple(left_out[:100]))


def fresh_copy(workspace: Path, target: Path) -> tuple[str, ...]:
    """Copy a workspace whose agent is gone: files, directories and links, without set-id bits.

    Returns what could not be read, a line each.
    """

    def special(folder: str, names: list[str]) -> set[str]:
        kinds = {name: (Path(folder) / name).lstat().st_mode for name in names}
        deepest = _depth(Path(folder), workspace) >= DEPTH
        return {name for name, mode in kinds.items() if not _kept(mode) or (deepest and stat.S_ISDIR(mode))}

    failed: tuple[str, ...] = ()
    workspace.chmod(0o700)
    try:
        shutil.copytree(workspace, target, symlinks=True, ignore=special)
    except shutil.Error as error:
        failed = tuple(str(reason) for _, _, reason in error.args[0])
    for folder, _, names in os.walk(target):
        for name in names:
            path = Path(folder) / name
            mode = path.lstat().st_mode
            if stat.S_ISREG(mode) and mode & SET_ID:
                path.chmod(stat.S_IMODE(mode) & ~SET_ID)
    return failed


def read_plain(path: Path, limit: int = 1 << 20) -> bytes | None:
    """A regular file's first bytes; None for anything else. Neither follows a link nor waits on a pipe."""
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    except OSError:
        return None
    try:
        return os.read(descriptor, limit) if stat.S_ISREG(os.fstat(descriptor).st_mode) else None
    finally:
        os.close(descriptor)


def digest(data: bytes) -> str:
    """Hex sha256."""
    return hashlib.sha256(data).hexdigest()


def _entries(workspace: Path) -> Iterator[tuple[str, int, os.stat_result]]:
    """Paths relative to the workspace, each with a descriptor of its directory."""
    for folder, folders, names, descriptor in os.fwalk(workspace, follow_symlinks=False):
        links = [name for name in folders if (Path(folder) / name).is_symlink()]
        if _depth(Path(folder), workspace) >= DEPTH:
            folders.clear()
        for name in sorted([*names, *links]):
            try:
                entry = os.stat(name, dir_fd=descriptor, follow_symlinks=False)
            except OSError:
                continue
            yield str((Path(folder) / name).relative_to(workspace)), descriptor, entry


def remove(folder: Path) -> None:
    """Remove a directory tree, however deep; what cannot be removed stays."""
    subprocess.run(["rm", "-rf", "--", str(folder)], check=False, stderr=subprocess.DEVNULL)


def _depth(folder: Path, top: Path) -> int:
    return len(folder.parts) - len(top.parts)


def _kept(mode: int) -> bool:
    return stat.S_ISREG(mode) or stat.S_ISLNK(mode) or stat.S_ISDIR(mode)


def _info(path: str, entry: os.stat_result) -> tarfile.TarInfo | None:
    if not _kept(entry.st_mode):
        return None
    info = tarfile.TarInfo(path)
    info.mode, info.mtime = stat.S_IMODE(entry.st_mode) & ~SET_ID, entry.st_mtime
    if stat.S_ISLNK(entry.st_mode):
        info.type = tarfile.SYMTYPE
    else:
        info.size = entry.st_size
    return info


def _add(archive: tarfile.TarFile, info: tarfile.TarInfo, path: str, folder: int) -> bool:
    name = Path(path).name
    try:
        if info.issym():
            info.linkname = os.readlink(name, dir_fd=folder)
            archive.addfile(info)
            return True
        descriptor = os.open(name, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK, dir_fd=folder)
    except OSError:
        return False
    with os.fdopen(descriptor, "rb") as file:
        data = file.read(info.size)
    info.size = len(data)
    archive.addfile(info, io.BytesIO(data))
    return True
