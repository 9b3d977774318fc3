"""Raw records of ended requests: a framed binary file, appended by a sender, read after (or behind) it."""

from __future__ import annotations

import os
import struct
from array import array
from collections.abc import Iterator
from dataclasses import dataclass, field
from enum import IntEnum
from pathlib import Path

MAGIC = b"CEI1"
_HEAD = struct.Struct("<4sQIHBBqqqqI")
NEVER = -1
"""A time that did not come to pass."""


class Outcome(IntEnum):
    """How a request ended, as its connection saw it."""

    COMPLETE = 0
    CLOSED = 1
    CONNECT = 2
    BAD_HTTP = 3
    TIMEOUT = 4
    UNSENT = 5
    CUT = 6
    FLOOD = 7


@dataclass(slots=True)
class Record:
    """One request on the wire. Times are `time.monotonic_ns`; NEVER where it did not happen.

    Attributes:
        key: position in the list of all requests.
        intended: when it was meant to be sent: its schedule, or the moment its slot became free.
        due: when it could have been sent: `intended`, or later where the cap on requests in flight held it.
        late: whether the send had to wait for a new connection.
        times, pieces: arrival time and bytes of each read, in order.
    """

    key: int
    stage: int
    intended: int
    due: int
    sent: int = NEVER
    end: int = NEVER
    outcome: Outcome = Outcome.UNSENT
    late: bool = False
    times: list[int] = field(default_factory=list)
    pieces: list[bytes] = field(default_factory=list)


def pack(record: Record) -> bytes:
    """A record as one frame."""
    lengths = array("I", map(len, record.pieces)).tobytes()
    times = array("q", record.times).tobytes()
    raw = b"".join(record.pieces)
    size = len(lengths) + len(times) + len(raw)
    head = _HEAD.pack(
        MAGIC,
        size,
        record.key,
        record.stage,
        record.outcome,
        record.late,
        record.intended,
        record.due,
        record.sent,
        record.end,
        len(record.pieces),
    )
    return b"".join((head, times, lengths, raw))


def _unpack(head: tuple[int, ...], body: bytes) -> Record:
    _, _, key, stage, outcome, late, intended, due, sent, end, count = head
    times, lengths = array("q"), array("I")
    times.frombytes(body[: 8 * count])
    lengths.frombytes(body[8 * count : 12 * count])
    pieces, at = [], 12 * count
    for length in lengths:
        pieces.append(body[at : at + length])
        at += length
    return Record(key, stage, intended, due, sent, end, Outcome(outcome), bool(late), list(times), pieces)


class SpillReader:
    """Reads whole frames, in order, as far as the file holds them; a torn last frame waits for its rest."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._offset = 0

    @property
    def waiting(self) -> int:
        """Bytes not read yet."""
        return self._path.stat().st_size - self._offset if self._path.exists() else 0

    def __iter__(self) -> Iterator[Record]:
        if not self._path.exists():
            return
        with self._path.open("rb") as file:
            while (record := self._next(file.fileno())) is not None:
                yield record

    def _next(self, file: int) -> Record | None:
        raw = os.pread(file, _HEAD.size, self._offset)
        if len(raw) < _HEAD.size:
            return None
        head = _HEAD.unpack(raw)
        if head[0] != MAGIC:
            raise ValueError(f"{self._path} is not a spill file, or is damaged at byte {self._offset}")
        body = _read(file, head[1], self._offset + _HEAD.size)
        if len(body) < head[1]:
            return None
        self._offset += _HEAD.size + head[1]
        return _unpack(head, body)


def _read(file: int, size: int, offset: int) -> bytes:
    parts: list[bytes] = []
    while size > 0 and (part := os.pread(file, size, offset)):
        parts.append(part)
        size -= len(part)
        offset += len(part)
    return b"".join(parts)
