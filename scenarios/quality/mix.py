"""Questions in the speed traffic: every scored prompt ends in one, so that none can be told from another."""

from __future__ import annotations

import json
import random
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path

from engines.contract import Model
from scenarios import tokenizer
from scenarios.quality import tasks
from scenarios.quality.tasks import Item
from scenarios.scenario import Plan
from scenarios.tokenizer import Tokenizer
from scenarios.workload import Request, RequestSet, build, digest_of

FILE = "questions.jsonl"
TRIES = 12
SHORT = 6
"""Tokens that a prompt may lack."""


@dataclass(frozen=True)
class Question:
    """What the request of this index asks: its whole prompt, its item, and the answer's tokens that count."""

    index: int
    prompt: str
    item: Item
    tokens: int


def asked(plan: Plan, model: Model, task: str | None) -> tuple[RequestSet, list[Question]]:
    """The plan's request set, with a task's questions in it where one is named.

    Raises TaskError, and as `workload.build` does.
    """
    plain = build(plan, model)
    return (plain, []) if task is None else mixed(plain, tasks.items(task), tokenizer.load(model.path))


def mixed(
    request_set: RequestSet, items: Sequence[Item], words: Tokenizer
) -> tuple[RequestSet, list[Question]]:
    """The request set with a question at the end of each scored prompt, as long as before.

    Items are dealt out by the set's digest; each is asked again only when all were, with another text before
    it. A request whose prompt is too short for its question keeps its prompt.
    """
    draw = random.Random(request_set.digest)
    dealt = [
        one
        for _ in range(len(request_set.requests) // len(items) + 1)
        for one in draw.sample(items, len(items))
    ]
    pairs = [
        (request, item, _prompt(request, item, words))
        for request, item in zip(request_set.requests, dealt, strict=False)
    ]
    requests = tuple(
        request if prompt is None else replace(request, prompt=prompt, input_tokens=_length(prompt, words))
        for request, _, prompt in pairs
    )
    questions = [
        Question(request.index, prompt, item, min(request.output_tokens, item.tokens))
        for request, item, prompt in pairs
        if prompt is not None
    ]
    made = RequestSet(request_set.warmup, requests, digest_of([*request_set.warmup, *requests]))
    return made, questions


def _prompt(request: Request, item: Item, words: Tokenizer) -> str | None:
    """The question with as much of the request's own text as keeps its length, or a few tokens less."""
    text = words.encode(request.prompt)
    spare = request.input_tokens - _length(item.prompt(""), words)
    best: tuple[int, str] | None = None
    for _ in range(TRIES):
        if spare < 1:
            break
        prompt = item.prompt(words.decode(text[:spare]).strip("\ufffd \n\t\r"))
        over = _length(prompt, words) - request.input_tokens
        if over <= 0 and (best is None or over > best[0]):
            best = over, prompt
        if over == 0:
            break
        spare -= over
    return best[1] if best and best[0] >= -SHORT else None


def _length(prompt: str, words: Tokenizer) -> int:
    return words.chat_tokens([{"role": "user", "content": prompt}])


def write(path: Path, questions: Iterable[Question]) -> None:
    """Keep questions as JSON lines."""
    path.write_text("".join(json.dumps(asdict(one)) + "\n" for one in questions), encoding="utf-8")


def read(path: Path) -> list[Question]:
    """What `write` kept."""
    lines = path.read_text(encoding="utf-8").splitlines()
    return [_question(json.loads(line)) for line in lines]


def _question(data: Mapping[str, object]) -> Question:
    item = data["item"]
    assert isinstance(item, dict)
    return Question(**{**data, "item": Item(**item)})  # type: ignore[arg-type]
