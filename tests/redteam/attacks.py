"""Ways in which a server, or somebody in front of it, may look faster than it is."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncGenerator
from contextlib import aclosing
from email.utils import formatdate
from time import time

from scenarios.load.entries import PROBE_TOKENS
from tests.redteam.proxy import Attack, content, has_usage
from tests.scenarios.mock_server import DONE, Body, Hangup, Refuse, delta, event, usage


class PassThrough(Attack):
    """The control."""


class Stumbles(PassThrough):
    """No attack: something else on the machine slows it while the probe after the run is on it."""

    after, until = 17, 20
    pause = 0.02

    async def answer(self, body: Body, number: int) -> AsyncGenerator[bytes, None]:
        slow = self.after < number <= self.until
        async with aclosing(super().answer(body, number)) as pieces:
            async for piece in pieces:
                if slow and content(piece):
                    await asyncio.sleep(self.pause)
                yield piece


class SlowAlone(Stumbles):
    """Every answer after the run is slow: what was quick in it came from elsewhere."""

    codes = frozenset({"impossible-speed"})
    until = 1000


class ShedLoad(Attack):
    """Answers 429 to whatever comes while two requests are in flight."""

    codes = frozenset({"failures"})

    async def answer(self, body: Body, number: int) -> AsyncGenerator[bytes, None]:
        if self.flying > 2:
            raise Refuse(429)
        async for piece in super().answer(body, number):
            yield piece


class RefuseAll(Attack):
    """Answers 503 to everything."""

    codes = frozenset({"failures"})

    async def answer(self, body: Body, number: int) -> AsyncGenerator[bytes, None]:
        raise Refuse(503)
        yield b""


class Truncate(Attack):
    """Half of the answer, with the usage of all of it."""

    codes = frozenset({"short-output"})

    async def answer(self, body: Body, number: int) -> AsyncGenerator[bytes, None]:
        asked = body["max_tokens"]
        async for piece in super().answer(
            {**body, "max_tokens": asked // 2, "min_tokens": asked // 2}, number
        ):
            yield usage(1, asked) if has_usage(piece) else piece


class EarlyEnd(Attack):
    """Half of the answer, said to be its natural end."""

    codes = frozenset({"short-output"})

    async def answer(self, body: Body, number: int) -> AsyncGenerator[bytes, None]:
        asked = body["max_tokens"] // 2
        async for piece in super().answer({**body, "max_tokens": asked, "min_tokens": asked}, number):
            yield piece.replace(b'"length"', b'"stop"')


class Empty(Attack):
    """A stream that ends as it should and holds nothing."""

    codes = frozenset({"short-output"})

    async def answer(self, body: Body, number: int) -> AsyncGenerator[bytes, None]:
        yield delta("", "length")
        yield usage(10, body["max_tokens"])
        yield DONE


class InflateUsage(Attack):
    """Claims ten times the tokens."""

    codes = frozenset({"token-mismatch"})
    factor = 10.0

    def change(self, event: bytes, number: int) -> list[bytes]:
        if not has_usage(event):
            return [event]
        said = json.loads(event[6:])
        said["usage"]["completion_tokens"] = int(said["usage"]["completion_tokens"] * self.factor)
        return [b"data: " + json.dumps(said).encode() + b"\n\n"]


class DeflateUsage(InflateUsage):
    """Claims half of the tokens."""

    factor = 0.5


class BlankFirst(Attack):
    """A space at once, the text when it is there."""

    codes = frozenset({"blank-first-token"})
    token = " "

    async def answer(self, body: Body, number: int) -> AsyncGenerator[bytes, None]:
        yield delta(self.token)
        async for piece in super().answer(body, number):
            yield piece


class InvisibleFirst(BlankFirst):
    """A character without width at once."""

    token = "\u200b"


class FakeFirst(BlankFirst):
    """A likely word at once."""

    codes = frozenset({"first-token-cadence"})
    token = "The"


class FakeFirstUnderLoad(FakeFirst):
    """A likely word at once, but only while others are in flight, so that a lone probe sees nothing."""

    async def answer(self, body: Body, number: int) -> AsyncGenerator[bytes, None]:
        if self.flying > 1:
            yield delta(self.token)
        async for piece in Attack.answer(self, body, number):
            yield piece


class FakeFirstLater(FakeFirst):
    """A likely word when half of the usual wait is over, and one token less at the end."""

    scenario = "A"
    wait = 0.01

    async def answer(self, body: Body, number: int) -> AsyncGenerator[bytes, None]:
        start, waiting = time(), True
        await asyncio.sleep(self.wait / 2)
        yield delta(self.token)
        fewer = body["max_tokens"] - 1
        async for piece in Attack.answer(self, {**body, "max_tokens": fewer, "min_tokens": fewer}, number):
            if waiting and content(piece):
                self.wait, waiting = time() - start, False
            yield piece.replace(b'"completion_tokens":%d' % fewer, b'"completion_tokens":%d' % (fewer + 1))


class CutPrompt(Attack):
    """Only the last half of the prompt is worked on."""

    codes = frozenset({"prompt-mismatch"})

    async def answer(self, body: Body, number: int) -> AsyncGenerator[bytes, None]:
        text = body["messages"][0]["content"]
        half = {**body, "messages": [{"role": "user", "content": text[len(text) // 2 :]}]}
        async for piece in super().answer(half, number):
            yield piece


class HoldBack(Attack):
    """Everything at the end."""

    codes = frozenset({"held-back"})
    scenario = "B"

    async def answer(self, body: Body, number: int) -> AsyncGenerator[bytes, None]:
        held = [piece async for piece in super().answer(body, number)]
        for piece in held:
            yield piece


class HoldHalf(Attack):
    """The first half is held until it is whole; the rest flows."""

    codes = frozenset({"held-back"})
    scenario = "B"

    async def answer(self, body: Body, number: int) -> AsyncGenerator[bytes, None]:
        held: list[bytes] = []
        async for piece in super().answer(body, number):
            held.append(piece)
            if len(held) > body["max_tokens"] // 2:
                for kept in held:
                    yield kept
                held = []
        for kept in held:
            yield kept


class HoldAndPace(Attack):
    """Everything is held, then let out at an even pace, four times as fast as it was made."""

    codes = frozenset({"held-back", "impossible-speed"})
    scenario = "B"

    async def answer(self, body: Body, number: int) -> AsyncGenerator[bytes, None]:
        start = time()
        held = [piece async for piece in super().answer(body, number)]
        pause = (time() - start) / len(held) / 4
        for piece in held:
            yield piece
            await asyncio.sleep(pause)


class OneChunk(Attack):
    """The whole answer in one chunk."""

    codes = frozenset({"held-back"})
    scenario = "B"

    async def answer(self, body: Body, number: int) -> AsyncGenerator[bytes, None]:
        held = [piece async for piece in super().answer(body, number)]
        yield delta("".join(content(piece) for piece in held), "length")
        for piece in held[-2:]:
            yield piece


class CacheByPrompt(Attack):
    """Keeps every answer by its prompt."""

    codes = frozenset({"repeat-cache"})

    def key(self, body: Body) -> str:
        return str(body["messages"])

    async def answer(self, body: Body, number: int) -> AsyncGenerator[bytes, None]:
        self.kept: dict[str, list[bytes]] = getattr(self, "kept", {})
        key = self.key(body)
        if key in self.kept:
            for piece in self.kept[key]:
                yield piece
            return
        held: list[bytes] = []
        async with aclosing(super().answer(body, number)) as pieces:
            async for piece in pieces:
                held.append(piece)
                yield piece
        self.kept[key] = held


class Replay(CacheByPrompt):
    """Yesterday's answers to the same seed."""

    codes = frozenset({"held-back", "impossible-speed", "repeat-cache"})
    rounds = 2


class HoldScored(Attack):
    """Unless it looks like a probe, the first part of an answer waits until the rest can flow faster."""

    codes = frozenset({"held-back"})
    scenario = "B"
    pace = 0.66

    async def answer(self, body: Body, number: int) -> AsyncGenerator[bytes, None]:
        self.seen: set[str] = getattr(self, "seen", set())
        known = body["max_tokens"] <= PROBE_TOKENS or str(body["messages"]) in self.seen
        self.seen.add(str(body["messages"]))
        if known:
            async with aclosing(super().answer(body, number)) as pieces:
                async for piece in pieces:
                    yield piece
            return
        made: asyncio.Queue[tuple[float, bytes] | None] = asyncio.Queue()
        task = asyncio.create_task(self._pull(body, number, made))
        held, begun = [], 0.0
        need = int(body["max_tokens"] * (1 - self.pace)) + 2
        while len(held) < need and (item := await made.get()) is not None:
            begun = begun or item[0]
            held.append(item)
        step = self.pace * (held[-1][0] - begun) / (len(held) - 1) if held else 0.0
        due = time()
        for _, piece in held:
            due += step
            await asyncio.sleep(max(0.0, due - time()))
            yield piece
        while (item := await made.get()) is not None:
            due += step
            await asyncio.sleep(max(0.0, due - time()))
            yield item[1]
        await task

    async def _pull(self, body: Body, number: int, made: asyncio.Queue[tuple[float, bytes] | None]) -> None:
        async with aclosing(super().answer(body, number)) as pieces:
            async for piece in pieces:
                made.put_nowait((time(), piece))
        made.put_nowait(None)


class DropSome(Attack):
    """Every twentieth request gets no answer."""

    codes = frozenset({"failures"})
    scenario = "C"
    every = 20

    async def answer(self, body: Body, number: int) -> AsyncGenerator[bytes, None]:
        if number % self.every == 0:
            raise Hangup
        async for piece in super().answer(body, number):
            yield piece


class HangSome(DropSome):
    """Every tenth request is never answered."""

    every = 10
    limit = 1.5

    async def answer(self, body: Body, number: int) -> AsyncGenerator[bytes, None]:
        if number % self.every == 0:
            await asyncio.sleep(60)
        async for piece in Attack.answer(self, body, number):
            yield piece


class ErrorInStream(DropSome):
    """Status 200, and an error where the text should be."""

    every = 10

    async def answer(self, body: Body, number: int) -> AsyncGenerator[bytes, None]:
        if number % self.every == 0:
            yield event({"error": {"message": "out of memory", "code": 500}})
            yield DONE
            return
        async for piece in Attack.answer(self, body, number):
            yield piece


class CloseMidStream(DropSome):
    """Every tenth connection is closed after a few tokens."""

    every = 10

    async def answer(self, body: Body, number: int) -> AsyncGenerator[bytes, None]:
        seen = 0
        async for piece in Attack.answer(self, body, number):
            yield piece
            seen += 1
            if number % self.every == 0 and seen == 4:
                raise Hangup


class SkewedDate(Attack):
    """Dates that run an hour ahead."""

    codes = frozenset({"clock-skew"})

    @property
    def headers(self) -> str:  # type: ignore[override]
        return f"Date: {formatdate(time() + 3600, usegmt=True)}\r\n"


class NoDone(Attack):
    """The stream ends without saying so."""

    codes = frozenset({"failures"})

    def change(self, event: bytes, number: int) -> list[bytes]:
        return [] if event == DONE else [event]


class Garbage(Attack):
    """A third of the chunks do not parse."""

    codes = frozenset({"failures"})

    def change(self, event: bytes, number: int) -> list[bytes]:
        return [event, b'data: {"choices": [NaN\n\n'] if number % 3 == 0 else [event]


ATTACKS: tuple[type[Attack], ...] = (
    SlowAlone,
    ShedLoad,
    RefuseAll,
    Truncate,
    EarlyEnd,
    Empty,
    InflateUsage,
    DeflateUsage,
    BlankFirst,
    InvisibleFirst,
    FakeFirst,
    FakeFirstUnderLoad,
    FakeFirstLater,
    CutPrompt,
    HoldBack,
    HoldHalf,
    HoldAndPace,
    OneChunk,
    CacheByPrompt,
    Replay,
    HoldScored,
    DropSome,
    HangSome,
    ErrorInStream,
    CloseMidStream,
    SkewedDate,
    NoDone,
    Garbage,
)
