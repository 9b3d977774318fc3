"""An answer on its way out: its text, its timing, and the bytes that carry it."""

from __future__ import annotations

import json
import time
from array import array
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from engines.simulated.chat import ChatRequest
from engines.simulated.text import Story

Send = Callable[[bytes], None]

STREAM_HEAD = (
    b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream; charset=utf-8\r\n"
    b"cache-control: no-cache\r\ntransfer-encoding: chunked\r\n\r\n"
)
_DONE = b"data: [DONE]\n\n"
_END = b"0\r\n\r\n"


@dataclass(eq=False)
class Answer:
    """One request being answered.

    Attributes:
        request, story: what was asked, and the text to come.
        prompt: tokens of the prompt, in order.
        target: tokens to produce; `natural` says whether the end is the text's own.
        arrival: when the request was complete, in seconds of CLOCK_MONOTONIC, as every time here.
        send: writes to the connection; `close` ends the response there.
        times: intended moment of every token; `sent`: when it was really written.
        cached: prompt tokens that came from the prefix cache.
        prompt_digest: identifies the prompt in the ground truth.
    """

    identity: str
    model: str
    request: ChatRequest
    story: Story
    prompt: list[int]
    target: int
    natural: bool
    arrival: float
    send: Send
    close: Callable[[], None]
    prompt_digest: str = ""
    created: int = field(default_factory=lambda: int(time.time()))
    produced: int = 0
    times: array[float] = field(default_factory=lambda: array("d"))
    sent: array[float] = field(default_factory=lambda: array("d"))
    chunks: int = 0
    cached: int = 0
    reports_usage: bool = True
    gone: bool = False

    def __post_init__(self) -> None:
        frame = {"id": self.identity, "object": "chat.completion.chunk", "created": self.created}
        opening = json.dumps({**frame, "model": self.model, "choices": []}, separators=(",", ":"))
        self._frame = b"data: " + opening.encode().removesuffix(b"]}")
        self._head = self._frame + b'{"index":0,"delta":{"content":"'
        if self.request.stream:
            self.send(STREAM_HEAD)

    @property
    def finish(self) -> str:
        """The finish reason."""
        return "stop" if self.natural else "length"

    @property
    def done(self) -> bool:
        """Whether all tokens are out."""
        return self.produced >= self.target

    def emit(self, count: int, moment: float) -> None:
        """Send the next `count` tokens as one chunk that was due at `moment`."""
        end = self.produced + count
        tokens = self.story.take(end)
        text = tokens[self.produced][1] if count == 1 else b"".join(t for _, t in tokens[self.produced : end])
        first, self.produced = not self.produced, end
        if self.request.stream:
            self._write(text, first)
        elif self.done:
            self._respond()
        now = time.monotonic()
        for _ in range(count):
            self.times.append(moment)
            self.sent.append(now)
        self.chunks += 1
        if self.done:
            self.close()

    def text(self) -> str:
        """The text sent so far."""
        made = b"".join(text for _, text in self.story.tokens[: self.produced])
        return str(json.loads(b'"' + made + b'"'))

    def usage(self) -> dict[str, Any]:
        """Tokens of prompt and answer, counted by the tokenizer."""
        return {
            "prompt_tokens": len(self.prompt),
            "total_tokens": len(self.prompt) + self.produced,
            "completion_tokens": self.produced,
            "prompt_tokens_details": {"cached_tokens": self.cached},
        }

    def _write(self, text: bytes, first: bool) -> None:
        last = self.done
        finish = b'"%s"' % self.finish.encode() if last else b"null"
        event = self._head + text + b'"},"logprobs":null,"finish_reason":' + finish + b"}]}\n\n"
        data = b"%x\r\n%b\r\n" % (len(event), event)
        if first:
            role = self._frame + (
                b'{"index":0,"delta":{"role":"assistant","content":""},"logprobs":null,"finish_reason":null}]}\n\n'
            )
            data = b"%x\r\n%b\r\n" % (len(role), role) + data
        if last:
            tail = self._tail()
            data += b"%x\r\n%b\r\n" % (len(tail), tail) + _END
        self.send(data)

    def _tail(self) -> bytes:
        if not (self.request.usage and self.reports_usage):
            return _DONE
        usage = json.dumps(self.usage(), separators=(",", ":")).encode()
        return self._frame + b'],"usage":' + usage + b"}\n\n" + _DONE

    def _respond(self) -> None:
        message = {"role": "assistant", "content": self.text()}
        choice = {"index": 0, "message": message, "logprobs": None, "finish_reason": self.finish}
        body: dict[str, Any] = {"id": self.identity, "object": "chat.completion", "created": self.created}
        body |= {"model": self.model, "choices": [choice]}
        if self.reports_usage:
            body["usage"] = self.usage()
        self.send(response(200, json.dumps(body).encode()))


def response(status: int, body: bytes, kind: str = "application/json") -> bytes:
    """A whole HTTP response."""
    head = (
        f"HTTP/1.1 {status} {_REASONS[status]}\r\ncontent-type: {kind}\r\ncontent-length: {len(body)}\r\n\r\n"
    )
    return head.encode() + body


_REASONS = {
    200: "OK",
    400: "Bad Request",
    404: "Not Found",
    405: "Method Not Allowed",
    409: "Conflict",
    413: "Content Too Large",
}
