"""What else runs on the machine during a measurement, with real processes and made-up GPUs."""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict
from json import dumps, loads

import pytest

from engines.host import Device
from engines.nvml import Tenant
from scenarios.bystanders import Bystanders, Watch
from scenarios.processes import below, between, contenders, lineage, processes, times
from tests.engines.fake_gpus import FakeGpu, FakeGpus

SPIN = "import time; end = time.monotonic() + 30\nwhile time.monotonic() < end: pass"
ORPHAN = """
import os, subprocess, sys
child = subprocess.Popen([sys.executable, "-c", sys.argv[2]], preexec_fn=lambda: os.nice(int(sys.argv[1])),
    start_new_session=sys.argv[3] == "apart", stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
print(child.pid, flush=True)
"""
LISTEN = """
import socket, sys, time
upstream = [socket.create_connection(("127.0.0.1", int(port))) for port in sys.argv[2:]]
server = socket.create_server(("127.0.0.1", int(sys.argv[1])))
print(server.getsockname()[1], flush=True)
time.sleep(30)
"""


@contextmanager
def stranger(nice: int = 0, where: str = "apart") -> Iterator[int]:
    """A busy process that descends from none of ours: its parent has ended."""
    command = [sys.executable, "-c", ORPHAN, str(nice), SPIN, where]
    pid = int(subprocess.run(command, capture_output=True, text=True, check=True, timeout=20).stdout)
    try:
        yield pid
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)


@contextmanager
def listener(port: int = 0, *upstream: int) -> Iterator[tuple[subprocess.Popen[str], int]]:
    command = [sys.executable, "-c", LISTEN, str(port), *map(str, upstream)]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    try:
        assert process.stdout is not None
        yield process, int(process.stdout.readline())
    finally:
        process.kill()
        process.wait()
        process.stdout.close()


def seen(url: str, seconds: float = 1.0) -> Bystanders | None:
    """What a watch sees of some time in which nothing is sent."""
    with Watch(url, {"traffic"}) as watch:
        watch.stage("warmup")
        watch.stage("traffic")
        until = time.monotonic() + seconds
        while time.monotonic() < until:
            time.sleep(0.05)
        watch.stage("probe")
    return watch.seen


def spent(found: Bystanders, pid: int) -> float:
    return sum(seconds for name, seconds in found.names.items() if name.endswith(f"({pid})"))


def test_a_strangers_cpu_time_is_seen_and_named() -> None:
    with listener() as (_, port), stranger() as pid:
        found = seen(f"http://127.0.0.1:{port}")
    assert found is not None and found.share is not None
    assert spent(found, pid) > 0.1
    assert found.share * found.cores * found.seconds >= 0.9 * spent(found, pid)


@pytest.mark.skipif(os.nice(0) > 9, reason="the tests themselves are niced")
@pytest.mark.parametrize("where", ["here", "apart"])
def test_a_niced_stranger_is_not_counted_where_it_gives_way(where: str) -> None:
    with listener() as (server, port), stranger(10, where) as pid:
        gives_way = contenders(pid) == contenders(server.pid)
        found = seen(f"http://127.0.0.1:{port}")
    assert found is not None and (spent(found, pid) == 0) == gives_way
    assert gives_way or where == "apart"


def test_our_own_processes_and_the_servers_are_not_strangers() -> None:
    with listener() as (_, port):
        ours = subprocess.Popen([sys.executable, "-c", SPIN])
        try:
            found = seen(f"http://127.0.0.1:{port}")
        finally:
            ours.kill()
            ours.wait()
    assert found is not None and spent(found, ours.pid) == 0


def test_what_a_proxy_is_connected_to_belongs_to_the_server() -> None:
    with stranger_server() as (pid, inner), listener(0, inner) as (_, outer):
        found = seen(f"http://127.0.0.1:{outer}")
    assert found is not None and spent(found, pid) == 0


@contextmanager
def stranger_server() -> Iterator[tuple[int, int]]:
    """A busy listener that descends from none of ours."""
    code = f"import socket; s = socket.create_server(('127.0.0.1', 0))\n{SPIN}"
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    command = [sys.executable, "-c", ORPHAN, "0", code.replace("0))", f"{port}))", 1), "apart"]
    pid = int(subprocess.run(command, capture_output=True, text=True, check=True, timeout=20).stdout)
    try:
        deadline = time.monotonic() + 10
        while time.monotonic() < deadline:
            with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port)):
                break
        yield pid, port
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)


def test_of_a_server_in_this_very_process_nothing_is_told() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        found = seen(f"http://127.0.0.1:{server.getsockname()[1]}", 0.1)
    assert found is not None and found.share is None


GPU = Device(0, "cuda", "GPU", 1 << 30, "GPU-0")


def tenants_seen(before: set[int], after: set[int]) -> tuple[int, ...]:
    gpus = FakeGpus([FakeGpu("GPU-0")])
    with listener() as (process, port):
        gpus.gpus[0].tenants = tuple(Tenant(process.pid if pid == 0 else pid) for pid in before)
        watch = Watch(f"http://127.0.0.1:{port}", {"traffic"}, (GPU,), gpus)
        watch.stage("traffic")
        gpus.gpus[0].tenants = tuple(Tenant(process.pid if pid == 0 else pid) for pid in after)
        watch.stage("probe")
    assert watch.seen is not None
    return watch.seen.tenants


@pytest.mark.parametrize(
    ("before", "after", "strangers"),
    [
        ({0}, {0}, ()),
        ({0, 900001}, {0, 900001}, (900001,)),
        ({0}, {0, 900001}, (900001,)),
        ({900001}, {900001}, ()),
        ({900001}, {900001, 900002}, (900002,)),
        (set(), set(), ()),
    ],
)
def test_other_tenants_of_the_gpu(before: set[int], after: set[int], strangers: tuple[int, ...]) -> None:
    """Process 0 stands for the server; where it is not among them, the ids mean nothing here."""
    assert tenants_seen(before, after) == strangers


def test_a_job_on_a_gpu_that_the_server_does_not_use_disturbs_nobody() -> None:
    gpus = FakeGpus([FakeGpu("GPU-0"), FakeGpu("GPU-1")])
    with listener() as (process, port):
        gpus.gpus[0].tenants = (Tenant(process.pid),)
        both = (GPU, Device(1, "cuda", "GPU", 1 << 30, "GPU-1"))
        watch = Watch(f"http://127.0.0.1:{port}", {"traffic"}, both, gpus)
        watch.stage("traffic")
        gpus.gpus[1].tenants = (Tenant(900001),)
        watch.stage("probe")
    assert watch.seen is not None
    assert watch.seen.tenants == ()


def test_a_server_elsewhere_is_not_watched() -> None:
    assert seen("http://192.0.2.1:8000", 0.0) is None


def test_a_server_that_was_started_again_is_another_process() -> None:
    with listener() as (first, port):
        watch = Watch(f"http://127.0.0.1:{port}", {"traffic"})
        watch.stage("traffic")
        first.kill()
        first.wait()
        with listener(port):
            watch.stage("probe")
    assert watch.seen is not None
    assert len(watch.seen.listeners) == len(watch.seen.listeners_after) == 1
    assert watch.seen.listeners != watch.seen.listeners_after


def test_the_table_of_processes() -> None:
    table = processes()
    me, parent = os.getpid(), os.getppid()
    assert table[me].parent == parent
    assert {me, parent} <= lineage(me, table)
    assert me in below({parent}, table) and parent not in below({me}, table)
    before = times()
    until = time.process_time() + 0.1
    while time.process_time() < until:
        pass
    spent = times() - before
    assert spent.cores == len(os.sched_getaffinity(0))
    assert spent.normal + spent.niced >= 0.05
    assert between(table, processes())[me] >= 0.05


@pytest.mark.parametrize("share", [None, 0.4])
def test_it_comes_back_from_a_plain_dict(share: float | None) -> None:
    one = Bystanders(1.0, 2, share, 0.0, 0.0, {"x (1)": 0.5}, (7,), ((1, 2),), ((3, 4),))
    assert Bystanders.read(loads(dumps(asdict(one)))) == one
