"""A sender process: `python -m scenarios.load.sender PLAN SPILL`, spoken to in JSON lines.

It opens the connections of a stage and says `{"ready": stage}`; told `{"go": t0}` (monotonic ns) it sends
the stage, appends each ended request to the spill file, and says `{"done": stage, ...}`; told
`{"skip": stage}` it goes on to the next. The end of its input ends it, so that no sender outlives who
started it.
"""

from __future__ import annotations

import asyncio
import contextlib
import gc
import json
import os
import resource
import sys
import time
from array import array
from pathlib import Path
from typing import Any

import uvloop

from scenarios.load.client import Connection, Pool
from scenarios.load.clock import Heartbeat
from scenarios.load.plan import Bodies, SendPlan, Stage, head
from scenarios.load.spill import Record, pack
from scenarios.load.stage import SECOND, StageRun

SKIPPED = -1
NICE = -10
"""Taken where that is allowed: what arrives while others compute on its core would be stamped late."""


class Sender:
    """The stages of one plan, in order."""

    def __init__(self, plan: SendPlan, spill: Path) -> None:
        self._plan = plan
        self._bodies = Bodies(Path(plan.bodies))
        self._head = head(plan.target, plan.headers)
        self._spill = spill.open("ab", buffering=0)
        self._run: StageRun | None = None
        self._told: asyncio.Queue[int | None] = asyncio.Queue()
        self._deadline: int | None = None

    async def main(self) -> None:
        """Until the last stage is done or the input ends."""
        listening = asyncio.ensure_future(self._listen())
        pool = Pool(self._plan.target, self._ended)
        for number, stage in enumerate(self._plan.stages):
            if not await self._stage(pool, number, stage):
                break
        listening.cancel()
        pool.close()
        self._spill.close()

    async def _stage(self, pool: Pool, number: int, stage: Stage) -> bool:
        run = StageRun(number, stage, self._plan, self._bodies, self._save, self._head)
        await pool.fill(run.connections if stage.sends else 0)
        _say(ready=number)
        start = await self._told.get()
        if start is None:
            return False
        if start == SKIPPED:
            return True
        if self._deadline is None and self._plan.limit is not None:
            self._deadline = start + int(self._plan.limit * SECOND)
        self._run = run
        heart = Heartbeat(asyncio.get_running_loop())
        opened, busy, began = pool.opened, time.process_time(), time.monotonic()
        await run.run(pool, start, self._deadline)
        _say(
            done=number,
            cpu=time.process_time() - busy,
            wall=time.monotonic() - began,
            opened=pool.opened - opened,
            lag=_percentiles(heart.stop()),
        )
        return True

    async def _listen(self) -> None:
        reader = asyncio.StreamReader()
        loop = asyncio.get_running_loop()
        await loop.connect_read_pipe(lambda: asyncio.StreamReaderProtocol(reader), sys.stdin)
        while line := await reader.readline():
            self._told.put_nowait(int(json.loads(line).get("go", SKIPPED)))
        self._told.put_nowait(None)
        if self._run is not None:
            self._run.stop()

    def _save(self, record: Record) -> None:
        self._spill.write(pack(record))

    def _ended(self, connection: Connection, record: Record) -> None:
        if self._run is not None:
            self._run.ended(connection, record)


def _percentiles(samples: array[float]) -> dict[str, float]:
    ordered = sorted(samples) or [0.0]
    last = len(ordered) - 1
    shares = {"p50": 0.5, "p95": 0.95, "p99": 0.99, "max": 1.0}
    return {name: ordered[int(last * share)] for name, share in shares.items()}


def _say(**message: Any) -> None:
    sys.stdout.write(json.dumps(message) + "\n")
    sys.stdout.flush()


def _raise_priority() -> None:
    with contextlib.suppress(PermissionError):
        os.setpriority(os.PRIO_PROCESS, 0, NICE)


def _raise_file_limit() -> None:
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))


def main(argv: list[str]) -> None:
    """Run a plan. Collection of cycles is off: nothing on the data path makes any, and it would stall it."""
    plan = SendPlan.load(Path(argv[0]))
    _raise_file_limit()
    _raise_priority()
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        sender = Sender(plan, Path(argv[1]))
        gc.collect()
        gc.freeze()
        gc.disable()
        runner.run(sender.main())


if __name__ == "__main__":
    main(sys.argv[1:])
