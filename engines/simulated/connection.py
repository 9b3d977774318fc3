"""HTTP/1.1 by hand: one connection, its requests one after another."""

from __future__ import annotations

import asyncio
import os
from collections import deque
from typing import cast

import httptools

from engines.simulated.answer import Answer
from engines.simulated.app import App, refusal
from engines.simulated.chat import BadRequest

LARGEST = 64 * 2**20
"""Bytes of a body that is accepted."""


class Connection(asyncio.Protocol):
    """Parses requests as they come in and answers them in order."""

    def __init__(self, app: App) -> None:
        self._app = app
        self._parser = httptools.HttpRequestParser(self)
        self._waiting: deque[tuple[str, str, bytes, bool]] = deque()
        self._answer: Answer | None = None
        self._busy = False
        self._keep_alive = True
        self._closed = False
        self._transport: asyncio.Transport

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Part of asyncio.Protocol."""
        self._transport = cast(asyncio.Transport, transport)
        self._file: int = transport.get_extra_info("socket").fileno()

    def connection_lost(self, exc: Exception | None) -> None:
        """Part of asyncio.Protocol: an answer in progress is dropped."""
        self._closed = True
        self._waiting.clear()
        answer, self._answer = self._answer, None
        if answer is not None:
            self._app.gone(answer)

    def data_received(self, data: bytes) -> None:
        """Part of asyncio.Protocol."""
        try:
            self._parser.feed_data(data)
        except httptools.HttpParserUpgrade:
            self._refuse(BadRequest("this server speaks HTTP/1.1 only"))
        except httptools.HttpParserError as error:
            self._refuse(BadRequest(f"this is not HTTP: {error}"))

    def on_message_begin(self) -> None:
        """Part of the parser's interface, as all that follow."""
        self._url = b""
        self._body: list[bytes] = []
        self._size = 0

    def on_url(self, url: bytes) -> None:
        """A piece of the request's target."""
        self._url += url

    def on_header(self, name: bytes, value: bytes) -> None:
        """A header."""
        if name.lower() == b"expect" and value.lower() == b"100-continue":
            self._transport.write(b"HTTP/1.1 100 Continue\r\n\r\n")

    def on_body(self, body: bytes) -> None:
        """A piece of the body."""
        self._size += len(body)
        if self._size > LARGEST:
            self._refuse(BadRequest(f"the body is larger than {LARGEST} bytes", 413))
        else:
            self._body.append(body)

    def on_message_complete(self) -> None:
        """The request is here: answer it, or keep it until its turn."""
        method = self._parser.get_method().decode()
        path = self._url.partition(b"?")[0].decode("latin-1")
        self._waiting.append((method, path, b"".join(self._body), self._parser.should_keep_alive()))
        if not self._busy:
            self._next()

    def _next(self) -> None:
        while self._waiting and not self._busy and not self._closed:
            method, path, body, self._keep_alive = self._waiting.popleft()
            self._busy = True
            if (method, path) == ("POST", "/v1/chat/completions"):
                self._app.chat(body, self._send, self._done, self._started)
            else:
                self._send(self._app.plain(method, path))
                self._done()

    def _started(self, answer: Answer) -> bool:
        if not self._closed:
            self._answer = answer
        return not self._closed

    def _send(self, data: bytes) -> None:
        """Write at once: the loop would gather all writes of an iteration first, and tokens are due now."""
        if self._closed:
            return
        written = 0
        if not self._transport.get_write_buffer_size():
            try:
                written = os.write(self._file, data)
            except BlockingIOError:
                written = 0
            except OSError:
                self._transport.abort()
                return
        if written < len(data):
            self._transport.write(data[written:])

    def _done(self) -> None:
        self._busy, self._answer = False, None
        if not self._keep_alive:
            self._transport.close()
        elif self._waiting:
            asyncio.get_running_loop().call_soon(self._next)

    def _refuse(self, error: BadRequest) -> None:
        if not self._closed:
            self._transport.write(refusal(error))
            self._transport.close()
            self._closed = True
