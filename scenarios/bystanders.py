"""What else ran on this machine while a measurement was scored: other processes' CPU time, other GPU tenants.

Ours are this process, those above it and all below it; the server's are those that listen at its address, the
listeners on this machine that they are connected to (an engine behind a proxy), and all below them. Everybody
else is a bystander. Those that are niced above the server yield to it and are not counted, unless the kernel
shares the cores between groups of processes first and theirs is another group than the server's.
"""

from __future__ import annotations

import os
import time
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from types import TracebackType
from typing import Any, Self

import psutil

from engines.host import Device, tenants
from engines.nvml import NVML, Inventory
from scenarios.load.plan import Target
from scenarios.processes import Process, Times, below, between, contenders, lineage, processes, times

FORWARDERS = frozenset({"docker-proxy", "rootlessport", "slirp4netns", "pasta", "conmon"})
"""Listeners that stand for a container's server, whose own processes cannot be told from anybody's."""
SHOWN = 5
LEAST = 0.02
"""CPU seconds below which a bystander is not named."""


Listener = tuple[int, int]
"""A listening process: id and start (ticks since boot)."""


@dataclass(frozen=True)
class Bystanders:
    """What bystanders did from the start of the first scored stage to the end of the last.

    Attributes:
        seconds: the interval.
        cores: those that this process may use; shares are of their time.
        share: of CPU time that bystanders took; None where the server's own processes are not known.
        idle: share of CPU time that nobody took.
        stolen: share that the hypervisor gave to other machines.
        names: the busiest bystanders and their CPU seconds.
        tenants: GPU processes that are neither ours nor the server's; where NVML's process ids mean nothing
            here, those that came or went.
        listeners, listeners_after: the server's listening processes before and after.
    """

    seconds: float
    cores: int
    share: float | None
    idle: float
    stolen: float
    names: Mapping[str, float]
    tenants: tuple[int, ...] = ()
    listeners: tuple[Listener, ...] = ()
    listeners_after: tuple[Listener, ...] = ()

    @classmethod
    def read(cls, data: Mapping[str, Any]) -> Bystanders:
        """From a plain dict."""
        pairs = {
            name: tuple((int(pid), int(start)) for pid, start in data[name])
            for name in ("listeners", "listeners_after")
        }
        return cls(**{**data, **pairs, "tenants": tuple(data["tenants"])})


def shares(seen: Bystanders | None) -> dict[str, float]:
    """As metrics: shares of CPU time during the measurement, of bystanders and of the hypervisor's others."""
    if seen is None:
        return {}
    told = {"idle_cpu_share": seen.idle, "stolen_cpu_share": seen.stolen}
    return told if seen.share is None else {"bystander_cpu_share": seen.share, **told}


@dataclass(frozen=True)
class _Look:
    at: float
    times: Times
    processes: Mapping[int, Process]
    tenants: tuple[frozenset[int], ...]
    listeners: frozenset[int]

    def keys(self) -> tuple[Listener, ...]:
        return tuple(sorted((pid, one.start) for pid, one in self.processes.items() if pid in self.listeners))


def listeners(port: int) -> set[Listener]:
    """Who listens on a TCP port of this machine, as far as that is told."""
    found = _listening({port})
    return {(pid, one.start) for pid, one in processes().items() if pid in found}


class Watch:
    """Looks at the machine twice: when the first scored stage begins, and when the last one has ended.

    Where the server is elsewhere it sees nothing, and `seen` stays None.
    """

    def __init__(
        self,
        url: str,
        scored: Collection[str],
        devices: tuple[Device, ...] = (),
        inventory: Inventory = NVML,
    ) -> None:
        target = Target.parse(url)
        self._port = target.port
        self._scored = frozenset(scored) if target.local else frozenset()
        self._devices, self._inventory = devices, inventory
        self._first: _Look | None = None
        self.seen: Bystanders | None = None

    def stage(self, name: str) -> None:
        """A stage of load begins, and with it the one before has ended."""
        if name not in self._scored:
            self._end()
        elif self._first is None:
            self._first = self._look()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._end()

    def _look(self) -> _Look:
        return _Look(
            time.monotonic(),
            times(),
            processes(),
            tuple(frozenset(each.pid for each in some) for some in tenants(self._devices, self._inventory)),
            frozenset(_listening({self._port})),
        )

    def _end(self) -> None:
        if self._first is not None and self.seen is None:
            self.seen = _between(self._first, self._look())


def _between(first: _Look, last: _Look) -> Bystanders:
    server = _serving(last)
    ours = lineage(os.getpid(), last.processes) | below({os.getpid()}, last.processes)
    spent = last.times - first.times
    level = max((one.nice for pid, one in last.processes.items() if pid in server), default=0)
    groups = {contenders(pid) for pid in server}
    took = {
        pid: seconds
        for pid, seconds in between(first.processes, last.processes).items()
        if last.processes[pid].nice <= level or (seconds >= LEAST and contenders(pid) not in groups)
    }
    used = {pid: seconds for pid, seconds in took.items() if pid not in ours | server and seconds > 0}
    niced = any(last.processes[pid].nice > 0 for pid in took)
    busy = spent.normal + (spent.niced if niced else 0.0)
    known = sum(seconds for pid, seconds in took.items() if pid in ours | server)
    others = min(sum(used.values()), max(busy - known, 0.0))
    top = sorted(used, key=lambda pid: -used[pid])[:SHOWN]
    return Bystanders(
        seconds=last.at - first.at,
        cores=spent.cores,
        share=others / spent.total if server and spent.total else None,
        idle=spent.idle / spent.total if spent.total else 1.0,
        stolen=spent.stolen / spent.total if spent.total else 0.0,
        names={
            f"{last.processes[pid].name} ({pid})": round(used[pid], 2) for pid in top if used[pid] >= LEAST
        },
        tenants=tuple(sorted(_foreign(first, last, ours | server))),
        listeners=first.keys(),
        listeners_after=last.keys(),
    )


def _foreign(first: _Look, last: _Look, known: Collection[int]) -> set[int]:
    """GPU processes that are not `known`, on devices where a known one computes.

    Where none is seen to (their numbers are another container's), those that came or went.
    """
    devices = list(zip(first.tenants, last.tenants, strict=True))
    shared = [before | after for before, after in devices if (before | after) & set(known)]
    changed = [before ^ after for before, after in devices]
    return set().union(*(shared or changed)) - set(known)


def _serving(look: _Look) -> set[int]:
    """The server's processes; empty where they cannot be told from others, or it is this very process."""
    names = {look.processes[pid].name for pid in look.listeners & look.processes.keys()}
    if os.getpid() in look.listeners or names & FORWARDERS:
        return set()
    server = below(look.listeners, look.processes)
    return server | below(_behind(server), look.processes) if server else server


def _behind(server: Collection[int]) -> set[int]:
    """Listeners on this machine that these processes are connected to."""
    called = {one.raddr.port for one in psutil.net_connections("tcp") if one.pid in server and one.raddr}
    return _listening(called)


def _listening(ports: Collection[int]) -> set[int]:
    """Processes that listen on these TCP ports of this machine, as far as that is told."""
    return {
        one.pid
        for one in psutil.net_connections("tcp")
        if one.status == psutil.CONN_LISTEN and one.pid and one.laddr and one.laddr.port in ports
    }
