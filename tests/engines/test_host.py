"""What a machine is, against what the system itself says of it."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import psutil
import pytest

from engines.environment import clean_environment, device_variables
from engines.host import Device, compute_processes, memory_used, this_host
from engines.nvml import NVML


def gpus() -> int:
    """GPUs that the driver's files show, without NVML."""
    return len([p for p in Path("/dev").glob("nvidia*") if p.name[6:].isdigit()])


def test_cores_and_memory_are_at_most_the_machines() -> None:
    host = this_host()
    assert 1 <= host.cores <= len(os.sched_getaffinity(0))
    assert 2**28 < host.memory <= psutil.virtual_memory().total


def test_fewer_cores_allowed_are_fewer_cores_seen() -> None:
    one = min(os.sched_getaffinity(0))
    code = (
        f"import os; os.sched_setaffinity(0, {{{one}}}); from engines.host import *; print(this_host().cores)"
    )
    seen = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert int(seen.stdout) == 1


@pytest.mark.skipif(gpus() > 0, reason="this machine has GPUs")
def test_a_machine_without_gpus_is_one_cpu_device() -> None:
    host = this_host()
    assert host.kind == "cpu"
    assert [device.index for device in host.devices] == [0]
    assert host.devices[0].memory == host.memory
    assert host.devices[0].name
    assert host.driver is None
    assert memory_used(host.devices) == (0,)
    assert compute_processes(host.devices) == frozenset()
    with NVML.session() as there:
        assert not there


@pytest.mark.skipif(gpus() == 0, reason="no GPU here")
def test_gpus_are_counted_as_cuda_visible_devices_orders_them(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    every = this_host().devices
    assert len(every) >= 1
    last = every[-1]
    for selection in (str(last.index), str(last.uuid), f"{last.index},99"):
        monkeypatch.setenv("CUDA_VISIBLE_DEVICES", selection)
        (seen,) = this_host().devices
        assert (seen.index, seen.uuid, seen.kind) == (0, last.uuid, "cuda")
        assert device_variables((seen,))["CUDA_VISIBLE_DEVICES"] == selection.split(",")[0]
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    assert this_host().kind == "cpu"
    used = memory_used((last,))[0]
    assert used is not None and 0 < used < last.memory


def test_devices_are_selected_as_the_caller_was_given_them() -> None:
    second = Device(1, "cuda", "GPU", 1, "GPU-b", "7")
    first = Device(0, "cuda", "GPU", 1, "GPU-a", "GPU-a")
    assert device_variables((second, first))["CUDA_VISIBLE_DEVICES"] == "7,GPU-a"
    assert device_variables(()) == {}


def test_the_harness_environment_does_not_leak_into_an_engine(monkeypatch: pytest.MonkeyPatch) -> None:
    own = str(Path(sys.prefix) / "bin")
    monkeypatch.setenv("PATH", f"{own}:/usr/bin")
    monkeypatch.setenv("VIRTUAL_ENV", sys.prefix)
    monkeypatch.setenv("CUDA_HOME", "/cuda")
    variables = clean_environment("/engine/bin/python")
    assert variables["PATH"] == "/engine/bin:/usr/bin"
    assert variables["CUDA_HOME"] == "/cuda"
    assert "VIRTUAL_ENV" not in variables
    assert clean_environment("launcher")["PATH"] == "/usr/bin"
