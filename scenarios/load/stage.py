"""One stretch of sends: who is sent when, over which connection, and when a request counts as hung."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable

from scenarios.load.client import Connection, Pool, now
from scenarios.load.clock import Alarm
from scenarios.load.plan import Bodies, Send, SendPlan, Stage
from scenarios.load.spill import NEVER, Outcome, Record

SECOND = 1_000_000_000
TICK = 0.25


class StageRun:
    """Runs one stage. Closed and open loop are one: a queue of arrivals, a cap, and slots that become free.

    In a closed loop all requests have arrived at the start and are intended when a slot takes them; in an
    open loop they arrive by the schedule, and what waits for a slot still counts from its scheduled time.
    """

    def __init__(
        self,
        number: int,
        stage: Stage,
        plan: SendPlan,
        bodies: Bodies,
        keep: Callable[[Record], None],
        head: bytes,
    ) -> None:
        self._number, self._stage, self._plan = number, stage, plan
        self._bodies, self._keep, self._head = bodies, keep, head
        self._arrivals = deque(sorted(stage.sends, key=lambda send: send.offset))
        self._waiting: deque[Send] = deque()
        self._flying: dict[int, tuple[Record, Connection | None]] = {}
        self._left = len(stage.sends)
        self._over = asyncio.Event()
        self._tasks: set[asyncio.Task[None]] = set()
        self._longest = 0
        self._stopped = False
        self._start = 0
        self.pool: Pool | None = None
        self.connections = stage.cap or min(len(stage.sends), 4 * plan.spare)

    async def run(self, pool: Pool, start: int, deadline: int | None) -> None:
        """Send everything from `start` (monotonic ns) on; returns when every request has ended."""
        self.pool, self._start = pool, start
        if not self._left:
            return
        if deadline is not None and now() > deadline:
            self.stop()
            return
        loop = asyncio.get_running_loop()
        alarm = Alarm(loop, lambda: self._arrive(alarm))
        alarm.set(start + self._arrivals[0].offset)
        try:
            while not self._over.is_set():
                try:
                    await asyncio.wait_for(self._over.wait(), TICK)
                except TimeoutError:
                    self._watch(deadline)
        finally:
            alarm.close()

    def stop(self, outcome: Outcome = Outcome.TIMEOUT) -> None:
        """End what is in flight with `outcome`; what was not sent stays unsent."""
        self._stopped = True
        for key in list(self._flying):
            self._end(key, outcome)
        for send in (*self._waiting, *self._arrivals):
            intended = self._start + send.offset
            self._done(Record(send.key, self._number, intended, intended))
        self._waiting.clear()
        self._arrivals.clear()

    def ended(self, connection: Connection, record: Record) -> None:
        """A connection's request is over."""
        if self._flying.pop(record.key, None) is None:
            return
        if self.pool is not None:
            self.pool.give(connection)
        if record.outcome is Outcome.COMPLETE:
            self._longest = max(self._longest, record.end - record.sent)
        self._dispatch(record.end)
        self._done(record)

    def _arrive(self, alarm: Alarm) -> None:
        at = now()
        while self._arrivals and self._start + self._arrivals[0].offset <= at:
            self._waiting.append(self._arrivals.popleft())
        self._dispatch(0)
        if self._arrivals:
            alarm.set(self._start + self._arrivals[0].offset)

    def _dispatch(self, freed: int) -> None:
        cap = self._stage.cap
        while self._waiting and not self._stopped and (cap is None or len(self._flying) < cap):
            send = self._waiting.popleft()
            scheduled = self._start + send.offset
            due = max(scheduled, freed)
            self._send(send, Record(send.key, self._number, due if self._stage.closed else scheduled, due))

    def _send(self, send: Send, record: Record) -> None:
        assert self.pool is not None
        body = self._bodies[send]
        data = b"".join((self._head, str(len(body)).encode(), b"\r\n\r\n", body))
        connection = self.pool.take()
        self._flying[send.key] = (record, connection)
        if connection is not None:
            connection.send(record, data, send.cut)
            return
        record.late = True
        task = asyncio.get_running_loop().create_task(self._connect_and_send(send, record, data))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _connect_and_send(self, send: Send, record: Record, data: bytes) -> None:
        assert self.pool is not None
        try:
            connection = await self.pool.connect()
        except OSError:
            self._end(send.key, Outcome.CONNECT)
            return
        if send.key in self._flying:
            self._flying[send.key] = (record, connection)
            connection.send(record, data, send.cut)
        else:
            connection.close()

    def _end(self, key: int, outcome: Outcome) -> None:
        record, connection = self._flying[key]
        if connection is not None and connection.record is record:
            connection.abort(outcome)
            return
        del self._flying[key]
        record.outcome, record.end = outcome, now()
        self._dispatch(record.end)
        self._done(record)

    def _done(self, record: Record) -> None:
        self._keep(record)
        self._left -= 1
        if not self._left:
            self._over.set()

    def _watch(self, deadline: int | None) -> None:
        at = now()
        if deadline is not None and at > deadline:
            self.stop()
            return
        # Longer than anything that did end: a server that still works through a queue is not hung.
        floor = int(self._plan.stall * SECOND)
        patience = max(floor, 10 * self._longest) if self._longest else 15 * floor
        for key, (record, _) in list(self._flying.items()):
            heard = record.times[-1] if record.times else record.sent
            if heard != NEVER and at - heard > patience:
                self._end(key, Outcome.TIMEOUT)
        if self._stage.cap is None and self.pool is not None:
            self.pool.keep(min(self._plan.spare, len(self._arrivals)))
