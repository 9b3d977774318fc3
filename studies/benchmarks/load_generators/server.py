"""A server of known delays: `python -m studies.benchmarks.load_generators.server TTFT TPOT LOG`.

It answers chat completions with tokens of one word, `TTFT` and then `TPOT` seconds apart, and writes into
LOG what it did: a line of JSON a request. It prints its port and ends with its standard input.
"""

from __future__ import annotations

import asyncio
import gc
import json
import sys
import time
from pathlib import Path
from typing import Any

import httptools
import uvloop

from scenarios.load.null_server import NullServer

MODEL = "known"
_EVENT = (
    b'data: {"id":"chatcmpl-0","object":"chat.completion.chunk","created":1700000000,"model":"known",'
    b'"choices":[{"index":0,"delta":{"role":"assistant","content":" the"},"text":" the","logprobs":null,'
    b'"finish_reason":%s}]}\n\n'
)
"""For chats and for plain completions, which some ask for in place of them."""
_MORE, _LAST = _EVENT % b"null", _EVENT % b'"length"'
_CARDS = json.dumps({"object": "list", "data": [{"id": MODEL, "object": "model", "max_model_len": 8192}]})


class KnownServer(NullServer):
    """One connection; what it did goes into `record`: (arrival, first token, last token, tokens), ns."""

    def __init__(self, ttft: float, tpot: float, record: list[tuple[int, int, int, int]]) -> None:
        super().__init__(ttft, tpot)
        self._record = record
        self._arrived = self._first = 0

    def on_message_complete(self) -> None:
        """Called by the parser: an answer to POST, the model's card to everything else."""
        self._arrived = time.monotonic_ns()
        if self._parser.get_method() == b"POST":
            super().on_message_complete()
            return
        self._parser = httptools.HttpRequestParser(self)
        body = _CARDS.encode()
        head = b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: %d\r\n\r\n" % len(body)
        self._write(head + body)

    def _asked(self, body: dict[str, Any]) -> int:
        return int(body.get("max_tokens") or body.get("max_completion_tokens") or 1)

    def _event(self) -> bytes:
        if self._sent == 1:
            self._first = time.monotonic_ns()
        if self._sent < self._count:
            return _MORE
        self._record.append((self._arrived, self._first, time.monotonic_ns(), self._count))
        return _LAST


async def main(ttft: float, tpot: float, log: Path) -> None:
    """Serve until standard input ends."""
    loop = asyncio.get_running_loop()
    record: list[tuple[int, int, int, int]] = []
    server = await loop.create_server(lambda: KnownServer(ttft, tpot, record), "127.0.0.1", 0, backlog=2048)
    print(server.sockets[0].getsockname()[1], flush=True)
    gc.freeze()
    gc.disable()
    reader = asyncio.StreamReader()
    await loop.connect_read_pipe(lambda: asyncio.StreamReaderProtocol(reader), sys.stdin)
    await reader.read()
    server.close()
    names = ("arrived", "first", "last", "tokens")
    log.write_text("".join(json.dumps(dict(zip(names, one, strict=True))) + "\n" for one in record))


if __name__ == "__main__":
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(main(float(sys.argv[1]), float(sys.argv[2]), Path(sys.argv[3])))
