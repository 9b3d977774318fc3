"""What devices took in an interval: peak memory, power, energy. A thread looks at them now and then."""

from __future__ import annotations

import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Literal

from engines.host import Device
from engines.nvml import NVML, Inventory, Reading

PERIOD = 0.2
"""Seconds between two looks."""


@dataclass(frozen=True)
class Usage:
    """One device over an interval.

    Attributes:
        seconds, looks: length of the interval, and how often the device was looked at.
        memory_peak: bytes in use at most, by whomever.
        power_mean, power_max: W; the mean is energy over time.
        energy: J; `energy_from` says whether it is the device's own counter or power summed over time.
    """

    device: int
    name: str
    uuid: str | None
    seconds: float
    looks: int
    memory_peak: int
    power_mean: float | None = None
    power_max: float | None = None
    energy: float | None = None
    energy_from: Literal["counter", "power"] | None = None


Moment = tuple[float, Reading]
"""When (monotonic seconds), and what was read."""


@dataclass
class DeviceMeter:
    """Looks at devices every `period` seconds from `start` to `stop`, in a thread of its own.

    Without a driver, or for devices that are no GPUs, it measures nothing and costs nothing.
    """

    devices: tuple[Device, ...]
    inventory: Inventory = NVML
    period: float = PERIOD
    _moments: dict[int, list[Moment]] = field(default_factory=dict)
    _thread: threading.Thread | None = None
    _over: threading.Event = field(default_factory=threading.Event)

    def start(self) -> None:
        """Begin; a meter runs once, so that later calls do nothing."""
        watched = tuple(device for device in self.devices if device.uuid)
        if self._thread is not None or not watched:
            return
        with self.inventory.session():
            self._look(watched)
        self._thread = threading.Thread(target=self._watch, args=(watched,), name="device-meter", daemon=True)
        self._thread.start()

    def stop(self) -> tuple[Usage, ...]:
        """End, if it runs, and say what each device took; a device that could not be read is left out."""
        if self._thread is not None:
            self._over.set()
            self._thread.join()
        return tuple(
            _usage(device, self._moments[device.index])
            for device in self.devices
            if len(self._moments.get(device.index, ())) > 1
        )

    def _watch(self, watched: tuple[Device, ...]) -> None:
        with self.inventory.session():
            while not self._over.wait(self.period):
                self._look(watched)
            self._look(watched)

    def _look(self, watched: tuple[Device, ...]) -> None:
        for device in watched:
            reading = self.inventory.reading(str(device.uuid))
            if reading is not None:
                self._moments.setdefault(device.index, []).append((time.monotonic(), reading))


def _usage(device: Device, moments: Sequence[Moment]) -> Usage:
    seconds = moments[-1][0] - moments[0][0]
    energy, source = _energy(moments)
    powers = [reading.power for _, reading in moments if reading.power is not None]
    return Usage(
        device=device.index,
        name=device.name,
        uuid=device.uuid,
        seconds=seconds,
        looks=len(moments),
        memory_peak=max(reading.memory for _, reading in moments),
        power_mean=energy / seconds if energy is not None and seconds > 0 else None,
        power_max=max(powers, default=None),
        energy=energy,
        energy_from=source,
    )


def _energy(moments: Sequence[Moment]) -> tuple[float | None, Literal["counter", "power"] | None]:
    """J between the first moment and the last: the counter's difference, or power by the trapezoidal rule."""
    before, after = moments[0][1].energy, moments[-1][1].energy
    if before is not None and after is not None and after >= before:
        return after - before, "counter"
    known = [(at, reading.power) for at, reading in moments if reading.power is not None]
    if len(known) < 2:
        return None, None
    return sum((b - a) * (p + q) / 2 for (a, p), (b, q) in pairwise(known)), "power"
