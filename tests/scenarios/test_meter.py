"""The meter: every held second is charged, once, across driver processes."""

from __future__ import annotations

import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from scenarios import ledger as ledgers
from scenarios.ledger import Ledger
from scenarios.meter import Meter

HEADER = {"id": "abc", "kind": "search"}

METERED = """
import sys, time
from pathlib import Path
from scenarios.ledger import Ledger
from scenarios.meter import Meter
ledger = Ledger.create(Path(sys.argv[1]), {"id": "abc", "kind": "search"})
meter = Meter(ledger, 2, 100.0, heartbeat=0.05)
meter.start()
print("started", flush=True)
time.sleep(60)
"""


def beats(ledger: Ledger) -> list[float]:
    return [event["gpu_seconds"] for event in ledger.events if event["event"] == "meter"]


def test_nothing_is_charged_before_the_first_launch(tmp_path: Path) -> None:
    with Ledger.create(tmp_path, HEADER) as ledger, Meter(ledger, 1, 10.0) as meter:
        assert meter.spent == 0.0
        assert meter.left == 10.0
    assert beats(ledger) == []


class Bounds:
    """What a stretch may cost, by its shortest and its longest wall time, however it is scheduled."""

    def __init__(self) -> None:
        self._times = [time.monotonic()]

    def __call__(self) -> float:
        self._times.append(time.monotonic())
        return self._times[-1]

    def hold(self, cost: float, devices: int) -> bool:
        """Whether `devices` may have cost so much between the second and the third of four moments."""
        first, began, ended, last = self._times
        return devices * (ended - began) - 0.01 <= cost <= devices * (last - first) + 0.01


def test_devices_times_wall(tmp_path: Path) -> None:
    with Ledger.create(tmp_path, HEADER) as ledger:
        moment = Bounds()
        with Meter(ledger, 4, 100.0) as meter:
            meter.start()
            moment()
            meter.start()
            time.sleep(0.2)
            moment()
            spent = meter.spent
            moment()
            assert moment.hold(spent, 4)
            assert meter.left <= 100.0 - spent
            assert meter.wall_left <= (100.0 - spent) / 4
        assert beats(ledger)[0] == 0.0
        assert beats(ledger)[-1] == pytest.approx(meter.spent, abs=0.01)
        assert meter.spent >= spent


@pytest.mark.parametrize("lent", [1, 4])
def test_what_is_lent_to_the_scorer_is_not_charged(tmp_path: Path, lent: int) -> None:
    with Ledger.create(tmp_path, HEADER) as ledger, Meter(ledger, 4, 100.0) as meter:
        meter.start()
        moment = Bounds()
        meter.lend(lent)
        before = meter.spent
        moment()
        time.sleep(0.2)
        moment()
        cost = meter.spent - before
        moment()
        assert moment.hold(cost, 4 - lent)
        meter.lend(-lent)
        back = meter.spent
        time.sleep(0.1)
        assert meter.spent - back >= 0.4
    assert beats(ledger)[-1] == pytest.approx(meter.spent, abs=0.01)


def test_it_stops_for_good(tmp_path: Path) -> None:
    with Ledger.create(tmp_path, HEADER) as ledger:
        meter = Meter(ledger, 1, None)
        meter.start()
        meter.stop()
        meter.stop()
        spent = meter.spent
        time.sleep(0.05)
        assert meter.spent == spent
        assert meter.left == float("inf")
        assert len(beats(ledger)) == 2


def test_a_resumed_run_goes_on_from_what_it_had_spent(tmp_path: Path) -> None:
    with Ledger.create(tmp_path, HEADER) as ledger, Meter(ledger, 2, 10.0) as meter:
        meter.start()
        time.sleep(0.1)
    first = meter.spent
    with Ledger.resume(tmp_path) as ledger:
        with Meter(ledger, 2, 10.0) as meter:
            assert meter.spent == pytest.approx(first, abs=0.01)
            meter.start()
            time.sleep(0.1)
        assert ledgers.gpu_seconds(ledger.events) == pytest.approx(meter.spent, abs=0.01)
        segments = [event["segment"] for event in ledger.events if event["event"] == "meter"]
    assert segments == [0, 0, 1, 1]
    assert meter.spent > first + 0.15


def test_sigkill_leaves_at_most_a_heartbeat_uncharged(tmp_path: Path) -> None:
    driver = subprocess.Popen(
        [sys.executable, "-c", METERED, str(tmp_path / "run")], stdout=subprocess.PIPE, text=True
    )
    assert driver.stdout is not None
    assert driver.stdout.readline() == "started\n"
    began = time.monotonic()
    time.sleep(0.5)
    driver.send_signal(signal.SIGKILL)
    wall = time.monotonic() - began
    driver.communicate()
    charged = ledgers.gpu_seconds(ledgers.read(tmp_path / "run")[0])
    assert 2 * (wall - 0.05) - 0.3 <= charged <= 2 * wall + 0.2
