"""A hundred thousand requests in one measurement: minutes, so only where `-m slow` asks for it."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import psutil
import pytest

from scenarios import rows

pytestmark = [pytest.mark.slow, pytest.mark.timeout(1800)]

COUNT = 100_000
GROWTH = 48.0
"""MB by which the scorer may grow from its first rows to its last: 0.5 kB a request."""


@contextmanager
def measuring(place: Path) -> Iterator[subprocess.Popen[str]]:
    command = [sys.executable, "-m", "tests.scenarios.many_requests", str(COUNT), str(place)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, start_new_session=True) as process:
        below = psutil.Process(process.pid)
        try:
            yield process
        finally:
            left = below.children(recursive=True) if process.poll() is None else []
            process.kill()
            for child in left:
                child.kill()


def parts(place: Path) -> list[Path]:
    return sorted(place.glob("rows/*/part-*.parquet"))


def test_memory_stays_flat_and_rows_come_as_it_goes(tmp_path: Path) -> None:
    with measuring(tmp_path) as process:
        assert process.stdout is not None
        told: dict[str, Any] = json.loads(process.stdout.read().splitlines()[-1])
    assert not [reason for reason in told["reasons"] if "lag" not in reason and "held-back" not in reason]
    assert told["requests"] == {"asked": COUNT, "completed": COUNT, "failed": 0, "short": 0}
    memory = {
        int(found[1]): used
        for name, used in told["memory_mb"].items()
        if (found := re.fullmatch(r"after (\d+) parts", name))
    }
    while_it_ran = [count for count in memory if 0 < count < told["parts"]]
    assert len(while_it_ran) > 10, "rows were not written as it went"
    first = memory[min(while_it_ran)]
    assert max(memory[count] for count in while_it_ran) - first < GROWTH


def test_a_scorer_killed_in_the_middle_leaves_rows_that_read(tmp_path: Path) -> None:
    with measuring(tmp_path) as process:
        deadline = time.monotonic() + 600
        while len(parts(tmp_path)) < 40 and process.poll() is None and time.monotonic() < deadline:
            time.sleep(0.1)
        others = psutil.Process(process.pid).children(recursive=True)
        os.kill(process.pid, signal.SIGKILL)
        process.wait(10)
        _, stay = psutil.wait_procs(others, timeout=30)
        assert not stay, "a sender or the server outlived the scorer"
    frame = rows.read(parts(tmp_path)[0].parent)
    assert 40 * rows.PART * 0.5 < len(frame) < COUNT
    assert frame["ok"].all()
    assert frame["key"].is_unique
