"""Which of the speed run's own answers are looked at: drawn after the run, so that nobody can foresee it."""

from __future__ import annotations

import json
import random
import secrets
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc

from engines.reference import Item
from scenarios.rows import SCORED
from scenarios.tokenizer import Tokenizer
from scenarios.workload import Request

FILE = "sample.jsonl"

ANSWERS = 16
"""Answers looked at, at most."""
LEAST = 8
"""Answers looked at however long they are."""
TOKENS = 8192
"""Beyond the least, answers are looked at while prompts and answers have no more tokens together."""
HEAD, SLICE = 96, 48
"""Tokens at the start of an answer that are looked at, and those in one stretch later on."""

_SECRET = secrets.token_hex(16)
"""Of this process. Known to no server, and the same for all measurements of one request set, so that equal
answers are worked out once."""


@dataclass(frozen=True)
class Sampled:
    """One answer of the speed run: `index` of its request, what was asked, what came back, where to look."""

    index: int
    prompt: str
    text: str
    spans: tuple[tuple[int, int], ...]

    def item(self, words: Tokenizer) -> Item:
        """As token ids: the prompt in the model's own chat template, the answer as its text encodes."""
        prompt = words.chat_ids([{"role": "user", "content": self.prompt}])
        return Item(tuple(prompt), tuple(words.encode(self.text)), self.spans)


def sample(
    requests: Sequence[Request], tables: Iterable[pa.Table], digest: str, secret: str = _SECRET
) -> tuple[Sampled, ...]:
    """Some of the scored requests that were answered in full; `digest` is the request set's."""
    draw = random.Random(f"{secret} {digest}")
    order = draw.sample(range(len(requests)), len(requests))
    places = [draw.random() for _ in order]
    texts = _texts(tables, set(order[: 4 * ANSWERS]))
    chosen: list[Sampled] = []
    total = 0
    for index, place in zip(order, places, strict=True):
        request, text = requests[index], texts.get(index)
        spans = _spans(request.output_tokens, place)
        total += request.input_tokens + spans[-1][1] if text is not None else 0
        if len(chosen) == ANSWERS or (len(chosen) >= LEAST and total > TOKENS):
            break
        if text is not None:
            chosen.append(Sampled(index, request.prompt, text, spans))
    return tuple(chosen)


def _spans(tokens: int, place: float) -> tuple[tuple[int, int], ...]:
    """The head of an answer of so many tokens; where it is longer, also a stretch at `place` of the rest."""
    if tokens <= HEAD + SLICE:
        return ((0, tokens),)
    start = HEAD + int(place * (tokens - HEAD - SLICE + 1))
    return (0, HEAD), (start, start + SLICE)


def _texts(tables: Iterable[pa.Table], wanted: set[int]) -> dict[int, str]:
    """Texts of whole answers by the index of their request."""
    found: dict[int, str] = {}
    for table in tables:
        whole = pc.and_(pc.equal(table["role"], SCORED), pc.and_(table["ok"], pc.invert(table["cut"])))
        part = table.filter(whole).select(["index", "text"]).to_pydict()
        pairs = zip(part["index"], part["text"], strict=True)
        found.update({index: text for index, text in pairs if index in wanted})
    return found


def write(path: Path, sampled: Iterable[Sampled]) -> None:
    """Keep a sample as JSON lines."""
    lines = [json.dumps(asdict(one), ensure_ascii=False) + "\n" for one in sampled]
    path.write_text("".join(lines), encoding="utf-8", errors="replace")


def read(path: Path) -> tuple[Sampled, ...]:
    """What `write` kept."""
    lines = path.read_text(encoding="utf-8").split("\n")
    return tuple(_sampled(json.loads(line)) for line in lines if line)


def _sampled(data: dict[str, object]) -> Sampled:
    spans = data.pop("spans")
    assert isinstance(spans, list)
    return Sampled(**data, spans=tuple((start, end) for start, end in spans))  # type: ignore[arg-type]
