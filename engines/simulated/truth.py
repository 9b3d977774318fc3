"""The ground truth: a line of JSON a request, with the moments at which its tokens were due."""

from __future__ import annotations

import hashlib
import json
import time
from pathlib import Path
from typing import Any

from engines.simulated.answer import Answer

_KEPT = 4_000_000
"""Tokens whose times are kept at most (16 bytes each)."""


class Truth:
    """Keeps a record of each answer and writes them when nothing is in flight, so as not to disturb any.

    A line holds, in seconds of CLOCK_MONOTONIC, `arrival`, `tokens` (the intended moment of each), `sent`
    (when each was really written) and `late` (the worst of the differences: a server that cannot keep up);
    and `id`, `prompt_sha256`, `text_sha256`, `prompt_tokens`, `completion_tokens`, `cached_tokens`, `chunks`,
    `finish` (`stop`, `length`, `gone`). The file is whole once the server has ended.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._kept: list[Answer] = []
        self._tokens = 0
        self._last = 0.0

    def add(self, answer: Answer) -> None:
        """Keep an answer that has ended, whichever way."""
        self._kept.append(answer)
        self._tokens += answer.produced
        self._last = time.monotonic()
        if self._tokens >= _KEPT:
            self.flush()

    def rested(self, seconds: float) -> bool:
        """Whether the last answer ended at least so long ago."""
        return time.monotonic() - self._last >= 0.9 * seconds

    def flush(self) -> None:
        """Append what is kept to the file."""
        if not self._kept:
            return
        lines = "".join(json.dumps(_record(answer)) + "\n" for answer in self._kept)
        self._kept.clear()
        self._tokens = 0
        with self._path.open("a", encoding="utf-8") as file:
            file.write(lines)


def _record(answer: Answer) -> dict[str, Any]:
    return {
        "id": answer.identity,
        "arrival": answer.arrival,
        "tokens": [round(moment, 7) for moment in answer.times],
        "sent": [round(moment, 7) for moment in answer.sent],
        "late": max((b - a for a, b in zip(answer.times, answer.sent, strict=True)), default=0.0),
        "prompt_sha256": answer.prompt_digest,
        "text_sha256": hashlib.sha256(answer.text().encode()).hexdigest(),
        "prompt_tokens": len(answer.prompt),
        "completion_tokens": answer.produced,
        "cached_tokens": answer.cached,
        "chunks": answer.chunks,
        "finish": "gone" if answer.gone else answer.finish,
    }
