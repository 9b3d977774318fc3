"""What the doctor says of a host with GPUs, without having one."""

from __future__ import annotations

from pathlib import Path

import pytest

from engines import runtime
from engines.contract import EngineNotInstalled
from engines.nvml import Tenant
from studies.doctor import Check, checks, compilers
from tests.engines.fake_gpus import GIB, FakeGpu, FakeGpus
from tests.engines.hosts import CPU, H100


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("CEILING_HOME", str(tmp_path))
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    return tmp_path


def named(found: list[Check]) -> dict[tuple[str, str], Check]:
    return {(check.group, check.name): check for check in found}


def test_an_idle_gpu_is_named_with_what_it_can_do() -> None:
    there = named(checks(FakeGpus([FakeGpu("GPU-a", memory=GIB // 2)])))
    device = there["machine", "device 0"]
    assert device.state == "ok"
    assert device.detail == (
        "NVIDIA H100 80GB HBM3 (cuda), 86 GB, 3.35 TB/s, 989 TFLOP/s bf16, 0.5 GB in use"
    )
    assert there["machine", "driver"].detail == "580.1"
    assert there["engines", "vllm"].fix == "ceiling engines install vllm"
    assert "--cpu" not in there["engines", "sglang"].fix
    assert {name for group, name in there if group == "compilers"} >= {"C++ compiler", "nvcc"}


def test_a_gpu_that_others_use_is_told() -> None:
    busy = FakeGpus([FakeGpu("GPU-a", memory=40 * GIB, tenants=(Tenant(77), Tenant(78)))])
    device = named(checks(busy))["machine", "device 0"]
    assert device.state == "optional"
    assert "42.9 GB in use by processes 77, 78" in device.detail
    assert "CUDA_VISIBLE_DEVICES" in device.fix
    hidden = named(checks(FakeGpus([FakeGpu("GPU-a", memory=40 * GIB)])))["machine", "device 0"]
    assert hidden.state == "optional"


def test_compilers_that_are_missing_on_a_gpu_host(tmp_path: Path) -> None:
    for name in ("gcc", "nvcc"):
        (tmp_path / name).write_text("#!/bin/sh\n")
        (tmp_path / name).chmod(0o755)
    found = named(list(compilers(H100, str(tmp_path))))
    states = {name: check.state for (_, name), check in found.items()}
    assert states == {"C compiler": "ok", "C++ compiler": "missing", "nvcc": "ok", "ninja": "optional"}
    assert found["compilers", "C++ compiler"].fix == "sudo apt-get install g++"
    assert list(compilers(CPU)) == []


@pytest.mark.parametrize(("name", "cpu"), [("vllm", True), ("torch", True), ("sglang", False)])
def test_only_engines_with_a_cpu_build_hint_at_it(name: str, cpu: bool) -> None:
    with pytest.raises(EngineNotInstalled, match=f"ceiling engines install {name}") as missing:
        runtime.find(name)
    assert ("--cpu" in str(missing.value)) is cpu
