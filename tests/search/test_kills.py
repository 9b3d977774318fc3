"""Searches that are killed: nothing lost, nothing measured twice, nothing left behind.

CEILING_KILLS=50 kills that many times instead of once: the driver, a worker, an engine or the raylet.
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
from tests.search.conftest import Specs
from tests.search.world import asks

Events = list[dict[str, Any]]

KILLS = int(os.environ.get("CEILING_KILLS", "1"))


class Drivers:
    """Driver processes of one run, each in a session of its own."""

    def __init__(self, run: Path, spec: Path) -> None:
        self.run, self.spec = run, spec
        self.started: list[subprocess.Popen[str]] = []

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
        return next((line for line in driver.stdout if wanted(line)), "")

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
    """Whether the driver's descendants and the run's servers disappear within some seconds."""
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        if not marked(run_id) and not any(_lives(pid) for pid in pids):
            return True
        time.sleep(0.1)
    return False


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


def strike(driver: subprocess.Popen[str], target: str, run_id: str) -> None:
    """SIGKILL the driver, or a worker, an engine or the raylet below it, where there is one."""
    if target == "driver":
        driver.kill()
        return
    for process in psutil.Process(driver.pid).children(recursive=True):
        try:
            named = {
                "worker": process.name().startswith("ray::") and bool(process.children()),
                "engine": process.environ().get(RUN_ID) == run_id
                and "engines.simulated" in process.cmdline(),
                "raylet": process.name() == "raylet",
            }
            if named[target]:
                process.kill()
                return
        except psutil.Error:
            continue


def test_killed_at_random_moments_and_resumed(drivers: Callable[..., Drivers]) -> None:
    budget = 16.0 + 12.0 * KILLS
    search = drivers(budget=budget, devices=2, planner="tpe", strategy="full")
    draw = random.Random(KILLS)
    before: Events = []
    for kill in range(KILLS):
        driver = search.start()
        phase = draw.choice(["starting", "warming", "measuring", "stopping"])
        said = search.until(
            driver,
            lambda line, phase=phase: (line.startswith("now") and phase in line) or line.startswith("over"),
        )
        if said.startswith("over"):
            break
        time.sleep(draw.random())
        below = family(driver.pid)
        target = "driver" if kill == 0 else draw.choice(["driver", "worker", "engine", "raylet"])
        strike(driver, target, search.events[0]["id"])
        if target in ("worker", "engine"):
            time.sleep(draw.random() * 3)
        end(driver)
        assert gone(below, search.events[0]["id"])
        assert search.events[: len(before)] == before
        before = search.events
    search.finish()
    events = search.events
    check_whole(events)
    assert events[: len(before)] == before
    assert gone(set(), events[0]["id"])
    last_stop = max(e["seconds"].get("stop", 0.0) for e in events if e["event"] == "trial")
    assert ledgers.gpu_seconds(events) <= budget + 2 * (last_stop + 1.5)


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
