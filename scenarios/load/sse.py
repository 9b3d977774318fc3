"""Server-sent events and the chat stream in them, read from stamped pieces of bytes.

Whatever the bytes are, reading them ends in a `Stream`, never in an exception; and a stream that is not a
whole, well-formed answer carries an error.
"""

from __future__ import annotations

import json
import unicodedata
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any, NoReturn

DONE = b"[DONE]"
BAD = "bad-sse"
STREAM_ERROR = "stream-error"


@dataclass(frozen=True)
class Usage:
    """What the server says it counted; None where it does not say."""

    prompt: int | None = None
    completion: int | None = None
    cached: int | None = None


@dataclass
class Stream:
    """An answer as it came.

    Attributes:
        chunks: arrival (ns) and text of each chunk that has text, blank ones included.
        done: whether the closing `[DONE]` came.
        error: the first thing that was wrong: `bad-sse` or `stream-error`.
        detail: one line of evidence for it.
    """

    chunks: list[tuple[int, str]] = field(default_factory=list)
    finish_reason: str | None = None
    usage: Usage = field(default_factory=Usage)
    done: bool = False
    error: str | None = None
    detail: str = ""

    def fail(self, code: str, detail: str) -> None:
        """Note an error; the first one stays."""
        if self.error is None:
            self.error, self.detail = code, detail[:200]


class EventParser:
    """Cuts bytes, however they were split, into events; an event is (type, data).

    Lines end in LF, CRLF or CR; `data` lines are joined by LF; comments and unknown fields are skipped.
    """

    def __init__(self) -> None:
        self._tail: list[bytes] = []
        self._after_cr = False
        self._data: list[bytes] = []
        self._type = b""
        self._first = True

    def feed(self, piece: bytes) -> list[tuple[bytes, bytes]]:
        """Events that this piece completes."""
        if b"\r" in piece or self._after_cr:
            piece = self._unix(piece)
        if b"\n" not in piece:
            self._tail.append(piece)
            return []
        if self._tail:
            piece = b"".join((*self._tail, piece))
        *lines, rest = piece.split(b"\n")
        self._tail = [rest] if rest else []
        return self._lines(lines)

    def close(self) -> list[tuple[bytes, bytes]]:
        """The event that the end of the stream cuts off, if it has data."""
        rest, self._tail = b"".join(self._tail), []
        return self._lines([rest, b""])

    def _unix(self, piece: bytes) -> bytes:
        if self._after_cr and piece.startswith(b"\n"):
            piece = piece[1:]
            self._after_cr = False
        if piece:
            self._after_cr = piece.endswith(b"\r")
        return piece.replace(b"\r\n", b"\n").replace(b"\r", b"\n")

    def _lines(self, lines: list[bytes]) -> list[tuple[bytes, bytes]]:
        events = []
        if self._first and lines:
            self._first = False
            lines[0] = lines[0].removeprefix(b"\xef\xbb\xbf")
        for line in lines:
            if line:
                self._line(line)
            elif self._data:
                events.append((self._type, b"\n".join(self._data)))
                self._data, self._type = [], b""
            else:
                self._type = b""
        return events

    def _line(self, line: bytes) -> None:
        name, _, value = line.partition(b":")
        if name == b"data":
            self._data.append(value.removeprefix(b" "))
        elif name == b"event":
            self._type = value.removeprefix(b" ")


def read_stream(pieces: Iterable[tuple[int, bytes]]) -> Stream:
    """The chat stream in the body's pieces, each (arrival in ns, bytes)."""
    stream, parser, at = Stream(), EventParser(), 0
    for at, piece in pieces:
        for kind, data in parser.feed(piece):
            _event(stream, at, kind, data)
    for kind, data in parser.close():
        _event(stream, at, kind, data)
    return stream


def _event(stream: Stream, at: int, kind: bytes, data: bytes) -> None:
    if data.strip() == DONE:
        stream.done = True
        return
    if not data.strip():
        return
    try:
        message = json.loads(data.decode("utf-8"), parse_constant=_no_constant)
    except (ValueError, RecursionError) as error:
        stream.fail(BAD, f"an event is not JSON: {error}")
        return
    if not isinstance(message, dict):
        stream.fail(BAD, f"an event is not an object: {data[:80]!r}")
    elif message.get("error") is not None or kind == b"error":
        stream.fail(STREAM_ERROR, data[:200].decode("utf-8", "replace"))
    else:
        _message(stream, at, message)


def _no_constant(name: str) -> NoReturn:
    raise ValueError(f"{name} is not JSON")


def _message(stream: Stream, at: int, message: dict[str, Any]) -> None:
    if isinstance(message.get("usage"), dict):
        stream.usage = _usage(message["usage"])
    choices = message.get("choices")
    if choices is None:
        return
    if not isinstance(choices, list) or not all(isinstance(choice, dict) for choice in choices):
        stream.fail(BAD, "choices is not a list of objects")
        return
    for choice in choices:
        _choice(stream, at, choice)


def _choice(stream: Stream, at: int, choice: dict[str, Any]) -> None:
    if choice.get("index", 0) != 0:
        stream.fail(BAD, "more than the one choice that was asked for")
        return
    text = _text(choice)
    if text is None:
        stream.fail(BAD, "the content of a chunk is not text")
    elif text:
        if stream.done:
            stream.fail(BAD, "content after [DONE]")
        stream.chunks.append((at, text))
    reason = choice.get("finish_reason")
    if isinstance(reason, str):
        stream.finish_reason = reason.encode("utf-8", "replace").decode()


def _text(choice: dict[str, Any]) -> str | None:
    delta = choice.get("delta", choice)
    if not isinstance(delta, dict):
        return None if delta is not None else ""
    parts = []
    for name in ("reasoning_content", "reasoning", "content", "text"):
        value = delta.get(name)
        if isinstance(value, str):
            # Lone surrogates, which JSON can spell, are no text: nothing downstream could store them.
            parts.append(value if value.isascii() else value.encode("utf-8", "replace").decode("utf-8"))
        elif value is not None:
            return None
    if len(parts) > 1 and "reasoning" in delta and delta.get("reasoning") == delta.get("reasoning_content"):
        parts.pop(0)
    return "".join(parts)


def _usage(usage: dict[str, Any]) -> Usage:
    details = usage.get("prompt_tokens_details")
    return Usage(
        _count(usage.get("prompt_tokens")),
        _count(usage.get("completion_tokens")),
        _count(details.get("cached_tokens")) if isinstance(details, dict) else None,
    )


def _count(value: object) -> int | None:
    return value if isinstance(value, int) and not isinstance(value, bool) and 0 <= value < 1 << 31 else None


def blank(text: str) -> bool:
    """Whether a reader would see nothing: whitespace, control and format characters only."""
    return not text or text.isspace() or all(unicodedata.category(char)[0] in "ZC" for char in text)
