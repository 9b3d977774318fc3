#!/usr/bin/env python3
"""Unpack a bundle made by `ceiling bundle`, on a host that reaches nothing. Standard library only.

    python3 unpack.py TARGET [--from DIR]... [--keep]

Several bundles may go into one TARGET, one after another: an engine that is carried later joins the others.
Finds the parts (beside this file and in every DIR), checks them, joins what is in them, installs each
environment into a directory of its own below TARGET/envs, byte-compiles it, and writes TARGET/env.sh and
TARGET/bin/ceiling. Then:

    . TARGET/env.sh && ceiling doctor

Run again after an interruption: an environment that is finished stays. Exit 0 done, 2 something is missing.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import shlex
import shutil
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, BinaryIO

CHUNK = 1 << 20
HERE = Path(__file__).resolve().parent


class Trouble(Exception):
    """The bundle cannot be unpacked. The message is one line that names the fix."""


def main() -> None:
    """Unpack, or say in one line why not."""
    parser = argparse.ArgumentParser(description="Unpack a bundle made by `ceiling bundle`.")
    parser.add_argument("target", type=Path, help="directory that gets everything")
    parser.add_argument("--from", dest="places", type=Path, action="append", default=[], metavar="DIR",
                        help="where parts are, besides the directory of this file (repeat it)")  # fmt: skip
    parser.add_argument("--keep", action="store_true", help="keep the wheels once they are installed")
    given = parser.parse_args()
    try:
        unpack(given.target.absolute(), [HERE, *given.places], keep=given.keep)
    except Trouble as trouble:
        print(f"error: {trouble}", file=sys.stderr)
        sys.exit(2)


def unpack(target: Path, places: list[Path], *, keep: bool) -> None:
    """Everything, below `target`. Raises Trouble."""
    manifest = json.loads((HERE / "manifest.json").read_text())
    running = ".".join(map(str, sys.version_info[:2]))
    if manifest["python"] != running:
        raise Trouble(
            f"the wheels are for Python {manifest['python']} and this is {running}: use another python3"
        )
    parts = checked(manifest["parts"], places)
    started = time.monotonic()
    extract(manifest, parts, target)
    say(f"extracted {len(manifest['files'])} files", started)
    with ThreadPoolExecutor() as pool:
        list(pool.map(lambda name: install(name, target), manifest["environments"]))
    lay_over(target)
    write_launchers(remember(manifest, target), target)
    if not keep:
        shutil.rmtree(target / "wheels", ignore_errors=True)
    print(f"done: . {shlex.quote(str(target / 'env.sh'))} && ceiling doctor")


def checked(wanted: list[dict[str, Any]], places: list[Path]) -> list[Path]:
    """The parts in order, each with the right checksum. Raises Trouble, which names those to carry again."""
    started = time.monotonic()
    found = {part["name"]: where(part["name"], places) for part in wanted}
    missing = [name for name, path in found.items() if path is None]
    if missing:
        raise Trouble(
            f"{len(missing)} parts are missing ({', '.join(missing[:8])}): put them beside unpack.py"
        )
    with ThreadPoolExecutor() as pool:
        sums = list(pool.map(lambda part: sha256(found[part["name"]]), wanted))
    damaged = [part["name"] for part, got in zip(wanted, sums, strict=True) if got != part["sha256"]]
    if damaged:
        raise Trouble(f"parts are damaged ({', '.join(damaged[:8])}): carry them again")
    say(f"checked {len(wanted)} parts", started)
    return [path for path in found.values() if path is not None]


def where(name: str, places: list[Path]) -> Path | None:
    """The part of that name in one of the places or in a `parts` below it."""
    paths = (place / below / name for place in places for below in (".", "parts"))
    return next((path for path in paths if path.is_file()), None)


def sha256(path: Path | None) -> str:
    """Hex digest of a file."""
    digest = hashlib.sha256()
    with Path(str(path)).open("rb") as file:
        while chunk := file.read(CHUNK):
            digest.update(chunk)
    return digest.hexdigest()


class Stream:
    """The parts as one file."""

    def __init__(self, parts: list[Path]) -> None:
        self._left = list(parts)
        self._open: BinaryIO | None = None

    def copy(self, size: int, to: BinaryIO) -> str:
        """The next `size` bytes into `to`; their sha256. Raises Trouble where the parts end too early."""
        digest = hashlib.sha256()
        while size:
            chunk = self._read(min(size, CHUNK))
            digest.update(chunk)
            to.write(chunk)
            size -= len(chunk)
        return digest.hexdigest()

    def _read(self, size: int) -> bytes:
        while True:
            chunk = self._open.read(size) if self._open else b""
            if chunk:
                return chunk
            if self._open:
                self._open.close()
            if not self._left:
                raise Trouble("the parts end too early: carry manifest.json and all parts of one bundle")
            self._open = self._left.pop(0).open("rb")


def extract(manifest: dict[str, Any], parts: list[Path], target: Path) -> None:
    """Write every file. One content that several files have is in the parts once."""
    paths: dict[str, list[Path]] = {}
    for file in manifest["files"]:
        paths.setdefault(file["sha256"], []).append(target / file["path"])
    stream = Stream(parts)
    for blob in manifest["blobs"]:
        first, *others = paths[blob["sha256"]]
        first.parent.mkdir(parents=True, exist_ok=True)
        with first.open("wb") as to:
            if stream.copy(blob["bytes"], to) != blob["sha256"]:
                raise Trouble(f"{first.name} is damaged: carry manifest.json and all parts of one bundle")
        for other in others:
            other.parent.mkdir(parents=True, exist_ok=True)
            other.unlink(missing_ok=True)
            os.link(first, other)


def install(name: str, target: Path) -> None:
    """One environment: its wheels into TARGET/envs/NAME, which appears when it is whole. Raises Trouble."""
    place, fresh = target / "envs" / name, target / "envs" / f".{name}.new"
    if place.is_dir():
        print(f"{name}: is there already", flush=True)
        return
    started = time.monotonic()
    shutil.rmtree(fresh, ignore_errors=True)
    wheels = sorted(map(str, (target / "wheels" / name).glob("*.whl")))
    pip = [sys.executable, "-m", "pip", "install", "--quiet", "--no-index", "--no-deps", "--no-compile"]
    pip += ["--no-cache-dir", "--disable-pip-version-check", "--target", str(fresh), *wheels]
    done = subprocess.run(pip, stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False)
    if done.returncode:
        last = (done.stderr.strip().splitlines() or [f"exit code {done.returncode}"])[-1]
        raise Trouble(f"pip cannot install {name}: {last}")
    # Some packages carry templates that are no Python: those stay as they are.
    compileall = [sys.executable, "-m", "compileall", "-q", "-j", "0", str(fresh)]
    subprocess.run(compileall, stdin=subprocess.DEVNULL, capture_output=True, check=False)
    fresh.rename(place)
    say(f"{name}: installed {len(wheels)} wheels", started)


def lay_over(target: Path) -> None:
    """Files that were carried for an environment as they are, such as libraries that it would build."""
    for overlay in sorted((target / "overlays").glob("*")):
        shutil.copytree(overlay, target / "envs" / overlay.name, dirs_exist_ok=True)
        print(
            f"{overlay.name}: laid {sum(each.is_file() for each in overlay.rglob('*'))} files over it",
            flush=True,
        )
    shutil.rmtree(target / "overlays", ignore_errors=True)


def remember(manifest: dict[str, Any], target: Path) -> list[dict[str, Any]]:
    """What every bundle unpacked here holds, this one last; kept in TARGET/bundles.json."""
    kept = target / "bundles.json"
    earlier = json.loads(kept.read_text()) if kept.is_file() else []
    mine = {name: manifest[name] for name in ("environments", "engines", "stands_for")}
    held = [each for each in earlier if each != mine] + [mine]
    kept.write_text(json.dumps(held, indent=1) + "\n")
    return held


def write_launchers(held: list[dict[str, Any]], target: Path) -> None:
    """TARGET/env.sh, to be sourced, and TARGET/bin/ceiling, which sources it itself.

    An engine that was packed comes before one that merely stands for it, and the first one that stands for
    another keeps doing so.
    """
    envs = target / "envs"
    places = {engine: envs / engine for each in held for engine in each["engines"]}
    for each in held:
        for engine, place in each["stands_for"].items():
            places.setdefault(engine, envs / place)
    lines = [
        f"export CEILING_CACHE={shlex.quote(str(target / 'cache'))}",
        f'export CEILING_HOME="${{CEILING_HOME:-{target / "home"}}}"',
        "export HF_HUB_OFFLINE=1",
    ]
    for engine, place in places.items():
        lines.append(f"export CEILING_{engine.upper()}_PYTHON={shlex.quote(sys.executable)}")
        lines.append(f"export CEILING_{engine.upper()}_ENV={shlex.quote(f'PYTHONPATH={place}')}")
    if any("harness" in each["environments"] for each in held):
        lines.append(f'export PATH={shlex.quote(str(target / "bin"))}:"$PATH"')
        script = target / "bin" / "ceiling"
        script.parent.mkdir(exist_ok=True)
        start = f"{shlex.quote(sys.executable)} -P -c 'from studies.cli import main; main()'"
        script.write_text(
            f"#!/bin/sh\n. {shlex.quote(str(target / 'env.sh'))}\n"
            f'PYTHONPATH={shlex.quote(str(envs / "harness"))} exec {start} "$@"\n'
        )
        script.chmod(0o755)
    (target / "env.sh").write_text("\n".join(lines) + "\n")


def say(what: str, started: float) -> None:
    """A line of progress."""
    print(f"{what} in {time.monotonic() - started:.0f} s", flush=True)


if __name__ == "__main__":
    main()
