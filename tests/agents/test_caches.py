"""Compile caches of the machine, copied into a box."""

from __future__ import annotations

import getpass
from pathlib import Path

from agents.caches import copy_caches, copy_torch_cache


def test_compile_caches_are_copied_once_and_nothing_else_is(tmp_path: Path) -> None:
    mine, theirs = tmp_path / "mine", tmp_path / "theirs"
    for name in (".cache/vllm/graph", ".triton/cache/kernel", ".cache/ceiling/secret", ".ssh/key"):
        (mine / name).parent.mkdir(parents=True, exist_ok=True)
        (mine / name).write_text(name)
    assert copy_caches(mine, theirs) == (".cache/vllm", ".triton/cache")
    kept = {str(path.relative_to(theirs)) for path in theirs.rglob("*") if path.is_file()}
    assert kept == {".cache/vllm/graph", ".triton/cache/kernel"}
    (mine / ".cache/vllm/graph").write_text("changed")
    assert copy_caches(mine, theirs) == ()


def test_what_torch_compiled_goes_to_the_box_s_user(tmp_path: Path) -> None:
    kernel = tmp_path / "mine" / f"torchinductor_{getpass.getuser()}" / "ab" / "kernel.so"
    kernel.parent.mkdir(parents=True)
    kernel.write_text("compiled")
    assert copy_torch_cache(tmp_path / "tmp", user="agent", source=tmp_path / "mine")
    assert (tmp_path / "tmp" / "torchinductor_agent" / "ab" / "kernel.so").read_text() == "compiled"
    assert not copy_torch_cache(tmp_path / "tmp", user="agent", source=tmp_path / "mine")
    assert not copy_torch_cache(tmp_path / "other", user="agent", source=tmp_path / "nothing")
