"""What the answers of a run were worth: each question's, beside the baseline's own answer to it."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import pyarrow as pa

from engines.contract import Model
from engines.host import Device
from engines.reference import greedy
from scenarios import models, tokenizer
from scenarios.quality.gate import Paired
from scenarios.quality.mix import Question
from scenarios.rows import SCORED

LIMIT = 3600.0
"""Seconds that the model may take for its own answers."""


@dataclass(frozen=True)
class Quality:
    """A task's outcome: `paired` None, and why, where nothing could be compared."""

    task: str
    paired: Paired | None = None
    why: str = ""


def judged(
    task: str,
    questions: Sequence[Question],
    tables: Iterable[pa.Table],
    model: Model,
    devices: Sequence[Device] = (),
    limit: float = LIMIT,
) -> Quality:
    """Compare with the greedy answers of the model itself, worked out once a request set.

    Unanswered questions count as wrong. Raises EngineNotInstalled, ReferenceFailed, ModelError.
    """
    if not questions:
        return Quality(task, None, "no prompt has room for a question: use a scenario with longer ones")
    words = tokenizer.load(model.path)
    models.check_weights(model)
    said = _texts(tables)
    prompts = [words.chat_ids([{"role": "user", "content": one.prompt}]) for one in questions]
    length = max(one.tokens for one in questions)
    own = greedy(model.path, models.digest(model.path), prompts, length, devices=devices, limit=limit)
    baseline = [
        one.item.right(words.decode(answer[: one.tokens])) for one, answer in zip(questions, own, strict=True)
    ]
    server = [
        one.item.right(words.decode(words.encode(said.get(one.index, ""))[: one.tokens])) for one in questions
    ]
    return Quality(task, Paired.of(baseline, server))


def _texts(tables: Iterable[pa.Table]) -> dict[int, str]:
    """Answers to scored requests by index."""
    texts: dict[int, str] = {}
    for table in tables:
        part = table.select(["index", "role", "text"]).to_pydict()
        rows = zip(part["index"], part["role"], part["text"], strict=True)
        texts.update({index: text for index, role, text in rows if role == SCORED})
    return texts
