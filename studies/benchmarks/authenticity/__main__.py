"""Calibrates the check of where text comes from, and writes what it found as a table."""

from __future__ import annotations

import argparse
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path

from engines.reference import Item, reference
from engines.runtime import find
from scenarios import models, tokenizer
from scenarios.authenticity.evidence import Graded, Text
from scenarios.provenance import host
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


def prompts(path: Path, words: Tokenizer, count: int, seed: int) -> Prompts:
    """Short and long prompts of the CPU profile, half each."""
    model = models.open_model(path, max_length=2048)
    sets = [build(Plan(letter, "cpu", seed), model).requests[:count:2] for letter in "CD"]
    texts = [request.prompt for requests in sets for request in requests]
    tokens = [tuple(words.chat_ids([{"role": "user", "content": text}])) for text in texts]
    return Prompts(tuple(texts), tuple(tokens))


def graded(
    path: Path, words: Tokenizer, asked: Prompts, answers: Answers, length: int
) -> dict[str, list[Graded]]:
    """Every source's answers under the model's own weights, by way of their text, as a client gets them."""
    items = [
        Item(prompt, tuple(words.encode(words.decode(answer))), ((0, length),))
        for source in answers.values()
        for prompt, answer in zip(asked.tokens, source, strict=True)
    ]
    figures = iter(reference(path, models.digest(path), items, limit=7200.0).items)
    return {
        name: [
            Graded(place, each.logprob, each.gap, each.rank)
            for place, each in zip(range(len(source)), figures, strict=False)
        ]
        for name, source in answers.items()
    }


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
    asked = prompts(path, words, options.prompts, options.seed)
    made = generated(find("torch"), path, asked, length, options.out)
    answers = {**made, **elsewhere(words, asked, made["exact"], length)}
    found = graded(path, words, asked, answers, length)
    kept = {name: [asdict(one) for one in some] for name, some in found.items()}
    (options.out / "graded.json").write_text(json.dumps({"host": host(), "graded": kept}))
    lines = list(table(found))
    (options.out / "table.md").write_text("\n".join(lines) + "\n")
    print("\n".join(lines))


if __name__ == "__main__":
    main()
