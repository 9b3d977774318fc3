"""The devices of a server: their memory before its launch and after its end, and who else computes there."""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

from engines.host import Device, memory_used, tenants
from engines.nvml import Inventory, Tenant


@dataclass(frozen=True)
class Held:
    """Memory in bytes, one figure a device; None where it could not be read.

    Attributes:
        memory_before, memory_after: before the launch, and when the teardown was confirmed (or given up).
        others: who computed on each device before the launch.
        others_after: the same at the end.
    """

    devices: tuple[Device, ...] = ()
    memory_before: tuple[int | None, ...] = ()
    memory_after: tuple[int | None, ...] = ()
    others: tuple[tuple[Tenant, ...], ...] = ()
    others_after: tuple[tuple[Tenant, ...], ...] = ()

    @classmethod
    def before(cls, devices: tuple[Device, ...], inventory: Inventory) -> Held:
        """As the devices are now, before a launch."""
        with inventory.session():
            return cls(devices, memory_used(devices, inventory), others=tenants(devices, inventory))

    def after(self, inventory: Inventory) -> Held:
        """With how the devices are now."""
        with inventory.session():
            memory = memory_used(self.devices, inventory)
            return replace(self, memory_after=memory, others_after=tenants(self.devices, inventory))

    def settled(self, inventory: Inventory, slack: int, seconds: float) -> Held:
        """As `after`, once no device holds more than before, or after some seconds."""
        deadline = time.monotonic() + seconds
        while (now := self.after(inventory)).grown(slack) and time.monotonic() < deadline:
            time.sleep(0.05)
        return now

    def grown(self, slack: int) -> list[int]:
        """Devices that hold over `slack` bytes more than before and show nobody else who could.

        Where somebody else computes, the growth may be theirs.
        """
        rows = zip(self.devices, self.memory_before, self.memory_after, self.others_after, strict=True)
        return [
            device.index
            for device, before, now, others in rows
            if not others and before is not None and now is not None and now > before + slack
        ]

    def to_json(self) -> Mapping[str, Any]:
        """A plain dict for the ledger; empty without devices."""
        if not self.devices:
            return {}
        return {
            "devices": [device.uuid or device.index for device in self.devices],
            "memory_before": list(self.memory_before),
            "memory_after": list(self.memory_after),
            "others_before": [[_told(one) for one in some] for some in self.others],
            "others_after": [[_told(one) for one in some] for some in self.others_after],
        }


def _told(tenant: Tenant) -> dict[str, int | None]:
    return {"pid": tenant.pid, "memory": tenant.memory}
