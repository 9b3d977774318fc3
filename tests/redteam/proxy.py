"""A proxy in front of a server, as an attacker would write one: the base of every attack, and the control."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncGenerator
from contextlib import aclosing
from urllib.parse import urlsplit

import httpx

from tests.scenarios.mock_server import Body, MockServer, Refuse


class Upstream:
    """The honest server behind the proxy."""

    def __init__(self, url: str) -> None:
        self.url = url
        parts = urlsplit(url)
        self._host, self._port = parts.hostname or "127.0.0.1", parts.port or 80

    async def events(self, body: Body) -> AsyncGenerator[bytes, None]:
        """Its answer to a request, an event at a time, as it arrives. Raises Refuse for another status."""
        reader, writer = await asyncio.open_connection(self._host, self._port)
        data = json.dumps(body).encode()
        head = f"POST /v1/chat/completions HTTP/1.1\r\nHost: x\r\nContent-Length: {len(data)}\r\n"
        writer.write(head.encode() + b"Content-Type: application/json\r\n\r\n" + data)
        try:
            first, *_ = (await reader.readuntil(b"\r\n\r\n")).split(b"\r\n")
            if b" 200 " not in first:
                raise Refuse(int(first.split()[1]))
            async for event in _events(reader):
                yield event
        finally:
            writer.close()


async def _events(reader: asyncio.StreamReader) -> AsyncGenerator[bytes, None]:
    rest = b""
    while size := int(await reader.readline(), 16):
        rest += await reader.readexactly(size)
        await reader.readexactly(2)
        *whole, rest = rest.split(b"\n\n")
        for event in whole:
            yield event + b"\n\n"


class Attack:
    """Passes everything through. An attack overrides `answer`, or what it calls."""

    codes: frozenset[str] = frozenset()
    """Any of which the scorer must give; none: the measurement must be valid."""
    scenario = "D"
    headers = ""
    owner = ""
    """Whose it says that its models are."""
    limit: float | None = None
    rounds = 1
    """Measurements of one seed, of which the last is judged."""

    def __init__(self, upstream: Upstream) -> None:
        self.upstream = upstream
        self.count = 0
        self.flying = 0

    async def __call__(self, body: Body) -> AsyncGenerator[bytes, None]:
        """What the client gets for one request."""
        self.count += 1
        self.flying += 1
        try:
            async with aclosing(self.answer(body, self.count)) as pieces:
                async for piece in pieces:
                    yield piece
        finally:
            self.flying -= 1

    async def answer(self, body: Body, number: int) -> AsyncGenerator[bytes, None]:
        """Events for the `number`-th request."""
        async with aclosing(self.upstream.events(body)) as events:
            async for event in events:
                for piece in self.change(event, number):
                    yield piece

    def change(self, event: bytes, number: int) -> list[bytes]:
        """What becomes of one event."""
        return [event]

    def server(self) -> MockServer:
        """The proxy's server; it names the models that are behind it."""
        models = httpx.get(f"{self.upstream.url}/v1/models").json()["data"]
        names = [model["id"] for model in models]
        return MockServer(answer=self, models=names, owner=self.owner, extra_headers=self.headers)


def content(event: bytes) -> str:
    """The text in an event, empty where it has none."""
    if not event.startswith(b"data: {"):
        return ""
    choices = json.loads(event[6:])["choices"]
    return str(choices[0]["delta"].get("content") or "") if choices else ""


def has_usage(event: bytes) -> bool:
    """Whether it is the closing usage chunk."""
    return event.startswith(b"data: {") and bool(json.loads(event[6:]).get("usage"))
