"""The processes of this machine and their CPU time, read from /proc (Linux)."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from pathlib import Path

_PROC = Path("/proc")
_CGROUPS = Path("/sys/fs/cgroup")
_TICK = 1 / os.sysconf("SC_CLK_TCK")


@dataclass(frozen=True)
class Process:
    """A process: `start` in ticks since boot, `own` and `children` (ended and waited for) in CPU seconds."""

    name: str
    parent: int
    start: int
    nice: int
    own: float
    children: float

    @property
    def spent(self) -> float:
        """CPU seconds since its start, those of children that ended included."""
        return self.own + self.children


@dataclass(frozen=True)
class Times:
    """CPU seconds of `cores` cores since boot: of work at normal priority, of niced work, of none, stolen."""

    cores: int
    normal: float
    niced: float
    idle: float
    stolen: float

    @property
    def total(self) -> float:
        """All of it."""
        return self.normal + self.niced + self.idle + self.stolen

    def __sub__(self, other: Times) -> Times:
        return Times(
            self.cores,
            self.normal - other.normal,
            self.niced - other.niced,
            self.idle - other.idle,
            self.stolen - other.stolen,
        )


def processes() -> dict[int, Process]:
    """Every process that can be seen, by id."""
    found = {}
    for place in _PROC.iterdir():
        if place.name.isdigit():
            with contextlib.suppress(OSError):
                found[int(place.name)] = _process((place / "stat").read_text(errors="replace"))
    return found


def times() -> Times:
    """Of the cores that this process may use."""
    mine = {f"cpu{core}" for core in os.sched_getaffinity(0)}
    sums = [0.0] * 8
    for line in (_PROC / "stat").read_text().splitlines():
        name, *values = line.split()
        if name in mine:
            sums = [a + float(b) * _TICK for a, b in zip(sums, values[:8], strict=True)]
    user, nice, system, idle, waiting, interrupts, soft, stolen = sums
    return Times(len(mine), user + system + interrupts + soft, nice, idle + waiting, stolen)


def between(first: Mapping[int, Process], last: Mapping[int, Process]) -> dict[int, float]:
    """CPU seconds of each process of the last look since the first one.

    A child that ended counts for whoever waited for it, and there with all that it ever spent: what it had
    spent by the first look is taken off again.
    """
    old = {pid for pid, one in last.items() if pid in first and first[pid].start == one.start}
    inherited = {pid: last[pid].children - first[pid].children for pid in old}
    for pid in first.keys() - old:
        heir = first[pid].parent
        while heir in first and heir not in old:
            heir = first[heir].parent
        if heir in old and first[pid].spent <= inherited[heir]:
            inherited[heir] -= first[pid].spent
    return {
        pid: last[pid].own - first[pid].own + inherited[pid] if pid in old else one.spent
        for pid, one in last.items()
    }


def contenders(pid: int) -> str:
    """The group among whose processes the niceness of this one says who gives way; "" where that is not told.

    Between groups it says nothing. They are the groups of the cpu controller where that has any, else the
    sessions, where the kernel groups these by itself (sched(7), "The autogroup feature").
    """
    with contextlib.suppress(OSError):
        group = _controlled((_PROC / str(pid) / "cgroup").read_text())
        if group == "/" and (_PROC / "sys/kernel/sched_autogroup_enabled").read_text().strip() == "1":
            return (_PROC / str(pid) / "autogroup").read_text().partition(" ")[0]
        return group
    return ""


def _controlled(table: str) -> str:
    """From /proc/PID/cgroup: the group of the cpu controller, version 1's or else version 2's nearest."""
    groups = {kinds: path for _, kinds, path in (line.split(":", 2) for line in table.splitlines())}
    for kinds, group in groups.items():
        if "cpu" in kinds.split(","):
            return group
    path = Path(groups.get("", "/"))
    while path != path.parent and not (_CGROUPS / path.relative_to("/") / "cpu.weight").exists():
        path = path.parent
    return str(path)


def below(tops: Collection[int], table: Mapping[int, Process]) -> set[int]:
    """These processes and all that descend from them."""
    found = set(tops) & table.keys()
    while more := {pid for pid, one in table.items() if one.parent in found} - found:
        found |= more
    return found


def lineage(pid: int, table: Mapping[int, Process]) -> set[int]:
    """A process and those above it."""
    line: set[int] = set()
    while pid in table and pid not in line:
        line.add(pid)
        pid = table[pid].parent
    return line


def _process(stat: str) -> Process:
    """From a line of /proc/PID/stat; the name, in brackets, may hold anything."""
    start, _, rest = stat.rpartition(")")
    fields = rest.split()
    return Process(
        name=start.partition("(")[2],
        parent=int(fields[1]),
        start=int(fields[19]),
        nice=int(fields[16]),
        own=(int(fields[11]) + int(fields[12])) * _TICK,
        children=(int(fields[13]) + int(fields[14])) * _TICK,
    )
