"""Answers to the same prompts from the model, from the model made worse, and from elsewhere."""

from __future__ import annotations

import json
import random
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from engines.environment import clean_environment
from engines.reference import QUIET
from engines.runtime import Runtime
from scenarios.tokenizer import Tokenizer

SCRIPT = Path(__file__).with_name("lossy_torch.py")

HONEST = (
    "exact",
    "bf16",
    "int8 weights",
    "fp8 weights",
    "int8 kv",
    "fp8 kv",
    "bf16, int8 weights, int8 kv",
    "bf16, fp8 weights, fp8 kv",
)
DAMAGED = (
    "int4 weights, groups of 32",
    "int4 weights",
    "int3 weights, groups of 32",
    "int3 weights",
    "int4 kv",
    "int3 kv",
)
OTHER_MODELS = (
    "2 of 30 layers left out",
    "8 of 30 layers left out",
    "weights with 5 % noise",
    "weights with 20 % noise",
)

Answers = Mapping[str, Sequence[Sequence[int]]]
"""By source: an answer (token ids) for each prompt, in order."""


@dataclass(frozen=True)
class Prompts:
    """`texts` are what people would ask, `tokens` what the model is given for it."""

    texts: tuple[str, ...]
    tokens: tuple[tuple[int, ...], ...]


def generated(runtime: Runtime, model: Path, prompts: Prompts, length: int, out: Path) -> Answers:
    """Greedy answers of every variant of the model; what `out` holds already is not made again."""
    kept = out / "answers.jsonl"
    missing = [
        name for name in (*HONEST, *DAMAGED, *OTHER_MODELS) if name not in _read(kept, len(prompts.texts))
    ]
    if missing:
        source, made = out / "prompts.jsonl", out / "answers.new"
        source.write_text("".join(json.dumps(tokens) + "\n" for tokens in prompts.tokens))
        argv = [*runtime.program, str(SCRIPT), "--model", str(model), "--input", str(source)]
        argv += ["--output", str(made), "--tokens", str(length), "--only", ";".join(missing)]
        env = {**clean_environment(runtime.program[0]), **runtime.env, **QUIET}
        subprocess.run(argv, env=env, stdin=subprocess.DEVNULL, stdout=sys.stderr, check=True)
        with kept.open("a") as file:
            file.write(made.read_text())
    return _read(kept, len(prompts.texts))


def _read(kept: Path, count: int) -> dict[str, list[list[int]]]:
    """Whole variants only."""
    found: dict[str, dict[int, list[int]]] = {}
    for line in kept.read_text().splitlines() if kept.is_file() else ():
        row = json.loads(line)
        found.setdefault(row["variant"], {})[row["index"]] = row["answer"]
    return {
        name: [rows[place] for place in range(count)] for name, rows in found.items() if len(rows) == count
    }


def elsewhere(words: Tokenizer, prompts: Prompts, exact: Sequence[Sequence[int]], length: int) -> Answers:
    """Impostors that need no model: its own text, but not for this prompt, or not all of it."""
    draw = random.Random(1)
    asked = [words.encode(text) for text in prompts.texts]
    middle, late = ([_cut(ids, draw.randrange(len(ids) - length), length) for ids in asked] for _ in range(2))
    return {
        "its answers to other prompts": [exact[(place + 3) % len(exact)] for place in range(len(exact))],
        "text that people wrote": [asked[(place + 5) % len(asked)][:length] for place in range(len(asked))],
        "the prompt's beginning": [ids[:length] for ids in asked],
        "the prompt's middle": middle,
        "the prompt's end": [ids[-length:] for ids in asked],
        "echo of 8 tokens, then honest": [
            [*ids[:8], *own[: length - 8]] for ids, own in zip(asked, exact, strict=True)
        ],
        "honest, 16 tokens replaced": [
            [*own[:24], *other[:16], *own[40:]] for own, other in zip(exact, late, strict=True)
        ],
    }


def _cut(ids: Sequence[int], start: int, length: int) -> list[int]:
    return list(ids[start : start + length])
