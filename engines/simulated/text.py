"""Answers: seeded plain English made word by word, so that encoding the text gives its tokens back."""

from __future__ import annotations

import itertools
import json
import random
from collections.abc import Iterable
from dataclasses import dataclass
from typing import TypeVar

from tokenizers import Tokenizer

from engines.simulated import words


class TextError(ValueError):
    """The tokenizer cannot carry the answers. The message is one line."""


Token = tuple[int, bytes]
"""A token's id, and its text as it stands inside a JSON string."""

Piece = tuple[Token, ...]
"""A word with the space before it, or a mark."""

_ANCHOR = "The"
_T = TypeVar("_T")


@dataclass(frozen=True)
class Lexicon:
    """The words as a tokenizer's tokens.

    Attributes:
        parts: pieces of each part of speech, for words inside a text.
        openers: pieces of the words that may open a text, without a space before them; `starters` are those
            of one token.
        sentences: sentence patterns; a part's letter, or a piece of their own.
        fillers: pieces of one token each, with which an answer meets its length exactly.
    """

    parts: dict[str, tuple[Piece, ...]]
    openers: tuple[Piece, ...]
    sentences: tuple[tuple[str | Piece, ...], ...]
    fillers: tuple[Piece, ...]
    starters: tuple[Piece, ...]

    @classmethod
    def build(cls, tokenizer: Tokenizer) -> Lexicon:
        """Look every word up. Raises TextError where words do not keep their tokens side by side."""
        pieces = _pieces(tokenizer)
        fillers = tuple(pieces[word] for word in words.FILLERS if len(pieces[word]) == 1)
        if not fillers:
            raise TextError("the tokenizer has no single token for any common English word")
        openers = tuple(_opening(tokenizer, word) for word in words.OPENERS)
        lexicon = cls(
            parts={part: tuple(pieces[word] for word in choices) for part, choices in words.PARTS.items()},
            openers=openers,
            sentences=tuple(
                tuple(part if part in words.PARTS else pieces[part] for part in sentence.split())
                for sentence in words.SENTENCES
            ),
            fillers=fillers,
            starters=tuple(piece for piece in openers if len(piece) == 1) or fillers,
        )
        lexicon._verify(tokenizer)
        return lexicon

    def _verify(self, tokenizer: Tokenizer) -> None:
        """A long answer must come back from its own text as the tokens it was made of."""
        story = Story(self, seed=0, length=2000)
        tokens = story.take(2000)
        text = json.loads(b'"' + b"".join(piece for _, piece in tokens) + b'"')
        if tokenizer.encode(text, add_special_tokens=False).ids != [token for token, _ in tokens]:
            raise TextError("the tokenizer does not keep the tokens of neighbouring words apart")


class Story:
    """One answer of exactly `length` tokens, made as it is asked for.

    The same seed gives the same text. `looping` makes it repeat two of its sentences over and over.
    """

    def __init__(self, lexicon: Lexicon, seed: int, length: int, looping: bool = False) -> None:
        self._lexicon = lexicon
        self._random = random.Random(seed)
        self._length = length
        self._looping = looping
        self._sentences = 0
        self.tokens: list[Token] = []

    def take(self, end: int) -> list[Token]:
        """Make the tokens up to `end` (at most the length), and return all that are made."""
        while len(self.tokens) < min(end, self._length):
            self._extend()
        return self.tokens

    def _extend(self) -> None:
        if self._looping and self._sentences == 4:
            self._repeat()
        else:
            self._sentences += 1
            self._append(self._sentence())

    def _repeat(self) -> None:
        ends = [index for index, (_, text) in enumerate(self.tokens) if text == b"."]
        self._append((token,) for token in self.tokens[ends[-3] + 1 : ends[-1] + 1])

    def _append(self, pieces: Iterable[Piece]) -> None:
        for piece in pieces:
            room = self._length - len(self.tokens)
            if len(piece) > room:
                break
            self.tokens.extend(piece)
        else:
            return
        while len(self.tokens) < self._length:
            self.tokens.extend(self._pick(self._lexicon.fillers if self.tokens else self._lexicon.starters))

    def _sentence(self) -> list[Piece]:
        pattern = self._lexicon.sentences[0] if not self.tokens else self._pick(self._lexicon.sentences)
        parts = self._lexicon.parts
        pieces = [self._pick(parts[part]) if isinstance(part, str) else part for part in pattern]
        if not self.tokens:
            pieces[0] = self._pick(self._lexicon.openers)
        return pieces

    def _pick(self, choices: tuple[_T, ...]) -> _T:
        return choices[int(self._random.random() * len(choices))]


def natural_length(seed: int) -> int:
    """Tokens after which an answer of this seed would end by itself: log-normal, median 180."""
    return max(1, round(random.Random(seed ^ 0x5EED).lognormvariate(5.19, 0.6)))


def _pieces(tokenizer: Tokenizer) -> dict[str, Piece]:
    vocabulary = {word for choices in words.PARTS.values() for word in choices} | set(words.FILLERS)
    vocabulary |= {part for sentence in words.SENTENCES for part in sentence.split()} - set(words.PARTS)
    spoken = sorted(vocabulary)
    texts = [_ANCHOR + word if word in ",." else f"{_ANCHOR} {word}" for word in spoken]
    anchor = tokenizer.encode(_ANCHOR, add_special_tokens=False).ids
    found = tokenizer.encode_batch(texts, add_special_tokens=False)
    return {
        word: _spell(tokenizer, anchor, encoding.ids) for word, encoding in zip(spoken, found, strict=True)
    }


def _spell(tokenizer: Tokenizer, anchor: list[int], ids: list[int]) -> Piece:
    """Tokens after the anchor, each with the text that it adds."""
    if ids[: len(anchor)] != anchor:
        raise TextError("the tokenizer does not keep the tokens of neighbouring words apart")
    texts = [tokenizer.decode(ids[:end]) for end in range(len(anchor), len(ids) + 1)]
    added = [text[len(before) :] for before, text in itertools.pairwise(texts)]
    return tuple((token, _escape(text)) for token, text in zip(ids[len(anchor) :], added, strict=True))


def _opening(tokenizer: Tokenizer, word: str) -> Piece:
    return _spell(tokenizer, [], tokenizer.encode(word, add_special_tokens=False).ids)


def _escape(text: str) -> bytes:
    return json.dumps(text)[1:-1].encode()
