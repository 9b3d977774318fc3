"""The engines' compile caches of this machine, copied into a box: an agent begins where a search begins.

A search starts its servers with the user's own home, in which kernels and graphs compiled before are kept;
torch keeps what it compiles in a temporary directory named after the user. A box has a home, a temporary
directory and a user of its own, so they are copied there, for the agent and for final scoring alike.
"""

from __future__ import annotations

import getpass
import shutil
import tempfile
from pathlib import Path

KEPT = (
    *(".cache/vllm", ".cache/flashinfer", ".cache/sglang", ".cache/torch/kernels", ".cache/torch_extensions"),
    *(".cache/deep_gemm", ".triton/cache", ".nv/ComputeCache"),
)

LIMIT = 8 * 1024**3
"""Bytes; a larger cache is left out."""


def copy_caches(source: Path, home: Path) -> tuple[str, ...]:
    """Copy what there is below `source` into `home`, unless it is there. Returns what was copied."""
    return tuple(name for name in KEPT if _copied(source / name, home / name))


def copy_torch_cache(temporary: Path, *, user: str, source: Path | None = None) -> bool:
    """Copy what torch compiled for this machine's user to where it looks as `user` under `temporary`."""
    mine = (source or Path(tempfile.gettempdir())) / f"torchinductor_{getpass.getuser()}"
    return _copied(mine, temporary / f"torchinductor_{user}")


def _copied(cache: Path, target: Path) -> bool:
    if not cache.is_dir() or target.exists() or _size(cache) > LIMIT:
        return False
    shutil.copytree(cache, target, symlinks=True, ignore_dangling_symlinks=True)
    return True


def _size(folder: Path) -> int:
    return sum(path.lstat().st_size for path in folder.rglob("*") if not path.is_dir())
