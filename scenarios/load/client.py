"""The streaming data path: one connection, one request at a time, arrivals stamped and kept raw.

Nothing is parsed here but the frame of the HTTP message (in C), so that a read costs a few microseconds and
the time of one stream is not spent on another. What the bytes say is worked out afterwards (`answer`).
"""

from __future__ import annotations

import asyncio
import ssl
import time
from collections.abc import Callable
from typing import cast

import httptools

from scenarios.load.plan import Target
from scenarios.load.spill import Outcome, Record

now = time.monotonic_ns

CONNECT_SECONDS = 10.0
IDLE_NS, UNUSED_NS = 2_000_000_000, 30_000_000_000
"""Age at which an idle connection is not used again: servers close theirs some five seconds after an answer,
and a request that meets such a close would fail by the client's fault. One that never carried a request is
given longer, as servers do."""
AT_ONCE = 32
"""Connections that are opened at the same time: more overflow the queues of small servers."""
FLOOD_BYTES = 256 << 20
"""An answer beyond this is cut off."""


class Connection(asyncio.Protocol):
    """A connection that carries one request at a time.

    `ended(connection, record)` is called when the request in flight is over, for whatever reason; the
    connection may be used again when `usable`.
    """

    def __init__(self, ended: Callable[[Connection, Record], None], closing: Callable[[], None]) -> None:
        self._ended = ended
        self._closing = closing
        self._transport: asyncio.Transport | None = None
        self._parser: httptools.HttpResponseParser | None = None
        self._complete = False
        self._keep = True
        self._size = 0
        self._cut = 0
        self.record: Record | None = None
        self._stale = now() + UNUSED_NS

    @property
    def usable(self) -> bool:
        """Whether a request can be sent on it now."""
        return (
            self._keep
            and self.record is None
            and self._transport is not None
            and not self._transport.is_closing()
            and now() < self._stale
        )

    def send(self, record: Record, data: bytes, cut: int = 0) -> None:
        """Send a request. Precondition: `usable`."""
        assert self._transport is not None
        self.record, self._cut = record, cut
        self._complete, self._size = False, 0
        self._parser = httptools.HttpResponseParser(self)
        record.sent = now()
        self._transport.write(data)

    def abort(self, outcome: Outcome) -> None:
        """End the request in flight, and the connection with it."""
        self._keep = False
        if self._transport is not None:
            self._transport.abort()
        self._finish(outcome, now())

    def close(self) -> None:
        """Close an idle connection."""
        self._keep = False
        if self._transport is not None:
            self._transport.close()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """The socket is open."""
        self._transport = cast(asyncio.Transport, transport)

    def data_received(self, data: bytes) -> None:
        """Bytes arrived: stamp, keep, and look for the end of the message."""
        arrived = now()
        record, parser = self.record, self._parser
        if record is None or parser is None:
            self.close()
            return
        record.times.append(arrived)
        record.pieces.append(data)
        self._size += len(data)
        try:
            parser.feed_data(data)
        except httptools.HttpParserError:
            if not self._complete:
                self.abort(Outcome.BAD_HTTP)
                return
            self._keep = False
        if self._complete:
            self._finish(Outcome.COMPLETE, arrived)
        elif self._size > FLOOD_BYTES:
            self.abort(Outcome.FLOOD)
        elif self._cut:
            self._count(data)

    def _count(self, data: bytes) -> None:
        self._cut -= min(data.count(b"data:"), self._cut)
        if not self._cut:
            self.abort(Outcome.CUT)

    def connection_lost(self, exc: Exception | None) -> None:
        """The socket closed: a request in flight is over."""
        self._keep = False
        self._finish(Outcome.CLOSED, now())

    def on_headers_complete(self) -> None:
        """Called by the parser: a server that will close is no reason for the next request to wait."""
        assert self._parser is not None
        if not self._parser.should_keep_alive():
            self._keep = False
            self._closing()

    def on_message_complete(self) -> None:
        """Called by the parser: the answer is whole."""
        self._complete = True

    def _finish(self, outcome: Outcome, at: int) -> None:
        record, self.record, self._parser = self.record, None, None
        if record is None:
            return
        record.outcome, record.end = outcome, at
        self._stale = at + IDLE_NS
        if not self._keep and self._transport is not None:
            self._transport.close()
        self._ended(self, record)


class Pool:
    """Connections of one sender: opened before the clock, reused while fresh, opened ahead where needed."""

    def __init__(self, target: Target, ended: Callable[[Connection, Record], None]) -> None:
        self._target = target
        self._ended = ended
        self._idle: list[Connection] = []
        self._opening: set[asyncio.Task[None]] = set()
        self._tls = ssl.create_default_context() if target.tls else None
        self.opened = 0

    async def connect(self) -> Connection:
        """A new connection. Raises OSError (TimeoutError included) when the server does not take it."""
        loop = asyncio.get_running_loop()
        _, connection = await asyncio.wait_for(
            loop.create_connection(
                lambda: Connection(self._ended, self.open_ahead),
                self._target.host,
                self._target.port,
                ssl=self._tls,
            ),
            CONNECT_SECONDS,
        )
        self.opened += 1
        return connection

    async def fill(self, count: int) -> None:
        """Have at least `count` fresh idle connections; fewer when the server takes no more."""
        self.prune()
        while len(self._idle) < count:
            missing = min(count - len(self._idle), AT_ONCE)
            made = await asyncio.gather(*(self.connect() for _ in range(missing)), return_exceptions=True)
            self._idle.extend(one for one in made if isinstance(one, Connection))
            if any(isinstance(one, BaseException) for one in made):
                return

    def take(self) -> Connection | None:
        """An idle connection, the most recently used first; None when there is none."""
        while self._idle:
            connection = self._idle.pop()
            if connection.usable:
                return connection
            connection.close()
        return None

    def give(self, connection: Connection) -> None:
        """Put a connection back."""
        if connection.usable:
            self._idle.append(connection)

    def open_ahead(self) -> None:
        """Open one more in the background."""
        task = asyncio.get_running_loop().create_task(self._add())
        self._opening.add(task)
        task.add_done_callback(self._opening.discard)

    def keep(self, count: int) -> None:
        """Replace stale idle connections and open ahead until `count` are idle or opening."""
        self.prune()
        for _ in range(count - len(self._idle) - len(self._opening)):
            self.open_ahead()

    def prune(self) -> None:
        """Close idle connections that are stale."""
        fresh = [one for one in self._idle if one.usable]
        for connection in set(self._idle) - set(fresh):
            connection.close()
        self._idle = fresh

    def close(self) -> None:
        """Close all idle connections."""
        for connection in self._idle:
            connection.close()
        self._idle.clear()

    async def _add(self) -> None:
        try:
            self._idle.append(await self.connect())
        except OSError:
            return  # the send that misses it connects for itself, and records why it could not
