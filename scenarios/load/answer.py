"""From a raw record to an answer: the HTTP frame is taken off, the stream read, the outcome named."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from email.utils import parsedate_to_datetime

import httptools

from scenarios.load.spill import Outcome, Record
from scenarios.load.sse import BAD, STREAM_ERROR, Stream, read_stream

_OUTCOMES = {
    Outcome.CLOSED: "closed-early",
    Outcome.CONNECT: "connect",
    Outcome.BAD_HTTP: "bad-http",
    Outcome.TIMEOUT: "timeout",
    Outcome.UNSENT: "unsent",
    Outcome.FLOOD: "flood",
}


@dataclass(frozen=True)
class Answer:
    """What a request came to.

    Attributes:
        headers: arrival of the response's headers (monotonic ns), None where none came.
        status: HTTP status, 0 where none came.
        error: None when the answer is whole and well-formed, else a code: connect, http-STATUS, stream-error,
            closed-early, timeout, unsent, bad-sse, bad-http, flood.
        detail: one line of evidence for it.
        cut: the client ended it on purpose, after as much as it wanted.
        date: Unix time in the Date header, None without a readable one.
    """

    stream: Stream
    headers: int | None
    status: int
    error: str | None
    detail: str
    cut: bool
    date: float | None = None


def read_answer(record: Record) -> Answer:
    """Never raises: whatever came is an answer or an error."""
    message = _Message(record)
    stream = read_stream(message.body)
    error, detail = _error(record, message, stream)
    return Answer(
        stream, message.headers, message.status, error, detail, record.outcome is Outcome.CUT, message.date
    )


class _Message:
    """The response's frame, read again with everything that the data path had no time for."""

    def __init__(self, record: Record) -> None:
        self.headers: int | None = None
        self.status = 0
        self.complete = False
        self.framed = False
        self.date: float | None = None
        self.body: list[tuple[int, bytes]] = []
        self._at = 0
        self._parser = httptools.HttpResponseParser(self)
        for self._at, piece in zip(record.times, record.pieces, strict=True):
            try:
                self._parser.feed_data(piece)
            except httptools.HttpParserError:
                break
            if self.complete:
                break

    def on_header(self, name: bytes, value: bytes) -> None:
        name = name.lower()
        self.framed |= name in (b"content-length", b"transfer-encoding")
        if name == b"date":
            self.date = _unix(value)

    def on_headers_complete(self) -> None:
        self.headers = self._at
        self.status = self._parser.get_status_code()

    def on_body(self, data: bytes) -> None:
        if not self.complete:
            self.body.append((self._at, data))

    def on_message_complete(self) -> None:
        self.complete = True


def _unix(value: bytes) -> float | None:
    try:
        return parsedate_to_datetime(value.decode("latin-1")).timestamp()
    except (ValueError, OverflowError):
        return None


def _error(record: Record, message: _Message, stream: Stream) -> tuple[str | None, str]:
    outcome = record.outcome
    if message.status and message.status != 200:
        return f"http-{message.status}", _start(message.body)
    if stream.error == STREAM_ERROR:
        return STREAM_ERROR, stream.detail
    # A body without a length ends with its connection; [DONE] then says that it is whole.
    by_close = (
        outcome is Outcome.CLOSED and message.headers is not None and not message.framed and stream.done
    )
    if outcome in _OUTCOMES and not by_close:
        return _OUTCOMES[outcome], stream.detail or f"after {len(record.pieces)} reads"
    if stream.error is not None:
        return stream.error, stream.detail
    if outcome is Outcome.CUT:
        return None, ""
    if not stream.done:
        return _unfinished(message.body)
    return None, ""


def _unfinished(body: list[tuple[int, bytes]]) -> tuple[str, str]:
    start = _start(body)
    if start.startswith("{"):
        return _whole_json(b"".join(data for _, data in body), start)
    return "closed-early", f"no [DONE]; the body starts {start[:60]!r}"


def _whole_json(body: bytes, start: str) -> tuple[str, str]:
    try:
        data = json.loads(body)
    except (ValueError, RecursionError):
        return BAD, f"not a stream: {start}"
    if isinstance(data, dict) and data.get("error") is not None:
        return STREAM_ERROR, start
    return BAD, f"not a stream: {start}"


def _start(body: list[tuple[int, bytes]]) -> str:
    return b"".join(_first(body)).decode("utf-8", "replace").strip()[:200]


def _first(body: list[tuple[int, bytes]]) -> Iterator[bytes]:
    size = 0
    for _, data in body:
        yield data
        size += len(data)
        if size > 400:
            return
