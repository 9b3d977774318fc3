"""Searches that are killed: nothing lost, nothing measured twice, nothing left behind.

CEILING_KILLS=50 kills that many times instead of once: the driver, a worker, an engine or the raylet. With
`pytest -s` it says how often each was hit.
"""

from __future__ import annotations

import json
import os
import random
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest

from engines.orphans import RUN_ID
from scenarios import ledger as ledgers
from scenarios.meter import HEARTBEAT
from tests.search.conftest import Specs
from tests.search.world import asks

Events = list[dict[str, Any]]

KILLS = int(os.environ.get("CEILING_KILLS", "1"))
TARGETS = ("driver", "worker", "engine", "raylet")
DEVICES = 2

WRAP_UP = 5.0
"""Seconds that ending a measurement and Ray may take beyond the teardown where the machine is busy."""


class Drivers:
    """Driver processes of one run, each in a session of its own."""

    def __init__(self, run: Path, spec: Path) -> None:
        self.run, self.spec = run, spec
        self.started: list[subprocess.Popen[str]] = []
        self.since: dict[int, float] = {}
        """When a driver's first trial was launched, by its pid."""

    def start(self) -> subprocess.Popen[str]:
        driver = subprocess.Popen(
            [sys.executable, "-m", "tests.search.driver", str(self.spec), str(self.run)],
            stdout=subprocess.PIPE,
            text=True,
            start_new_session=True,
        )
        self.started.append(driver)
        return driver

    def until(self, driver: subprocess.Popen[str], wanted: Callable[[str], bool]) -> str:
        """Read what it says until a line is wanted; the empty string if it ends before."""
        assert driver.stdout is not None
        for line in driver.stdout:
            if line.startswith("now phase"):
                self.since.setdefault(driver.pid, time.monotonic())
            if wanted(line):
                return line
        return ""

    def held(self, driver: subprocess.Popen[str]) -> float:
        """Wall seconds since its first launch."""
        return time.monotonic() - self.since.get(driver.pid, time.monotonic())

    def finish(self) -> str:
        """Run to the end."""
        driver = self.start()
        said = self.until(driver, lambda line: line.startswith("over"))
        assert driver.wait(60) == 0
        return said.split()[-1]

    @property
    def events(self) -> Events:
        return ledgers.read(self.run)[0]


@pytest.fixture
def drivers(run: Path, tmp_path: Path, specs: Specs) -> Iterator[Callable[..., Drivers]]:
    made: list[Drivers] = []

    def make(**more: Any) -> Drivers:
        spec = specs(**more)
        told = {**spec.to_json(), "model": str(spec.model.path)}
        (tmp_path / "spec.json").write_text(json.dumps(told))
        made.append(Drivers(run, tmp_path / "spec.json"))
        return made[-1]

    yield make
    for each in made:
        for driver in each.started:
            end(driver)


def end(driver: subprocess.Popen[str]) -> None:
    """SIGKILL, unless it has ended."""
    driver.kill()
    driver.wait()
    assert driver.stdout is not None
    driver.stdout.close()


def marked(run_id: str) -> list[int]:
    """Processes that carry the run's mark."""
    found = []
    for process in psutil.process_iter():
        try:
            if process.environ().get(RUN_ID) == run_id and process.status() != psutil.STATUS_ZOMBIE:
                found.append(process.pid)
        except psutil.Error:
            continue
    return found


def gone(pids: set[int], run_id: str, seconds: float = 15.0) -> bool:
    """Whether the driver's descendants and the run's servers disappear in time; says what stays."""
    deadline = time.monotonic() + seconds
    while stay := [*marked(run_id), *(pid for pid in pids if _lives(pid))]:
        if time.monotonic() > deadline:
            print("still there:", *(_told(pid) for pid in stay), sep="\n  ")
            return False
        time.sleep(0.1)
    return True


def _told(pid: int) -> str:
    try:
        process = psutil.Process(pid)
        return f"{pid} (parent {process.ppid()}, {process.status()}) {' '.join(process.cmdline())[:150]}"
    except psutil.Error:
        return f"{pid} (just gone)"


def _lives(pid: int) -> bool:
    try:
        return psutil.Process(pid).status() != psutil.STATUS_ZOMBIE
    except psutil.Error:
        return False


def family(pid: int) -> set[int]:
    """A process's descendants."""
    try:
        return {child.pid for child in psutil.Process(pid).children(recursive=True)}
    except psutil.Error:
        return set()


def check_whole(events: Events) -> None:
    """Each trial ended once, each attempt that did not was declared lost, no measurement is there twice."""
    ends = Counter(event["trial"] for event in events if event["event"] == "trial")
    attempts = Counter(event["trial"] for event in events if event["event"] == "ask")
    losses = Counter(event["trial"] for event in events if event["event"] == "lost")
    assert set(ends) == set(attempts)
    assert set(ends.values()) == {1}
    assert all(attempts[trial] == losses[trial] + 1 for trial in attempts)
    measured = Counter(event["id"] for event in events if event["event"] == "measurement")
    assert set(measured.values()) <= {1}


def strike(driver: subprocess.Popen[str], target: str, run_id: str) -> bool:
    """SIGKILL the driver, or a worker, an engine or the raylet below it; False where there is none now."""
    if target == "driver":
        driver.kill()
        return True
    for process in psutil.Process(driver.pid).children(recursive=True):
        try:
            if _is(process, target, run_id):
                process.kill()
                return True
        except psutil.Error:
            continue
    return False


def _is(process: psutil.Process, target: str, run_id: str) -> bool:
    if target == "worker":
        return process.name().startswith("ray::") and bool(process.children())
    if target == "engine":
        served = any(word.startswith("engines.simulated") for word in process.cmdline())
        return served and process.environ().get(RUN_ID) == run_id
    return process.name() == "raylet"


def one_of(*words: str) -> Callable[[str], bool]:
    """Whether a line is a new event of one of these words, or says that the search is over."""
    return lambda line: line.startswith("over") or (line.startswith("now") and line.split()[1] in words)


def at(phase: str) -> Callable[[str], bool]:
    """Whether a line says that a trial has reached a phase, or that the search is over."""
    return lambda line: line.startswith("over") or (line.startswith("now phase") and phase in line)


@pytest.mark.timeout(240 + 45 * KILLS)
def test_killed_at_random_moments_and_resumed(drivers: Callable[..., Drivers]) -> None:
    """After a worker or an engine the search goes on by itself; after its driver or Ray it is resumed."""
    budget = 8.0 + 16.0 * KILLS
    search = drivers(budget=budget, devices=DEVICES, planner="tpe", strategy="full")
    draw, hits, held = random.Random(KILLS), Counter[str](), 0.0
    before: Events = []
    driver = search.start()
    while hits.total() < KILLS:
        said = search.until(driver, at(draw.choice(["starting", "warming", "measuring", "stopping"])))
        assert said, "the driver ended by itself"
        if said.startswith("over"):
            break
        time.sleep(draw.random())
        below, run_id = family(driver.pid), search.events[0]["id"]
        target = draw.choice(TARGETS) if hits else "driver"
        if not strike(driver, target, run_id):
            continue
        hits[target] += 1
        if target in ("worker", "engine"):
            assert search.until(driver, one_of("lost", "trial")), f"the driver ended after {dict(hits)}"
            continue
        time.sleep(draw.random() * 3 if target == "raylet" else 0.0)
        end(driver)
        held += search.held(driver)
        assert gone(below, run_id), f"after {dict(hits)}, the last of them {target}"
        assert search.events[: len(before)] == before
        before = search.events
        driver = search.start()
    search.until(driver, lambda line: line.startswith("over"))
    held += search.held(driver)
    assert driver.wait(60) == 0
    check_killed(search, hits, held, budget)


def check_killed(search: Drivers, hits: Counter[str], held: float, budget: float) -> None:
    """All events hang together, the budget was kept, and what was held was charged but for heartbeats."""
    events = search.events
    check_whole(events)
    assert gone(set(), events[0]["id"])
    charged, real = ledgers.gpu_seconds(events), DEVICES * held
    counts = Counter(event["event"] for event in events)
    struck = ", ".join(f"{hits[name]} {name}" for name in TARGETS)
    print(
        f"\n{hits.total()} kills ({struck}): {counts['trial']} trials, {counts['measurement']} measurements, "
        f"{counts['lost']} lost and asked again; charged {charged:.1f} of {real:.1f} GPU-seconds held, "
        f"budget {budget:g}"
    )
    assert hits.total() == KILLS
    last_stop = max(event["seconds"].get("stop", 0.0) for event in events if event["event"] == "trial")
    assert charged <= budget + DEVICES * (last_stop + WRAP_UP)
    unseen = (hits["driver"] + hits["raylet"]) * DEVICES * (HEARTBEAT + 1.5)
    assert real - unseen - DEVICES * 3.0 <= charged <= real + DEVICES * 3.0


def test_signals_take_everything_down_and_keep_the_ledger(drivers: Callable[..., Drivers]) -> None:
    """Ctrl-C reaches the whole process group; a SIGTERM to the driver ends the search that resumed."""
    search = drivers(trials=6, devices=2, strategy="full")
    before: Events = []
    for number, strike_group in ((signal.SIGINT, True), (signal.SIGTERM, False)):
        driver = search.start()
        search.until(driver, lambda line: line.startswith("now") and "warming" in line)
        below = family(driver.pid)
        began = time.monotonic()
        os.killpg(driver.pid, number) if strike_group else driver.send_signal(number)
        said = search.until(driver, lambda line: line.startswith("over"))
        assert driver.wait(30) == 0
        assert time.monotonic() - began < 10.0
        assert said.split()[-1] == "interrupted"
        assert gone(below, search.events[0]["id"], seconds=2.0)
        events = search.events
        assert [event["event"] for event in events[-2:]] == ["result", "end"]
        assert events[: len(before)] == before
        flying = {event["trial"] for event in events[len(before) :] if event["event"] == "lost"}
        assert flying
        before = events
    asked = asks(before)
    assert len(asked) == len({event["trial"] for event in before if event["event"] == "ask"})
