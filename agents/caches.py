"""The engines' compile caches of this machine, copied into a box: an agent begins where a search begins.

A search starts its servers with the user's own home, in which kernels and graphs compiled before are kept. A
box has a home of its own, so they are copied there, for the agent and for final scoring alike.
"""

from __future__ import annotations

import shutil
from pathlib import Path

KEPT = (
    *(".cache/vllm", ".cache/flashinfer", ".cache/sglang", ".cache/torch/kernels", ".cache/torch_extensions"),
    *(".cache/deep_gemm", ".triton/cache", ".nv/ComputeCache"),
)

LIMIT = 8 * 1024**3
"""Bytes; a larger cache is left out."""


def copy_caches(source: Path, home: Path) -> tuple[str, ...]:
    """Copy what there is below `source` into `home`, unless it is there. Returns what was copied."""
    copied = []
    for name in KEPT:
        cache, target = source / name, home / name
        if cache.is_dir() and not target.exists() and _size(cache) <= LIMIT:
            shutil.copytree(cache, target, symlinks=True, ignore_dangling_symlinks=True)
            copied.append(name)
    return tuple(copied)


def _size(folder: Path) -> int:
    return sum(path.lstat().st_size for path in folder.rglob("*") if not path.is_dir())
