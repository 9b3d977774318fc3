"""Peaks of devices: the formula, the data sheets, and what is known of neither."""

from __future__ import annotations

import pytest

from engines.host import this_host
from engines.nvml import Figures
from engines.peaks import from_figures, peaks
from tests.engines.fake_gpus import H100_FIGURES, FakeGpu, FakeGpus
from tests.engines.hosts import CPU, H100, gpus


@pytest.mark.parametrize(
    ("figures", "bandwidth", "bf16"),
    [
        (Figures((9, 0), 16896, 1830e6, 2619e6, 5120), 3.35e12, 989e12),
        (Figures((8, 0), 6912, 1410e6, 1593e6, 5120), 2.04e12, 312e12),
        (Figures((8, 9), 7424, 2040e6, 6251e6, 192), 0.30e12, 121e12),
        (Figures((8, 9), 18176, 2490e6, 9001e6, 384), 0.864e12, 362e12),
        (Figures((7, 5), 2560, 1590e6, 5001e6, 256), 0.32e12, 65e12),
    ],
    ids=["H100 SXM", "A100 80GB", "L4", "L40S", "T4"],
)
def test_the_formula_gives_the_data_sheet_s_figures(figures: Figures, bandwidth: float, bf16: float) -> None:
    found = from_figures(figures)
    assert found is not None
    assert found.bandwidth == pytest.approx(bandwidth, rel=0.01)
    assert found.bf16 == pytest.approx(bf16, rel=0.01)


def test_an_h100_is_its_own_bandwidth_at_the_data_sheet_s_clock() -> None:
    there = FakeGpus([FakeGpu("GPU-a")])
    found = peaks(this_host(there).devices[0], there)
    assert found is not None
    assert found.bandwidth == 2619e6 * 2 * 5120 / 8
    assert found.bf16 == 989e12
    assert found.fastest == 16896 / 128 * 1980e6 * 4096 * 2
    assert "NVML" in found.source and "data sheet" in found.source


def test_without_the_driver_s_figures_the_data_sheet_counts() -> None:
    found = peaks(H100.devices[0])
    assert found is not None and (found.bandwidth, found.bf16) == (3.35e12, 0.989e15)
    assert found.source == "data sheet"
    there = FakeGpus([FakeGpu("GPU-a", figures=None)])
    assert peaks(this_host(there).devices[0], there) == found


@pytest.mark.parametrize(
    ("name", "bandwidth"),
    [
        ("NVIDIA H100 PCIe", 2.0e12),
        ("NVIDIA H100 NVL", 3.9e12),
        ("NVIDIA GH200 480GB", 4.9e12),
        ("NVIDIA H200", 4.8e12),
        ("NVIDIA A100-SXM4-80GB", 2.04e12),
        ("NVIDIA L40S", 0.87e12),
        ("NVIDIA L4", 0.30e12),
    ],
)
def test_names_are_told_apart(name: str, bandwidth: float) -> None:
    found = peaks(gpus(name, 80).devices[0])
    assert found is not None and found.bandwidth == bandwidth


def test_a_device_that_nobody_knows_has_no_peaks() -> None:
    assert peaks(CPU.devices[0]) is None
    assert peaks(gpus("Some Other GPU", 16).devices[0]) is None
    assert peaks(gpus("NVIDIA H100 80GB HBM3 MIG 1g.10gb", 10).devices[0]) is None
    assert from_figures(Figures((99, 0), 1, 1.0, 1.0, 1)) is None


def test_an_unknown_name_of_a_known_generation_goes_by_its_figures() -> None:
    there = FakeGpus([FakeGpu("GPU-a", name="NVIDIA Something", figures=H100_FIGURES)])
    found = peaks(this_host(there).devices[0], there)
    assert found == from_figures(H100_FIGURES)
