"""Calibrates the check of where text comes from, and writes what it found as a table."""

from __future__ import annotations

import argparse
import hashlib
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from engines.reference import Item, reference
from engines.runtime import find
from scenarios import models, tokenizer
from scenarios.authenticity.evidence import Graded, Text
from scenarios.scenario import Plan
from scenarios.tokenizer import Tokenizer
from scenarios.workload import build
from studies.benchmarks.authenticity.rates import voided
from studies.benchmarks.authenticity.sources import (
    DAMAGED,
    HONEST,
    OTHER_MODELS,
    Answers,
    Prompts,
    elsewhere,
    generated,
)

LENGTHS = (8, 24, 48)
COUNT = 16
SHARES = (1 / 3, 0.2)
CANNED = "text that people wrote"


def prompts(path: Path, words: Tokenizer, count: int, seed: int, out: Path) -> Prompts:
    """Short and long prompts of the CPU profile, half each; those that `out` holds already stay."""
    kept = out / "texts.json"
    if not kept.is_file():
        model = models.open_model(path, max_length=2048)
        sets = [build(Plan(letter, "cpu", seed), model).requests[: count // 2] for letter in "CD"]
        kept.write_text(json.dumps([request.prompt for requests in sets for request in requests]))
    texts = json.loads(kept.read_text())
    tokens = [tuple(words.chat_ids([{"role": "user", "content": text}])) for text in texts]
    return Prompts(tuple(texts), tuple(tokens))


def graded(
    path: Path, words: Tokenizer, asked: Prompts, answers: Answers, length: int, out: Path
) -> dict[str, list[Graded]]:
    """Every source's answers under the model's own weights, by way of their text, as a client gets them.

    What `out` holds already is not worked out again.
    """
    items = {
        name: [
            Item(prompt, tuple(words.encode(words.decode(answer))), ((0, length),))
            for prompt, answer in zip(asked.tokens, source, strict=True)
        ]
        for name, source in answers.items()
    }
    kept = out / "graded.jsonl"
    known = _known(kept)
    missing = [item for some in items.values() for item in some if key(item) not in known]
    if missing:
        made = reference(path, models.digest(path), missing, limit=7200.0).items
        with kept.open("a") as file:
            for item, each in zip(missing, made, strict=True):
                file.write(json.dumps({"key": key(item), **asdict(each)}) + "\n")
        known = _known(kept)
    return {
        name: [Graded(place, **known[key(item)]) for place, item in enumerate(some)]
        for name, some in items.items()
    }


def key(item: Item) -> str:
    """Tells an item from others."""
    return hashlib.sha256(json.dumps(asdict(item)).encode()).hexdigest()[:32]


def _known(kept: Path) -> dict[str, dict[str, Any]]:
    lines = kept.read_text().splitlines() if kept.is_file() else []
    rows = [json.loads(line) for line in lines]
    return {row.pop("key"): {name: tuple(values) for name, values in row.items()} for row in rows}


def table(found: Mapping[str, Sequence[Graded]]) -> Iterator[str]:
    """The table in Markdown, line by line."""
    shown = " | ".join(f"void at {length} tokens" for length in LENGTHS)
    yield f"| answers from | own choice | nats a token | {shown} |"
    yield "|---" * (3 + len(LENGTHS)) + "|"
    for name in sorted(found, key=lambda name: _order(name)):
        rates = [voided(found[name], length, count=COUNT) for length in LENGTHS]
        yield _line(name, Text("", tuple(found[name])), rates)
    for share in SHARES:
        rates = [
            voided(found[CANNED], length, count=COUNT, honest=found[HONEST[-1]], share=share)
            for length in LENGTHS
        ]
        yield _line(f"{share:.0%} of them {CANNED}, the others {HONEST[-1]}", None, rates)


def _order(name: str) -> int:
    known = (*HONEST, *DAMAGED, *OTHER_MODELS)
    return known.index(name) if name in known else len(known)


def _line(name: str, text: Text | None, rates: Sequence[float]) -> str:
    about = [f"{text.agreement:.3f}", f"{text.gaps.mean():.3f}"] if text else ["", ""]
    return "| " + " | ".join([name, *about, *(f"{rate:.1%}" for rate in rates)]) + " |"


def main() -> None:
    """About 20 minutes of one core; what was generated is kept in --out and used again."""
    line = argparse.ArgumentParser(prog="python -m studies.benchmarks.authenticity", description=__doc__)
    line.add_argument("--model", default="smollm2-135m", help="a name of `ceiling models fetch`")
    line.add_argument("--prompts", type=int, default=16)
    line.add_argument("--seed", type=int, default=5)
    line.add_argument("--out", type=Path, default=Path("authenticity"), help="directory for what was made")
    options = line.parse_args()
    options.out.mkdir(parents=True, exist_ok=True)
    path = models.fetch(options.model)
    words, length = tokenizer.load(path), max(LENGTHS)
    asked = prompts(path, words, options.prompts, options.seed, options.out)
    made = generated(find("torch"), path, asked, length, options.out)
    answers = {**made, **elsewhere(words, asked, made["exact"], length)}
    found = graded(path, words, asked, answers, length, options.out)
    lines = list(table(found))
    (options.out / "table.md").write_text("\n".join(lines) + "\n")
    print("\n".join(lines))


if __name__ == "__main__":
    main()
