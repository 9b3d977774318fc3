"""Wheels for another machine: what pip downloads for it, and the harness's own."""

from __future__ import annotations

import base64
import hashlib
import re
import subprocess
import sys
import zipfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from engines.install import RECIPES, mend
from studies.errors import BadInput

DISTRIBUTION = "serving-ceiling"
PACKAGES = ("engines", "scenarios", "search", "agents", "studies")
BUILDS = 8
"""Packages without a wheel that are built here at most."""
KINDS = (".py", ".yaml", ".csv", ".j2", ".css", ".json", ".txt")


@dataclass(frozen=True)
class Target:
    """The machine that the wheels are for: Linux with this Python, processor and glibc (2.N)."""

    python: str
    arch: str
    glibc: int

    def options(self) -> list[str]:
        """Options of pip for it."""
        tags = [f"manylinux_2_{minor}_{self.arch}" for minor in range(self.glibc, 4, -1)]
        old = [f"manylinux{name}_{self.arch}" for name in ("2014", "2010", "1")]
        platforms = [word for tag in (*tags, *old, f"linux_{self.arch}") for word in ("--platform", tag)]
        abis = [f"cp{self.python.replace('.', '')}", "abi3", "none"]
        return [
            "--only-binary=:all:",
            *("--implementation", "cp", "--python-version", self.python),
            *(word for abi in abis for word in ("--abi", abi)),
            *platforms,
        ]

    def markers(self) -> dict[str, str]:
        """What environment markers of requirements see there."""
        return {
            "python_version": self.python,
            "python_full_version": f"{self.python}.0",
            "platform_machine": self.arch,
            "sys_platform": "linux",
            "platform_system": "Linux",
            "os_name": "posix",
            "implementation_name": "cpython",
            "platform_python_implementation": "CPython",
        }


def requirements(name: str, pins: Path | None, target: Target) -> list[str]:
    """What pip is asked for. A file of pins is the whole list: nothing but what it names is downloaded.

    What the harness depends on comes in the versions that are installed here.
    """
    if pins is not None:
        if not pins.is_file():
            raise BadInput(f"--pins {name}={pins}: there is no such file")
        return ["--no-deps", "--requirement", str(pins)]
    if name == "harness":
        return ["--no-deps", *sorted(_closure(DISTRIBUTION, target))]
    recipe = RECIPES.get((name, "gpu"))
    if recipe is None:
        known = ", ".join(engine for engine, build in RECIPES if build == "gpu")
        raise BadInput(f"--engine {name}: bundle one of {known}, or give --pins {name}=FILE")
    return [f"{recipe.package}=={recipe.version}", *recipe.beside]


def _closure(root: str, target: Target) -> Iterator[str]:
    """A distribution's dependencies for the target, all the way down, in the versions installed here."""
    seen: set[tuple[str, str]] = set()
    waiting = [(root, "")]
    while waiting:
        name, extra = waiting.pop()
        for line in _requires(name):
            needed = Requirement(line)
            if needed.marker is not None and not needed.marker.evaluate({**target.markers(), "extra": extra}):
                continue
            fresh = {(canonicalize_name(needed.name), each) for each in ("", *needed.extras)} - seen
            yield from (_pinned(each) for each, of in fresh if not of)
            seen |= fresh
            waiting += fresh


def _requires(name: str) -> list[str]:
    try:
        return metadata.requires(name) or []
    except metadata.PackageNotFoundError:
        return []


def _pinned(name: str) -> str:
    try:
        return f"{name}=={metadata.version(name)}"
    except metadata.PackageNotFoundError:
        return name


def download(name: str, wanted: Sequence[str], target: Target, into: Path, pip_args: Sequence[str]) -> None:
    """Put the wheels into a directory. Raises BadInput, which says what pip could not get.

    What has no wheel for the target is built here, which will do if it is pure Python.
    """
    built = into.parent / f"{name}-built"
    for directory in (into, built):
        directory.mkdir(parents=True, exist_ok=True)
    command = ["download", "--dest", str(into), "--find-links", str(built), *target.options(), *wanted]
    output = ""
    for _ in range(BUILDS):
        output = _pip([*command, *pip_args])
        if not output:
            return
        lacking = re.search(r"No matching distribution found for (\S+)", output)
        if lacking is None or not _build(lacking[1], built, pip_args):
            break
    errors = [line for line in output.splitlines() if line.startswith("ERROR:")]
    why = mend(output, "ceiling bundle") or (errors or output.splitlines()[-1:])[0]
    raise BadInput(f"no wheels for {name} on Python {target.python}, {target.arch}: {why}")


def _build(requirement: str, into: Path, pip_args: Sequence[str]) -> bool:
    """Whether a wheel of it was made here that any machine takes."""
    before = set(into.iterdir())
    if _pip(["wheel", "--no-deps", "--wheel-dir", str(into), requirement, *pip_args]):
        return False
    return any(wheel.name.endswith("-none-any.whl") for wheel in set(into.iterdir()) - before)


def _pip(arguments: Sequence[str]) -> str:
    """Empty when pip succeeds, else what it said."""
    command = [sys.executable, "-m", "pip", "--quiet", "--disable-pip-version-check", *arguments]
    done = subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False)
    return done.stdout + done.stderr + f"\npip ended with {done.returncode}" if done.returncode else ""


def harness_wheel(into: Path, commit: str | None) -> Path:
    """A wheel of this program as it runs here; COMMIT in its metadata says which commit that is."""
    version = metadata.version(DISTRIBUTION)
    name = DISTRIBUTION.replace("-", "_")
    info = f"{name}-{version}.dist-info"
    wheel = into / f"{name}-{version}-py3-none-any.whl"
    told = {
        f"{info}/METADATA": f"Metadata-Version: 2.1\nName: {DISTRIBUTION}\nVersion: {version}\n",
        f"{info}/WHEEL": "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n",
        f"{info}/COMMIT": f"{commit or ''}\n",
    }
    members = {**{path: file.read_bytes() for path, file in sources()}}
    members |= {path: text.encode() for path, text in told.items()}
    lines = [f"{path},{_digest(data)},{len(data)}\n" for path, data in members.items()]
    with zipfile.ZipFile(wheel, "w", zipfile.ZIP_DEFLATED) as packed:
        for path, data in members.items():
            packed.writestr(path, data)
        packed.writestr(f"{info}/RECORD", "".join(lines) + f"{info}/RECORD,,\n")
    return wheel


def sources() -> Iterator[tuple[str, Path]]:
    """Path in the wheel, and file, of everything in the harness's packages."""
    root = Path(__file__).resolve().parents[2]
    for package in PACKAGES:
        for file in sorted((root / package).rglob("*")):
            inside = file.relative_to(root)
            if file.suffix in KINDS and not re.search(r"__pycache__|(^|/)\.", inside.as_posix()):
                yield inside.as_posix(), file


def _digest(data: bytes) -> str:
    return "sha256=" + base64.urlsafe_b64encode(hashlib.sha256(data).digest()).rstrip(b"=").decode()
