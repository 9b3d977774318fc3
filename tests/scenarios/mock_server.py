"""A server of known timing on loopback, for tests of the client: what it did and when is on record."""

from __future__ import annotations

import asyncio
import json
import threading
import time
from collections.abc import AsyncGenerator, Callable, Iterable
from contextlib import aclosing
from dataclasses import dataclass, field
from types import TracebackType
from typing import Any, Self

Body = dict[str, Any]
WORDS = ("harbour", "morning", "letter", "river", "bridge", "winter", "market", "stone", "wire", "grain")


def event(payload: object) -> bytes:
    """One server-sent event."""
    return b"data: " + json.dumps(payload).encode() + b"\n\n"


def delta(text: str, finish: str | None = None) -> bytes:
    """A chunk of text."""
    return event({"choices": [{"index": 0, "delta": {"content": text}, "finish_reason": finish}]})


def usage(prompt: int, completion: int, cached: int | None = None) -> bytes:
    """The closing usage chunk."""
    counted: dict[str, Any] = {"prompt_tokens": prompt, "completion_tokens": completion}
    if cached is not None:
        counted["prompt_tokens_details"] = {"cached_tokens": cached}
    return event({"choices": [], "usage": counted})


DONE = b"data: [DONE]\n\n"


@dataclass
class Timing:
    """`ttft` seconds to the first token, `tpot` between tokens, `group` tokens a chunk."""

    ttft: float = 0.02
    tpot: float = 0.005
    group: int = 1
    with_usage: bool = True

    async def __call__(self, body: Body) -> AsyncGenerator[bytes, None]:
        """The stream of one answer; a token is one word, unlike any other answer's."""
        start = time.monotonic()
        count = int(body["max_tokens"])
        salt = sum(map(ord, body["messages"][0]["content"]))
        words = [f" {WORDS[(salt + place * place) % len(WORDS)]}{salt % 97}{place}" for place in range(count)]
        for place in range(0, count, self.group):
            await _until(start + self.ttft + place * self.tpot)
            yield delta("".join(words[place : place + self.group]))
        yield delta("", "length")
        if self.with_usage:
            yield usage(len(body["messages"][0]["content"].split()), count)
        yield DONE


Answer = Callable[[Body], AsyncGenerator[bytes, None]]


class Refuse(Exception):
    """An answer with a status other than 200."""

    def __init__(self, status: int, body: bytes = b'{"error": {"message": "no"}}') -> None:
        super().__init__(status)
        self.status, self.body = status, body


class Hangup(Exception):
    """The connection is dropped where the answer stands."""


@dataclass
class MockServer:
    """Serves `/v1/models`, `/health` and chat completions as `answer` says, from a thread of its own."""

    answer: Answer = field(default_factory=Timing)
    models: Iterable[str] = ("mock",)
    owner: str = ""
    keep_alive: bool = True
    extra_headers: str = ""
    bodies: list[Body] = field(default_factory=list)
    open_now: int = 0
    most: int = 0
    connections: int = 0

    def __enter__(self) -> Self:
        self._loop = asyncio.new_event_loop()
        ready = threading.Event()
        self._thread = threading.Thread(target=self._serve, args=(ready,), daemon=True)
        self._thread.start()
        ready.wait(10)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(10)

    def _serve(self, ready: threading.Event) -> None:
        async def start() -> asyncio.Server:
            server = await asyncio.start_server(self._connection, "127.0.0.1", 0)
            self.port = server.sockets[0].getsockname()[1]
            return server

        listening = self._loop.run_until_complete(start())
        self._loop.call_soon(ready.set)
        self._loop.run_forever()
        listening.close()
        self._loop.run_until_complete(_cancel_others())
        self._loop.close()

    @property
    def url(self) -> str:
        """Its address."""
        return f"http://127.0.0.1:{self.port}"

    async def _connection(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        try:
            while (request := await _request(reader)) is not None:
                method, path, body = request
                if method == "POST":
                    await self._chat(writer, json.loads(body))
                else:
                    await self._get(writer, path)
                if not self.keep_alive:
                    break
        except (ConnectionError, Hangup):
            writer.transport.abort()
        finally:
            writer.close()

    async def _get(self, writer: asyncio.StreamWriter, path: str) -> None:
        owner = {"owned_by": self.owner} if self.owner else {}
        known = {
            "/v1/models": {"object": "list", "data": [{"id": name, **owner} for name in self.models]},
            "/health": {},
        }
        status = "200 OK" if path in known else "404 Not Found"
        body = json.dumps(known.get(path, {})).encode()
        writer.write(b"HTTP/1.1 %s\r\nContent-Length: %d\r\n\r\n%s" % (status.encode(), len(body), body))
        await writer.drain()

    async def _chat(self, writer: asyncio.StreamWriter, body: Body) -> None:
        self.bodies.append(body)
        self.open_now += 1
        self.most = max(self.most, self.open_now)
        try:
            await self._stream(writer, body)
        finally:
            self.open_now -= 1

    async def _stream(self, writer: asyncio.StreamWriter, body: Body) -> None:
        close = "" if self.keep_alive else "Connection: close\r\n"
        head = f"Content-Type: text/event-stream\r\n{self.extra_headers}{close}"
        begun = False
        try:
            async with aclosing(self.answer(body)) as pieces:
                async for piece in pieces:
                    if not begun:
                        writer.write(f"HTTP/1.1 200 OK\r\n{head}Transfer-Encoding: chunked\r\n\r\n".encode())
                        begun = True
                    writer.write(b"%x\r\n%s\r\n" % (len(piece), piece))
                    await writer.drain()
        except Refuse as refused:
            writer.write(
                b"HTTP/1.1 %d No\r\nContent-Length: %d\r\n\r\n%s"
                % (refused.status, len(refused.body), refused.body)
            )
            return
        writer.write(b"0\r\n\r\n")
        await writer.drain()


async def _request(reader: asyncio.StreamReader) -> tuple[str, str, bytes] | None:
    try:
        head = await reader.readuntil(b"\r\n\r\n")
    except (asyncio.IncompleteReadError, ConnectionError):
        return None
    first, *lines = head.decode("latin-1").split("\r\n")
    method, path, _ = first.split(" ", 2)
    lengths = [line.split(":", 1)[1] for line in lines if line.lower().startswith("content-length:")]
    return method, path, await reader.readexactly(int(lengths[0])) if lengths else b""


async def _cancel_others() -> None:
    tasks = asyncio.all_tasks() - {asyncio.current_task()}
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)


async def _until(at: float) -> None:
    delay = at - time.monotonic()
    if delay > 0:
        await asyncio.sleep(delay)
