"""Machines to test on, without having them."""

from __future__ import annotations

from engines.host import Device, Host

GIB = 1 << 30


def gpus(name: str, gib: float, count: int = 1) -> Host:
    """A host with `count` GPUs of `gib` GiB."""
    devices = tuple(Device(index, "cuda", name, int(gib * GIB)) for index in range(count))
    return Host(devices, cores=16, memory=128 * GIB, driver="580.1")


CPU = Host((Device(0, "cpu", "some CPU", 24 * GIB),), cores=2, memory=24 * GIB)
H100 = gpus("NVIDIA H100 80GB HBM3", 79)
H100_X4 = gpus("NVIDIA H100 80GB HBM3", 79, 4)
A100 = gpus("NVIDIA A100-SXM4-80GB", 79)
B200 = gpus("NVIDIA B200", 179)
L4 = gpus("NVIDIA L4", 23)
