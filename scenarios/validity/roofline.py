"""The least time that a device needs for a model: peak bandwidth and peak arithmetic, nothing else.

The bounds are loose on purpose: weights of half a byte a parameter, the fastest arithmetic that the device
has. Whoever is quicker has not run the model.
"""

from __future__ import annotations

from engines.contract import Model
from engines.host import Host
from engines.model_shape import shape_of
from scenarios.validity.facts import Roofline

GPUS: dict[str, tuple[float, float]] = {
    "B200": (8.0e12, 9.0e15),
    "H200": (4.8e12, 2.0e15),
    "GH200": (4.9e12, 2.0e15),
    "H100 NVL": (3.9e12, 1.7e15),
    "H100 PCIe": (2.0e12, 1.6e15),
    "H100": (3.35e12, 2.0e15),
    "A100": (2.04e12, 0.63e15),
    "L40S": (0.87e12, 0.74e15),
    "L4": (0.30e12, 0.25e15),
    "RTX 4090": (1.01e12, 0.67e15),
    "RTX 5090": (1.79e12, 1.7e15),
}
"""Name -> bytes/s and operations/s (densest eight- or four-bit format, no sparsity). Source: data sheets."""

CORE_BANDWIDTH = 50e9
CORE_OPERATIONS = 8e12
"""Of one CPU core, at most: a share of a server's memory channels, and a matrix unit."""
BYTES_PER_PARAMETER = 0.5


def roofline(model: Model, host: Host) -> Roofline | None:
    """The bound of this host; None for a device or a model that is not known."""
    peaks, shape = _peaks(host), shape_of(model)
    if peaks is None or shape is None or not shape.weight_bytes:
        return None
    bandwidth, operations = peaks
    parameters = shape.weight_bytes / shape.dtype_bytes
    return Roofline(
        step=parameters * BYTES_PER_PARAMETER / bandwidth,
        prefill_token=2 * parameters / operations,
        device=host.devices[0].name,
    )


def _peaks(host: Host) -> tuple[float, float] | None:
    if host.kind == "cpu":
        return CORE_BANDWIDTH * host.cores, CORE_OPERATIONS * host.cores
    for name, (bandwidth, operations) in GPUS.items():
        if all(word in host.devices[0].name for word in name.split()):
            return bandwidth * len(host.devices), operations * len(host.devices)
    return None
