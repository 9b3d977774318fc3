"""What NVML says of GPUs, behind an interface that something else can stand in for."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from typing import Any, Protocol, TypeVar

import pynvml

_T = TypeVar("_T")


@dataclass(frozen=True)
class Card:
    """A GPU, or a MIG slice of one. `memory` in bytes."""

    uuid: str
    name: str
    memory: int


@dataclass(frozen=True)
class Tenant:
    """A process that computes on a GPU; `pid` as the driver's host counts. `memory` in bytes, if told."""

    pid: int
    memory: int | None = None


@dataclass(frozen=True)
class Reading:
    """A GPU at one moment.

    Attributes:
        memory: bytes in use, by whomever.
        power: W; recent drivers give the mean of the last second.
        energy: J since the driver was loaded; None where there is no such counter.
    """

    memory: int
    power: float | None = None
    energy: float | None = None


@dataclass(frozen=True)
class Figures:
    """What a GPU can do at most, as far as its driver tells: clocks in Hz, the memory bus in bits."""

    capability: tuple[int, int]
    cores: int
    sm_clock: float
    memory_clock: float
    bus_bits: int


class Inventory(Protocol):
    """The GPUs of a machine."""

    def session(self) -> AbstractContextManager[bool]:
        """Keeps the driver's library open, so that what is asked within is cheap; False without a driver."""
        ...

    def driver(self) -> str | None:
        """Its version, None where there is none."""
        ...

    def cards(self) -> tuple[Card, ...]:
        """Every GPU, in the order of their PCI bus ids."""
        ...

    def card(self, uuid: str) -> Card | None:
        """The GPU or MIG slice of this UUID, None for an unknown one."""
        ...

    def reading(self, uuid: str) -> Reading | None:
        """Its state now, None where it cannot be read."""
        ...

    def tenants(self, uuid: str) -> tuple[Tenant, ...]:
        """Processes that compute on it (a container may hide some, or all)."""
        ...

    def figures(self, uuid: str) -> Figures | None:
        """Its limits, None where the driver does not tell them."""
        ...


class Nvml:
    """The inventory of this machine's NVIDIA driver; empty where there is none."""

    @contextmanager
    def session(self) -> Iterator[bool]:
        """Keeps NVML open. Nests, and is cheap to enter again; False where there is no driver."""
        try:
            pynvml.nvmlInit()
        except pynvml.NVMLError:
            yield False
            return
        try:
            yield True
        finally:
            pynvml.nvmlShutdown()

    def driver(self) -> str | None:
        """The driver's version."""
        with self.session() as there:
            return str(pynvml.nvmlSystemGetDriverVersion()) if there else None

    def cards(self) -> tuple[Card, ...]:
        """Every GPU, in the order of their PCI bus ids."""
        with self.session() as there:
            count = int(pynvml.nvmlDeviceGetCount()) if there else 0
            return tuple(_card(pynvml.nvmlDeviceGetHandleByIndex(index)) for index in range(count))

    def card(self, uuid: str) -> Card | None:
        """The GPU or MIG slice of this UUID."""
        return self._of(uuid, _card)

    def reading(self, uuid: str) -> Reading | None:
        """Memory in use, power and the energy counter, as far as this GPU has them."""
        return self._of(uuid, _reading)

    def tenants(self, uuid: str) -> tuple[Tenant, ...]:
        """Processes that compute on it."""
        return self._of(uuid, _tenants) or ()

    def figures(self, uuid: str) -> Figures | None:
        """Capability, cores, highest clocks and bus width."""
        return self._of(uuid, _figures)

    def _of(self, uuid: str, ask: Callable[[Any], _T]) -> _T | None:
        with self.session() as there:
            try:
                return ask(pynvml.nvmlDeviceGetHandleByUUID(uuid)) if there else None
            except pynvml.NVMLError:
                return None


NVML: Inventory = Nvml()


def _card(handle: Any) -> Card:
    return Card(
        str(pynvml.nvmlDeviceGetUUID(handle)),
        str(pynvml.nvmlDeviceGetName(handle)),
        int(pynvml.nvmlDeviceGetMemoryInfo(handle).total),
    )


def _reading(handle: Any) -> Reading:
    power = _thousandths(pynvml.nvmlDeviceGetPowerUsage, handle)
    energy = _thousandths(pynvml.nvmlDeviceGetTotalEnergyConsumption, handle)
    return Reading(int(pynvml.nvmlDeviceGetMemoryInfo(handle).used), power, energy)


def _thousandths(ask: Callable[[Any], int], handle: Any) -> float | None:
    """A figure that NVML counts in thousandths, None where the GPU has none."""
    try:
        return ask(handle) / 1000
    except pynvml.NVMLError:
        return None


def _tenants(handle: Any) -> tuple[Tenant, ...]:
    processes = pynvml.nvmlDeviceGetComputeRunningProcesses(handle)
    return tuple(Tenant(int(each.pid), _bytes(each.usedGpuMemory)) for each in processes)


def _bytes(used: int | None) -> int | None:
    return None if used is None else int(used)


def _figures(handle: Any) -> Figures:
    major, minor = pynvml.nvmlDeviceGetCudaComputeCapability(handle)
    return Figures(
        capability=(int(major), int(minor)),
        cores=int(pynvml.nvmlDeviceGetNumGpuCores(handle)),
        sm_clock=pynvml.nvmlDeviceGetMaxClockInfo(handle, pynvml.NVML_CLOCK_SM) * 1e6,
        memory_clock=pynvml.nvmlDeviceGetMaxClockInfo(handle, pynvml.NVML_CLOCK_MEM) * 1e6,
        bus_bits=int(pynvml.nvmlDeviceGetMemoryBusWidth(handle)),
    )
