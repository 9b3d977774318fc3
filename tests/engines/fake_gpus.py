"""GPUs that are not there: an inventory whose figures a test sets."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

from engines.nvml import Card, Figures, Reading, Tenant

GIB = 1 << 30
H100_FIGURES = Figures((9, 0), 16896, 1980e6, 2619e6, 5120)
"""What NVML says of an H100 SXM with HBM3."""


@dataclass
class FakeGpu:
    """One GPU. Its energy grows by its power, unless it has no counter."""

    uuid: str
    memory: int = 1 * GIB
    power: float | None = 100.0
    counter: bool = True
    tenants: tuple[Tenant, ...] = ()
    figures: Figures | None = H100_FIGURES
    name: str = "NVIDIA H100 80GB HBM3"
    total: int = 80 * GIB
    since: float = field(default_factory=time.monotonic)


@dataclass
class FakeGpus:
    """An inventory of them. `looked` counts readings."""

    gpus: list[FakeGpu]
    looked: int = 0

    @contextmanager
    def session(self) -> Iterator[bool]:
        yield True

    def driver(self) -> str | None:
        return "580.1"

    def cards(self) -> tuple[Card, ...]:
        return tuple(Card(gpu.uuid, gpu.name, gpu.total) for gpu in self.gpus)

    def card(self, uuid: str) -> Card | None:
        return next((card for card in self.cards() if card.uuid == uuid), None)

    def reading(self, uuid: str) -> Reading | None:
        gpu = self._of(uuid)
        if gpu is None:
            return None
        self.looked += 1
        energy = (time.monotonic() - gpu.since) * (gpu.power or 0.0) if gpu.counter else None
        return Reading(gpu.memory, gpu.power, energy)

    def tenants(self, uuid: str) -> tuple[Tenant, ...]:
        gpu = self._of(uuid)
        return gpu.tenants if gpu else ()

    def figures(self, uuid: str) -> Figures | None:
        gpu = self._of(uuid)
        return gpu.figures if gpu else None

    def _of(self, uuid: str) -> FakeGpu | None:
        return next((gpu for gpu in self.gpus if gpu.uuid == uuid), None)
