"""A server that does nothing but keep time: `python -m scenarios.load.null_server TTFT TPOT` (seconds).

It prints its port, and answers every chat completion with tokens that say when they were written (monotonic
ns), so that a client's stamps can be compared with the truth. It ends with its standard input.
"""

from __future__ import annotations

import asyncio
import gc
import json
import sys
import time
from typing import Any, cast

import httptools
import uvloop

_HEAD = b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n"
_EVENT = (
    b'data: {"id":"chatcmpl-0123456789abcdef0123456789abcdef","object":"chat.completion.chunk",'
    b'"created":1700000000,"model":"null","choices":[{"index":0,"delta":{"content":" %d"},'
    b'"logprobs":null,"finish_reason":null}]}\n\n'
)
_END = b'data: {"choices":[],"usage":{"prompt_tokens":1,"completion_tokens":%d}}\n\ndata: [DONE]\n\n'


class NullServer(asyncio.Protocol):
    """One connection. `ttft` and `tpot` in seconds."""

    def __init__(self, ttft: float, tpot: float) -> None:
        self._ttft, self._tpot = ttft, tpot
        self._loop = asyncio.get_running_loop()
        self._transport: asyncio.Transport | None = None
        self._parser = httptools.HttpRequestParser(self)
        self._body: list[bytes] = []
        self._start = 0.0
        self._sent = self._count = 0

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """The socket is open."""
        self._transport = cast(asyncio.Transport, transport)

    def data_received(self, data: bytes) -> None:
        """Bytes of a request."""
        self._parser.feed_data(data)

    def on_body(self, data: bytes) -> None:
        """Called by the parser."""
        self._body.append(data)

    def on_message_complete(self) -> None:
        """Called by the parser: answer."""
        body, self._body = b"".join(self._body), []
        self._parser = httptools.HttpRequestParser(self)
        self._answer(json.loads(body))

    def _answer(self, body: dict[str, Any]) -> None:
        self._start = self._loop.time()
        self._count, self._sent = self._asked(body), 0
        self._write(_HEAD)
        self._loop.call_later(self._ttft, self._token)

    def _asked(self, body: dict[str, Any]) -> int:
        return int(body["max_tokens"])

    def _event(self) -> bytes:
        """The next token's."""
        return _EVENT % time.monotonic_ns()

    def _token(self) -> None:
        self._sent += 1
        event = self._event()
        if self._sent < self._count:
            self._write(b"%x\r\n%s\r\n" % (len(event), event))
            due = self._start + self._ttft + self._sent * self._tpot
            self._loop.call_later(max(0.0, due - self._loop.time()), self._token)
        else:
            event += _END % self._count
            self._write(b"%x\r\n%s\r\n0\r\n\r\n" % (len(event), event))

    def _write(self, data: bytes) -> None:
        if self._transport is not None and not self._transport.is_closing():
            self._transport.write(data)


async def main(ttft: float, tpot: float) -> None:
    """Serve until standard input ends."""
    loop = asyncio.get_running_loop()
    server = await loop.create_server(lambda: NullServer(ttft, tpot), "127.0.0.1", 0, backlog=1024)
    print(server.sockets[0].getsockname()[1], flush=True)
    gc.freeze()
    gc.disable()
    reader = asyncio.StreamReader()
    await loop.connect_read_pipe(lambda: asyncio.StreamReaderProtocol(reader), sys.stdin)
    await reader.read()
    server.close()


if __name__ == "__main__":
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(main(float(sys.argv[1]), float(sys.argv[2])))
