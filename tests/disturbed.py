"""Takes a failed test again where the machine, and not the code, may be to blame.

Tests hold real processes against the clock on a machine that others use too. A failure counts as disturbed
only where that was measured: a measurement of the test says that its own client lagged or that others took
the CPU, or tasks waited for a core (the kernel's pressure figure) or for the hypervisor for much of the test.
It is then taken again, four times at most; any other failure stands at once.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from scenarios.processes import times

SIGNS = ("client-lag", "other-process")
WAITED = 0.5
STOLEN = 0.03
PRESSURE = Path("/proc/pressure/cpu")
LEDGERS = ("*.jsonl", "*.log")


def waited() -> float:
    """Seconds since boot in which some task waited for a core; 0 where the kernel does not say."""
    if not PRESSURE.exists():
        return 0.0
    some = dict(field.split("=") for field in PRESSURE.read_text().splitlines()[0].split()[1:])
    return float(some["total"]) / 1e6


def told(folder: Path | None, message: str = "") -> list[str]:
    """Signs of disturbance that a failure's message, or ledgers and logs below a folder, tell of."""
    files = [path for kind in LEDGERS for path in folder.rglob(kind)] if folder else []
    texts = [message, *(path.read_text(errors="replace") for path in files)]
    return [sign for sign in SIGNS if any(sign in text for text in texts)]


class Watch:
    """What the machine did since this was made."""

    def __init__(self) -> None:
        self.at, self.waited, self.times = time.monotonic(), waited(), times()

    def signs(self, folder: Path | None, message: str = "") -> list[str]:
        """Why a failure since then may be the machine's; empty where nothing says so."""
        seconds = time.monotonic() - self.at
        share, spent = (waited() - self.waited) / seconds, times() - self.times
        found = told(folder, message)
        if share > WAITED:
            found.append(f"tasks waited for a core for {share:.0%} of {seconds:.1f} s")
        if spent.total and spent.stolen / spent.total > STOLEN:
            found.append(f"{spent.stolen / spent.total:.0%} of the CPU time was stolen")
        return found


class Disturbed(AssertionError):
    """A failure on a machine that was measurably busy with something else."""


@pytest.hookimpl(wrapper=True)
def pytest_runtest_call(item: pytest.Item) -> Iterator[None]:
    """Let a failure say how the machine was disturbed meanwhile, if it was."""
    watch = Watch()
    try:
        return (yield)
    except Exception as error:
        folder = getattr(item, "funcargs", {}).get("tmp_path")
        if signs := watch.signs(folder, str(error)):
            raise Disturbed(f"{error}\n[{'; '.join(signs)}]") from error
        raise
