"""What devices take in an interval, and what is seen of them before and after a server."""

from __future__ import annotations

import threading
import time
from pathlib import Path

import pytest

from engines.contract import CrashClass, ServerCrashed
from engines.device_meter import DeviceMeter
from engines.host import Device, memory_used, tenants, this_host
from engines.nvml import Nvml, Tenant
from engines.server import Server
from tests.engines.fake_gpus import GIB, FakeGpu, FakeGpus
from tests.engines.nasty_engine import MODEL, Nasty


def two() -> FakeGpus:
    return FakeGpus([FakeGpu("GPU-a"), FakeGpu("GPU-b", power=300.0, counter=False)])


def until(reached: int, gpus: FakeGpus) -> None:
    deadline = time.monotonic() + 5.0
    while gpus.looked < reached and time.monotonic() < deadline:
        time.sleep(0.005)


def test_devices_are_those_of_the_inventory() -> None:
    host = this_host(two())
    assert host.kind == "cuda"
    assert [device.uuid for device in host.devices] == ["GPU-a", "GPU-b"]
    assert host.driver == "580.1"
    assert memory_used(host.devices, two()) == (GIB, GIB)
    assert memory_used((Device(0, "cuda", "gone", 1, "GPU-x"),), two()) == (None,)


def test_power_energy_and_peak_memory_of_an_interval() -> None:
    gpus = two()
    meter = DeviceMeter(this_host(gpus).devices, gpus, period=0.02)
    meter.start()
    gpus.gpus[0].memory = 5 * GIB
    until(10, gpus)
    gpus.gpus[0].memory = 2 * GIB
    until(20, gpus)
    counted, summed = meter.stop()
    looked = gpus.looked
    assert counted.memory_peak == 5 * GIB
    assert (counted.energy_from, summed.energy_from) == ("counter", "power")
    for usage, watts in ((counted, 100.0), (summed, 300.0)):
        assert usage.energy == pytest.approx(watts * usage.seconds, rel=0.02)
        assert usage.power_mean == pytest.approx(watts, rel=0.02)
        assert usage.power_max == watts
        assert usage.looks >= 10
    time.sleep(0.1)
    assert gpus.looked == looked
    assert not [thread for thread in threading.enumerate() if thread.name == "device-meter"]


def test_a_gpu_without_power_figures_still_has_its_memory() -> None:
    gpus = FakeGpus([FakeGpu("GPU-a", power=None, counter=False)])
    meter = DeviceMeter(this_host(gpus).devices, gpus, period=0.02)
    meter.start()
    until(3, gpus)
    (usage,) = meter.stop()
    assert (usage.energy, usage.power_mean, usage.power_max, usage.energy_from) == (None, None, None, None)
    assert usage.memory_peak == GIB


def test_nothing_is_measured_where_there_is_no_gpu() -> None:
    cpu = (Device(0, "cpu", "some CPU", GIB),)
    meter = DeviceMeter(cpu)
    meter.start()
    assert meter.stop() == ()
    assert DeviceMeter(this_host(two()).devices).stop() == ()
    unknown = (Device(0, "cuda", "unknown", 1, "GPU-there-is-none"),)
    assert Nvml().reading("GPU-there-is-none") is None
    assert memory_used(unknown) == (None,)
    assert tenants(unknown) == ((),)


def server(gpus: FakeGpus, tmp_path: Path, habit: str = "serve") -> Server:
    return Server(Nasty(habit, real=True), {}, MODEL, log=tmp_path / "log", grace=0.5, inventory=gpus)


def test_a_server_s_devices_before_and_after(tmp_path: Path) -> None:
    gpus = FakeGpus([FakeGpu("GPU-a", memory=3 * GIB, tenants=(Tenant(77, GIB), Tenant(78)))])
    with server(gpus, tmp_path) as running:
        gpus.gpus[0].memory = 60 * GIB
        gpus.gpus[0].tenants = ()
        gpus.gpus[0].memory = 3 * GIB
    told = running.held.to_json()
    assert told == {
        "devices": ["GPU-a"],
        "memory_before": [3 * GIB],
        "memory_after": [3 * GIB],
        "others_before": [[{"pid": 77, "memory": GIB}, {"pid": 78, "memory": None}]],
        "others_after": [[]],
    }


def test_memory_that_stays_is_a_teardown_that_failed(tmp_path: Path) -> None:
    gpus = FakeGpus([FakeGpu("GPU-a")])
    running = server(gpus, tmp_path)
    with pytest.raises(ServerCrashed, match=r"left memory on device \[0\] behind") as crashed, running:
        gpus.gpus[0].memory = 30 * GIB
    assert crashed.value.crash is CrashClass.TEARDOWN
    assert running.held.memory_after == (30 * GIB,)


def test_memory_that_somebody_else_took_is_no_failure(tmp_path: Path) -> None:
    gpus = FakeGpus([FakeGpu("GPU-a")])
    with server(gpus, tmp_path) as running:
        gpus.gpus[0].memory = 30 * GIB
        gpus.gpus[0].tenants = (Tenant(4711),)
    assert running.held.to_json()["others_after"] == [[{"pid": 4711, "memory": None}]]


def test_a_server_that_dies_while_it_starts_says_its_memory_too(tmp_path: Path) -> None:
    gpus = FakeGpus([FakeGpu("GPU-a")])
    running = server(gpus, tmp_path, "out_of_memory")
    with pytest.raises(ServerCrashed), running:
        raise AssertionError("it does not start")
    assert running.held.memory_before == running.held.memory_after == (GIB,)
