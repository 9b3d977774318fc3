"""Runs an agent in a process of its own, for tests that kill it: `python -m tests.agents.driver SPEC RUN`."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

from agents import AgentSpec, run_agent
from scenarios import ledger

ROOT = Path(__file__).parents[2]


def start(spec: AgentSpec, run: Path, *, home: Path) -> subprocess.Popen[bytes]:
    """Start a driver in the background."""
    return subprocess.Popen(
        [sys.executable, "-m", "tests.agents.driver", json.dumps(spec.to_json()), str(run)],
        cwd=ROOT,
        env={**os.environ, "CEILING_HOME": str(home)},
        stdin=subprocess.DEVNULL,
        start_new_session=True,
    )


def kill_when(
    driver: subprocess.Popen[bytes], run: Path, seen: dict[str, Any], *, seconds: float = 60.0
) -> None:
    """SIGKILL the driver as soon as its ledger holds an event with these fields."""
    deadline = time.monotonic() + seconds
    while not any(seen.items() <= event.items() for event in events(run)):
        assert driver.poll() is None, f"the driver ended before {seen}"
        assert time.monotonic() < deadline, f"no {seen} within {seconds} s"
        time.sleep(0.02)
    driver.send_signal(signal.SIGKILL)
    driver.wait()


def events(run: Path) -> list[dict[str, Any]]:
    """Events of a run so far; none where it has not begun."""
    try:
        return ledger.read(run)[0]
    except ledger.LedgerError:
        return []


if __name__ == "__main__":
    run_agent(AgentSpec.from_json(json.loads(sys.argv[1])), Path(sys.argv[2]))
