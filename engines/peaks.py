"""What a GPU can do at most: bytes and operations a second, from the device's own figures.

    bandwidth = memory clock x 2 transfers a cycle x bus width in bits / 8
    bf16      = SMs x SM clock x operations a cycle and SM of its tensor cores (dense, 2 a multiply-add)

SMs are its CUDA cores over the cores an SM, and both per-SM figures follow from the compute capability. NVML
tells the highest clock that can be set; a data sheet's figure is for the rated clock, which is lower on some
(H100 SXM: 1980 and 1830 MHz). Where the name is in the table of data sheets, the lower of the two counts:
an H100 SXM is 3.35 TB/s and 989 TFLOP/s. Without the device's figures the data sheet alone counts.
"""

from __future__ import annotations

from dataclasses import dataclass

from engines.host import Device
from engines.nvml import NVML, Figures, Inventory


@dataclass(frozen=True)
class Peaks:
    """Of one device.

    Attributes:
        bandwidth: bytes/s.
        bf16: dense operations/s.
        fastest: operations/s of its densest format at its highest clock: nothing it does is quicker.
        source: where the figures come from.
    """

    bandwidth: float
    bf16: float
    fastest: float
    source: str


@dataclass(frozen=True)
class Tensor:
    """A generation's SM: CUDA cores, dense bf16 operations a cycle, how much more its fastest format does."""

    cores: int
    operations: int
    fastest: int


GENERATIONS: dict[tuple[int, int], Tensor] = {
    (7, 0): Tensor(64, 1024, 1),
    (7, 5): Tensor(64, 1024, 4),
    (8, 0): Tensor(64, 2048, 4),
    (8, 6): Tensor(128, 1024, 4),
    (8, 9): Tensor(128, 1024, 4),
    (9, 0): Tensor(128, 4096, 2),
    (10, 0): Tensor(128, 8192, 4),
    (10, 3): Tensor(128, 8192, 6),
    (12, 0): Tensor(128, 1024, 4),
}
"""Compute capability -> its SM. Source: architecture white papers (fp16 where there is no bf16)."""

SHEETS: dict[str, tuple[float, float, float]] = {
    "B200": (8.0e12, 2.25e15, 9.0e15),
    "GH200": (4.9e12, 0.989e15, 2.0e15),
    "H200": (4.8e12, 0.989e15, 2.0e15),
    "H100 NVL": (3.9e12, 0.835e15, 1.7e15),
    "H100 PCIe": (2.0e12, 0.756e15, 1.6e15),
    "H100": (3.35e12, 0.989e15, 2.0e15),
    "A100": (2.04e12, 0.312e15, 1.25e15),
    "L40S": (0.87e12, 0.362e15, 1.47e15),
    "L4": (0.30e12, 0.121e15, 0.49e15),
    "RTX 4090": (1.01e12, 0.165e15, 0.67e15),
    "RTX 5090": (1.79e12, 0.2095e15, 1.7e15),
}
"""Name -> bytes/s, dense bf16 operations/s, and those of its densest format. Source: data sheets."""


def peaks(device: Device, inventory: Inventory = NVML) -> Peaks | None:
    """The peaks of a GPU; None for a CPU, a slice of a GPU, and a GPU that neither driver nor table knows."""
    if device.kind == "cpu" or " MIG " in device.name:
        return None
    figures = inventory.figures(device.uuid) if device.uuid else None
    own = None if figures is None else from_figures(figures)
    sheet = _sheet(device.name)
    if own is None or sheet is None:
        return own or sheet
    rated = sheet.bf16 < own.bf16
    return Peaks(
        own.bandwidth,
        min(own.bf16, sheet.bf16),
        max(own.fastest, sheet.fastest),
        f"{own.source}; bf16 at the data sheet's clock" if rated else own.source,
    )


def from_figures(figures: Figures) -> Peaks | None:
    """By the formula above; None for a generation that is not in the table, or figures of nothing."""
    tensor = GENERATIONS.get(figures.capability)
    if tensor is None or not figures.bus_bits or not figures.memory_clock or not figures.sm_clock:
        return None
    bf16 = figures.cores / tensor.cores * figures.sm_clock * tensor.operations
    bandwidth = figures.memory_clock * 2 * figures.bus_bits / 8
    return Peaks(bandwidth, bf16, bf16 * tensor.fastest, "NVML's clocks, cores and bus width")


def _sheet(name: str) -> Peaks | None:
    words = set(name.replace("-", " ").split())
    for known, (bandwidth, bf16, fastest) in SHEETS.items():
        if words >= set(known.split()):
            return Peaks(bandwidth, bf16, fastest, "data sheet")
    return None
