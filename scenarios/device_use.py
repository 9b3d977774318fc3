"""What the GPUs took while a measurement was scored: peak memory, power, energy, energy per output token."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict
from types import TracebackType
from typing import Any, Self

from engines.device_meter import DeviceMeter
from engines.held import Held
from engines.host import Device, this_host
from engines.nvml import NVML, Inventory
from engines.server import MEMORY_SLACK, SETTLE
from scenarios.ledger import Ledger


class Gauge:
    """Meters devices from the start of the first scored stage to the end of the last one.

    Attributes:
        read: what each device took, as a measurement's provenance holds it; empty where nothing was measured.
    """

    def __init__(
        self, scored: Collection[str], devices: tuple[Device, ...], inventory: Inventory = NVML
    ) -> None:
        self._scored = frozenset(scored)
        self._meter = DeviceMeter(devices, inventory)
        self._running = False
        self.read: list[dict[str, Any]] = []

    def stage(self, name: str) -> None:
        """A stage of load begins, and with it the one before has ended."""
        if name in self._scored:
            self._running = True
            self._meter.start()
        else:
            self._end()

    def _end(self) -> None:
        if self._running:
            self._running = False
            self.read = [asdict(usage) for usage in self._meter.stop()]

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._end()


@contextmanager
def watched(ledger: Ledger, inventory: Inventory = NVML) -> Iterator[None]:
    """Record the memory of this machine's GPUs, and who computes there, before a run and after its end.

    Two `devices` events, `when` being `start` and `end`; none on a machine without GPUs.
    """
    host = this_host(inventory)
    if host.kind == "cpu":
        yield
        return
    held = Held.before(host.devices, inventory)
    ledger.append("devices", when="start", **held.to_json())
    try:
        yield
    finally:
        held = held.settled(inventory, MEMORY_SLACK, SETTLE)
        ledger.append("devices", when="end", **held.to_json())


def taken(devices: Sequence[Mapping[str, Any]], output_tokens: float) -> dict[str, float]:
    """Metrics over all devices: bytes (the fullest device), W and J (summed), J per output token."""
    if not devices:
        return {}
    figures = {"memory_peak_bytes": float(max(one["memory_peak"] for one in devices))}
    figures |= _summed("power_mean_w", devices, "power_mean")
    figures |= _summed("power_max_w", devices, "power_max")
    figures |= _summed("energy_j", devices, "energy")
    if "energy_j" in figures and output_tokens:
        figures["energy_j_per_output_token"] = figures["energy_j"] / output_tokens
    return figures


def _summed(name: str, devices: Sequence[Mapping[str, Any]], field: str) -> dict[str, float]:
    """The sum, if every device has the figure."""
    values = [one[field] for one in devices if one[field] is not None]
    return {name: float(sum(values))} if len(values) == len(devices) else {}
