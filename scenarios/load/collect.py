"""Turns raw records into rows, behind the senders: a niced thread, so that reading never delays sending."""

from __future__ import annotations

import hashlib
import os
import threading
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from scenarios.load.answer import Answer, read_answer
from scenarios.load.entry import Entry
from scenarios.load.spill import NEVER, Record, SpillReader
from scenarios.load.sse import blank
from scenarios.rows import Writer

BACKLOG = 32 << 20
"""Bytes of raw records that are read while the load still runs: a short run is not disturbed at all, and a
long one keeps its disk and memory flat."""
PATIENCE = 15.0
"""Seconds after which waiting records are read however few they are, so that a killed run leaves rows."""
NICE = 10


class Counter(Protocol):
    """What is needed of a tokenizer."""

    def chunk_tokens(self, chunks: Sequence[str]) -> list[int]:
        """Tokens of a streamed text, by chunk."""
        ...


@dataclass(frozen=True)
class Start:
    """A stage's start on both clocks: monotonic ns, and Unix seconds."""

    ns: int
    unix: float


class Collector:
    """Reads spill files as they grow and writes rows.

    `trust_usage`: a recount of the text proves little (dummy weights); chunks hold what the server says.
    """

    def __init__(
        self,
        spills: Sequence[Path],
        out: Path,
        entries: Sequence[Entry],
        tokenizer: Counter | None,
        trust_usage: bool = False,
        patience: float = PATIENCE,
    ) -> None:
        self._patience = patience
        self._readers = [SpillReader(spill) for spill in spills]
        self._writer = Writer(out)
        self._entries = entries
        self._tokenizer = tokenizer
        self._trust_usage = trust_usage
        self._stop = threading.Event()
        self._error: BaseException | None = None
        self._thread = threading.Thread(target=self._watch, name="collector", daemon=True)
        self.starts: dict[int, Start] = {}
        self.count = 0

    def start(self) -> None:
        """Begin to watch."""
        self._thread.start()

    def finish(self) -> None:
        """Read the rest; all rows are on disk when this returns. Raises what went wrong in the thread."""
        self._stop.set()
        self._thread.join()
        if self._error is not None:
            raise self._error

    def _watch(self) -> None:
        try:
            os.setpriority(os.PRIO_PROCESS, threading.get_native_id(), NICE)
            last = time.monotonic()
            while not self._stop.wait(min(1.0, self._patience)):
                waiting = sum(reader.waiting for reader in self._readers)
                if waiting > BACKLOG or (waiting and time.monotonic() - last > self._patience):
                    self._drain()
                    last = time.monotonic()
            self._drain()
        except BaseException as error:
            self._error = error

    def _drain(self) -> None:
        for reader in self._readers:
            for record in reader:
                start = self.starts[record.stage]
                self._writer.add(
                    row(record, self._entries[record.key], start, self._tokenizer, self._trust_usage)
                )
                self.count += 1
        self._writer.flush()


def row(
    record: Record, entry: Entry, start: Start, tokenizer: Counter | None, trust_usage: bool = False
) -> dict[str, Any]:
    """The row of one record. Never raises for what a server sent."""
    answer = read_answer(record)
    text = "".join(chunk for _, chunk in answer.stream.chunks)
    return {
        **_asked(entry),
        **_times(record, answer, start),
        **_said(answer),
        **_content(answer, start, tokenizer, trust_usage),
        "connected_late": record.late,
        "text": text,
        "text_sha256": hashlib.sha256(text.encode()).hexdigest(),
    }


def _asked(entry: Entry) -> Mapping[str, Any]:
    return {
        "key": entry.key,
        "index": entry.index,
        "role": entry.role,
        "traffic": entry.traffic,
        "asked_input": entry.input_tokens,
        "asked_output": entry.output,
        "prompt_sha256": hashlib.sha256(entry.prompt.encode("utf-8", "replace")).hexdigest(),
        "repeats": entry.repeats,
    }


def _times(record: Record, answer: Answer, start: Start) -> Mapping[str, Any]:
    return {
        "t0": start.unix,
        "intended": _seconds(record.intended, start),
        "due": _seconds(record.due, start),
        "sent": _seconds(record.sent, start),
        "headers": _seconds(answer.headers, start),
        "end": _seconds(record.end, start),
        "date_offset": _date_offset(answer, start),
    }


def _date_offset(answer: Answer, start: Start) -> float | None:
    """Date headers know whole seconds; half of one is the best guess at the rest."""
    if answer.date is None or answer.headers is None:
        return None
    return answer.date + 0.5 - (start.unix + (answer.headers - start.ns) / 1e9)


def _seconds(at: int | None, start: Start) -> float | None:
    return None if at is None or at == NEVER else (at - start.ns) / 1e9


def _said(answer: Answer) -> Mapping[str, Any]:
    usage = answer.stream.usage
    return {
        "status": min(answer.status, 32767),
        "ok": answer.error is None,
        "error": answer.error,
        "error_detail": answer.detail or None,
        "cut": answer.cut,
        "finish_reason": answer.stream.finish_reason,
        "usage_prompt": usage.prompt,
        "usage_completion": usage.completion,
        "cached_tokens": usage.cached,
        "chunks": len(answer.stream.chunks),
    }


def _content(answer: Answer, start: Start, tokenizer: Counter | None, trust_usage: bool) -> Mapping[str, Any]:
    chunks = answer.stream.chunks
    texts = [text for _, text in chunks]
    counts = tokenizer.chunk_tokens(texts) if tokenizer is not None and texts else [0] * len(texts)
    recount = sum(counts)
    if trust_usage:
        counts = _spread(counts, answer.stream.usage.completion)
    first = next((place for place, text in enumerate(texts) if not blank(text)), len(texts))
    seen = chunks[first:]
    tokens = counts[first:]
    if tokens:
        tokens[0] += sum(counts[:first])
    return {
        "recount": None if tokenizer is None else recount,
        "first_blank": _seconds(chunks[0][0], start) if first and chunks else None,
        "first_content": _seconds(seen[0][0], start) if seen else None,
        "chunk_times": [(at - start.ns) / 1e9 for at, _ in seen],
        "chunk_tokens": tokens,
    }


def _spread(counts: Sequence[int], total: int | None) -> list[int]:
    """`total` tokens over the chunks: one each where that fits, else in proportion to the counts."""
    if total is None or not counts:
        return list(counts)
    if total == len(counts) or not sum(counts):
        base, rest = divmod(total, len(counts))
        return [base + (place < rest) for place in range(len(counts))]
    made, given, seen, whole = [], 0, 0, sum(counts)
    for count in counts:
        seen += count
        upto = round(total * seen / whole)
        made.append(upto - given)
        given = upto
    return made
