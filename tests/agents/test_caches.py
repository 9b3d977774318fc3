"""Compile caches of the machine, copied into a box."""

from __future__ import annotations

from pathlib import Path

from agents.caches import copy_caches


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
