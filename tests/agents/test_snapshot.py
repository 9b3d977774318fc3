"""Snapshots and fresh copies: complete, capped, and blind to what an agent plants."""

from __future__ import annotations

import os
import stat
import tarfile
from pathlib import Path

import pytest

from agents.snapshot import DEPTH, fresh_copy, read_plain, remove, take


@pytest.fixture
def workspace(tmp_path: Path) -> Path:
    """A workspace with the odd things that an agent could leave in it."""
    secret = tmp_path / "secret"
    secret.write_text("held out")
    top = tmp_path / "workspace"
    (top / "deep" / "er").mkdir(parents=True)
    (top / "start_server.sh").write_text("exec server\n")
    (top / "deep" / "er" / "file").write_bytes(b"x" * 1000)
    (top / "link").symlink_to(secret)
    (top / "dirlink").symlink_to(tmp_path)
    os.mkfifo(top / "pipe")
    (top / "set-id").write_text("#!/bin/sh\n")
    (top / "set-id").chmod(0o4755)
    return top


def test_a_snapshot_holds_files_and_links(workspace: Path, tmp_path: Path) -> None:
    snapshot = take(workspace, tmp_path / "run", "000")
    with tarfile.open(tmp_path / "run" / snapshot.file) as archive:
        members = {member.name: member for member in archive}
        script = archive.extractfile("start_server.sh")
        assert script is not None and script.read() == b"exec server\n"
    assert set(members) == {"start_server.sh", "deep/er/file", "link", "dirlink", "set-id"}
    assert members["link"].issym() and members["dirlink"].issym()
    assert not members["set-id"].mode & stat.S_ISUID
    assert snapshot.left_out == ("pipe",)
    assert snapshot.files == 5


def test_a_snapshot_is_capped(workspace: Path, tmp_path: Path) -> None:
    snapshot = take(workspace, tmp_path / "run", "000", limit=500)
    assert "deep/er/file" in snapshot.left_out
    assert snapshot.size < 500


def test_a_fresh_copy_follows_nothing(workspace: Path, tmp_path: Path) -> None:
    copy = tmp_path / "copy"
    assert fresh_copy(workspace, copy) == ()
    assert (copy / "start_server.sh").read_text() == "exec server\n"
    assert (copy / "link").is_symlink() and (copy / "dirlink").is_symlink()
    assert not (copy / "pipe").exists()
    assert not (copy / "set-id").stat().st_mode & stat.S_ISUID


def test_a_bottomless_tree_is_cut_off(tmp_path: Path) -> None:
    top = tmp_path / "workspace"
    (top / "/".join("d" * 200)).mkdir(parents=True)
    (top / "file").write_text("kept")
    (top / "/".join("d" * 200) / "deepest").touch()
    snapshot = take(top, tmp_path / "run", "000")
    assert fresh_copy(top, tmp_path / "copy") == ()
    assert (tmp_path / "copy" / "file").read_text() == "kept"
    assert sum(1 for _ in (tmp_path / "copy").rglob("d")) == DEPTH
    assert snapshot.files == 1
    remove(top)
    assert not top.exists()


def test_only_plain_files_are_read(workspace: Path) -> None:
    assert read_plain(workspace / "start_server.sh") == b"exec server\n"
    assert [read_plain(workspace / name) for name in ("link", "pipe", "deep", "none")] == [None] * 4
