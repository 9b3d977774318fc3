"""What this machine is: its devices, cores and memory."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal


@dataclass(frozen=True)
class Device:
    """One accelerator, or the whole CPU as the one device of a machine without any. `memory` in bytes."""

    index: int
    kind: Literal["cuda", "cpu"]
    name: str
    memory: int
    uuid: str | None = None


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
