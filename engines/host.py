"""What this machine is: its devices, cores and memory."""

from __future__ import annotations

import math
import os
import platform
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Literal

import psutil
import pynvml


@dataclass(frozen=True)
class Device:
    """One accelerator, or the whole CPU as the one device of a machine without any. `memory` in bytes.

    `index` counts the devices that $CUDA_VISIBLE_DEVICES leaves visible, in its order; `uuid` names the
    physical one, `selector` is what $CUDA_VISIBLE_DEVICES must hold to select it alone.
    """

    index: int
    kind: Literal["cuda", "cpu"]
    name: str
    memory: int
    uuid: str | None = None
    selector: str | None = None


@dataclass(frozen=True)
class Host:
    """A machine. `memory` in bytes; `driver` is the GPU driver's version."""

    devices: tuple[Device, ...]
    cores: int
    memory: int
    driver: str | None = None

    @property
    def kind(self) -> Literal["cuda", "cpu"]:
        """The kind of its devices."""
        return self.devices[0].kind


def this_host() -> Host:
    """The machine as this process may use it: visible GPUs, else its CPU as the one device; cgroup limits."""
    memory, cores = _memory(), _cores()
    devices: tuple[Device, ...] = ()
    driver = None
    with nvml() as there:
        if there:
            devices = tuple(_visible(os.environ.get("CUDA_VISIBLE_DEVICES")))
            driver = str(pynvml.nvmlSystemGetDriverVersion())
    return Host(devices or (Device(0, "cpu", _cpu_name(), memory),), cores, memory, driver)


@contextmanager
def nvml() -> Iterator[bool]:
    """NVML for the length of a block; False where there is no driver. Nests, and is cheap to enter again."""
    try:
        pynvml.nvmlInit()
    except pynvml.NVMLError:
        yield False
        return
    try:
        yield True
    finally:
        pynvml.nvmlShutdown()


def memory_used(devices: tuple[Device, ...]) -> tuple[int, ...]:
    """Bytes in use on each device, by whomever; 0 for a CPU, whose memory ends with its processes."""
    with nvml() as there:
        return tuple(_used(device.uuid) if there and device.uuid else 0 for device in devices)


def compute_processes(devices: tuple[Device, ...]) -> frozenset[int]:
    """Process ids that NVML sees computing on these devices (a container may hide them)."""
    with nvml() as there:
        handles = [pynvml.nvmlDeviceGetHandleByUUID(d.uuid) for d in devices if there and d.uuid]
        return frozenset(p.pid for h in handles for p in pynvml.nvmlDeviceGetComputeRunningProcesses(h))


def _used(uuid: str) -> int:
    return int(pynvml.nvmlDeviceGetMemoryInfo(pynvml.nvmlDeviceGetHandleByUUID(uuid)).used)


def _visible(selection: str | None) -> Iterator[Device]:
    """The devices that a value of $CUDA_VISIBLE_DEVICES names; as CUDA does, it ends at the first unknown."""
    count = pynvml.nvmlDeviceGetCount()
    chosen = [str(i) for i in range(count)] if selection is None else selection.split(",")
    for index, selector in enumerate(item.strip() for item in chosen):
        handle = _handle(selector, count)
        if handle is None:
            return
        yield Device(
            index,
            "cuda",
            str(pynvml.nvmlDeviceGetName(handle)),
            int(pynvml.nvmlDeviceGetMemoryInfo(handle).total),
            str(pynvml.nvmlDeviceGetUUID(handle)),
            selector,
        )


def _handle(selector: str, count: int) -> object | None:
    """NVML's handle for an index, a UUID or the start of one."""
    if selector.isdigit():
        return pynvml.nvmlDeviceGetHandleByIndex(int(selector)) if int(selector) < count else None
    if selector.startswith("MIG-"):
        return _by_uuid(selector)
    handles = (pynvml.nvmlDeviceGetHandleByIndex(i) for i in range(count))
    named = [h for h in handles if selector and str(pynvml.nvmlDeviceGetUUID(h)).startswith(selector)]
    return named[0] if len(named) == 1 else None


def _by_uuid(uuid: str) -> object | None:
    try:
        handle: object = pynvml.nvmlDeviceGetHandleByUUID(uuid)
    except pynvml.NVMLError:
        return None
    return handle


def _cores() -> int:
    """Cores that this process may run on: its affinity, and its cgroup's quota rounded up."""
    cores = len(os.sched_getaffinity(0))
    for directory in _cgroups("cpu"):
        quota = _quota(directory)
        if quota is not None:
            cores = min(cores, max(1, math.ceil(quota)))
    return cores


def _quota(directory: Path) -> float | None:
    words = (_text(directory / "cpu.max") or "").split()
    if not words:
        words = [_text(directory / f"cpu.cfs_{half}_us") or "" for half in ("quota", "period")]
    if len(words) == 2 and words[0].isdigit() and words[1].isdigit():
        return int(words[0]) / int(words[1])
    return None


def _memory() -> int:
    """Bytes of RAM, or of the tightest cgroup limit above this process."""
    limits = [int(psutil.virtual_memory().total)]
    for directory in _cgroups("memory"):
        for name in ("memory.max", "memory.limit_in_bytes"):
            text = _text(directory / name)
            if text is not None and text.isdigit():
                limits.append(int(text))
    return min(limits)


def _cgroups(controller: str) -> Iterator[Path]:
    """Directories of this process's cgroup and of those above it (version 2, or 1 for a controller)."""
    for line in (_text(Path("/proc/self/cgroup")) or "").splitlines():
        _, controllers, path = line.split(":", 2)
        root = Path("/sys/fs/cgroup")
        if controllers and controller not in controllers.split(","):
            continue
        root = root / controller if controllers else root
        place = root / path.lstrip("/")
        yield from (p for p in (place, *place.parents) if p == root or root in p.parents)


def _text(path: Path) -> str | None:
    try:
        return path.read_text().strip()
    except OSError:
        return None


@cache
def _cpu_name() -> str:
    for line in (_text(Path("/proc/cpuinfo")) or "").splitlines():
        key, _, value = line.partition(":")
        if key.strip() == "model name":
            return value.strip()
    return platform.processor() or platform.machine()
