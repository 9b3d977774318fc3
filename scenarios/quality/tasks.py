"""Tasks whose answers can be judged: what is asked at the end of a prompt, and what is right."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path

VERBS = Path(__file__).with_name("verbs.txt")
LETTERS = "ABCDEFGHIJ"
LOOKED_AT = 10
"""Words of an answer in which the one that is right must occur."""
TOKENS = {"past-tense": 32, "recall": 32, "mmlu-pro": 64}
"""Tokens of an answer that are looked at, by task: the model's own are worked out no further."""
TAU = {"mmlu-pro": 0.95}
"""The least share of the model's own accuracy that a task asks for: InferenceBench's published rule."""
KNOWN = "past-tense, recall or mmlu-pro:FILE"

OWNERS = (
    "Anna", "Peter", "Maria", "Thomas", "Laura", "Simon", "Clara", "Martin", "Emma", "Daniel", "Julia",
    "Oscar", "Alice", "Henry", "Sarah", "Frank", "Helen", "Victor", "Nina", "George", "Diana", "Robert",
    "Sophie", "Walter",
)  # fmt: skip
COLOURS = (
    "red", "blue", "green", "yellow", "black", "white", "brown", "grey", "golden", "silver", "orange",
    "purple",
)  # fmt: skip
THINGS = (
    "lamp", "chair", "bicycle", "coat", "umbrella", "clock", "boat", "guitar", "basket", "mirror",
    "kettle", "tent", "ladder", "drum", "blanket", "suitcase", "piano", "carpet", "bucket", "vase",
    "camera", "hammer", "sofa", "scarf", "wagon", "kite", "saddle", "bell", "cup", "trumpet",
)  # fmt: skip
"""Of what a `recall` item says whose it is: a colour and a thing, no pair twice."""


class TaskError(Exception):
    """A task is not known or cannot be read. The message is one line that names the fix."""


@dataclass(frozen=True)
class Item:
    """One question at the end of a text: what stands `before` the text and after it, and what is right."""

    kind: str
    before: str
    question: str
    answer: str

    def prompt(self, text: str) -> str:
        """The question, with a text before it."""
        return f"{self.before}\n\n{text}\n\n{self.question}"

    @property
    def tokens(self) -> int:
        """Tokens of an answer that are looked at."""
        return TOKENS[self.kind]

    def right(self, text: str) -> bool:
        """Whether an answer is right."""
        return _JUDGES[self.kind](text, self.answer)


def items(name: str) -> tuple[Item, ...]:
    """The items of a task: `past-tense`, `recall`, or `mmlu-pro:FILE` (its test set as JSON lines).

    Raises TaskError.
    """
    path = name.partition(":")[2]
    if name == "past-tense":
        return _past_tense()
    if name == "recall":
        return _recall()
    if kind(name) == "mmlu-pro" and path:
        return _mmlu_pro(Path(path))
    raise TaskError(f"unknown task {name}: say {KNOWN}")


def kind(name: str) -> str:
    """A task without the file that it is read from."""
    return name.partition(":")[0]


def named(name: str) -> str:
    """A task that can be read, its file by its full path. Raises TaskError."""
    items(name)
    path = name.partition(":")[2]
    return f"{kind(name)}:{Path(path).absolute()}" if path else name


@cache
def _past_tense() -> tuple[Item, ...]:
    pairs = [line.split() for line in VERBS.read_text(encoding="utf-8").splitlines()]
    return tuple(
        Item("past-tense", "Complete the last sentence.", f"Today I {verb}. Yesterday I", past)
        for verb, past in pairs
    )


@cache
def _recall() -> tuple[Item, ...]:
    """What is told before the text is asked for after it: a server that has lost the far end cannot know."""
    pairs = [f"{colour} {thing}" for colour in COLOURS for thing in THINGS]
    return tuple(_told(pair, OWNERS[7 * place % len(OWNERS)]) for place, pair in enumerate(pairs))


def _told(thing: str, owner: str) -> Item:
    before = f"The {thing} belongs to {owner}. Remember that for the end."
    return Item("recall", before, f"Whose is the {thing}? The {thing} belongs to", owner.lower())


def _mmlu_pro(path: Path) -> tuple[Item, ...]:
    try:
        rows = [json.loads(line) for line in path.read_text(encoding="utf-8").split("\n") if line.strip()]
        return tuple(_choice(row) for row in rows)
    except OSError as error:
        raise TaskError(f"{path} cannot be read ({error}): name MMLU-Pro's test set as JSON lines") from error
    except (ValueError, KeyError, TypeError) as error:
        raise TaskError(
            f"{path}: not MMLU-Pro ({error!r}): each line needs question, options, answer"
        ) from error


def _choice(row: Mapping[str, object]) -> Item:
    options = row["options"]
    assert isinstance(options, list)
    listed = "\n".join(f"{letter}. {option}" for letter, option in zip(LETTERS, options, strict=False))
    question = f"{row['question']}\n{listed}\nSay: the answer is (X)."
    return Item("mmlu-pro", "Answer the question at the end.", question, str(row["answer"]))


def letter(text: str) -> str | None:
    """The option that an answer names: "the answer is (X)" or "Answer: X", else a letter alone, the last one.

    Source: MMLU-Pro's published extraction.
    """
    for pattern in (r"answer is \(?([A-J])\)?", r"[aA]nswer:\s*\(?([A-J])\)?"):
        found = re.search(pattern, text)
        if found:
            return found[1]
    alone = re.findall(r"\b[A-J]\b", text)
    return alone[-1] if alone else None


def _says(text: str, word: str) -> bool:
    """Whether a word is among the first ones."""
    return word in re.findall(r"[a-z]+", text.lower())[:LOOKED_AT]


_JUDGES: Mapping[str, Callable[[str, str], bool]] = {
    "past-tense": _says,
    "recall": _says,
    "mmlu-pro": lambda text, answer: letter(text) == answer,
}
