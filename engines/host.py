"""What this machine is: its devices, cores and memory."""

from __future__ import annotations

import math
import os
import platform
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Literal

import psutil

from engines.nvml import NVML, Card, Inventory, Tenant


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


def this_host(inventory: Inventory = NVML) -> Host:
    """The machine as this process may use it: visible GPUs, else its CPU as the one device; cgroup limits."""
    memory, cores = _memory(), _cores()
    with inventory.session() as there:
        selection = os.environ.get("CUDA_VISIBLE_DEVICES")
        devices = tuple(_visible(inventory, selection)) if there else ()
        driver = inventory.driver()
    return Host(devices or (Device(0, "cpu", _cpu_name(), memory),), cores, memory, driver)


def memory_used(devices: tuple[Device, ...], inventory: Inventory = NVML) -> tuple[int | None, ...]:
    """Bytes in use on each device, by whomever; None where it cannot be told.

    0 for a CPU, whose memory ends with its processes.
    """
    with inventory.session():
        readings = [inventory.reading(device.uuid) if device.uuid else None for device in devices]
    return tuple(
        (0 if device.kind == "cpu" else None) if reading is None else reading.memory
        for device, reading in zip(devices, readings, strict=True)
    )


def tenants(devices: tuple[Device, ...], inventory: Inventory = NVML) -> tuple[tuple[Tenant, ...], ...]:
    """The processes that NVML sees computing on each of these devices (a container may hide them)."""
    with inventory.session():
        return tuple(inventory.tenants(device.uuid) if device.uuid else () for device in devices)


def compute_processes(devices: tuple[Device, ...], inventory: Inventory = NVML) -> frozenset[int]:
    """Process ids that NVML sees computing on these devices (a container may hide them)."""
    return frozenset(each.pid for some in tenants(devices, inventory) for each in some)


def _visible(inventory: Inventory, selection: str | None) -> Iterator[Device]:
    """The devices that a value of $CUDA_VISIBLE_DEVICES names; as CUDA does, it ends at the first unknown."""
    cards = inventory.cards()
    chosen = [str(i) for i in range(len(cards))] if selection is None else selection.split(",")
    for index, selector in enumerate(item.strip() for item in chosen):
        card = _selected(inventory, cards, selector)
        if card is None:
            return
        yield Device(index, "cuda", card.name, card.memory, card.uuid, selector)


def _selected(inventory: Inventory, cards: tuple[Card, ...], selector: str) -> Card | None:
    """The GPU of an index, a UUID or the start of one."""
    if selector.isdigit():
        return cards[int(selector)] if int(selector) < len(cards) else None
    if selector.startswith("MIG-"):
        return inventory.card(selector)
    named = [card for card in cards if selector and card.uuid.startswith(selector)]
    return named[0] if len(named) == 1 else None


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
