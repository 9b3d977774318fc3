"""A text source as tokens of one tokenizer, kept in the cache, and the places where a prompt may begin."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from itertools import islice
from pathlib import Path

import numpy as np
import numpy.typing as npt

from scenarios import cache, texts
from scenarios.tokenizer import Tokenizer

HEAD = 1 << 18
"""Characters of a document that are kept, more than any profile asks for."""

GROUP = 32
"""Documents tokenised at once."""

FORMAT = "1"


@dataclass(frozen=True, eq=False)
class Corpus:
    """Tokens of all documents in a row (int32[n]), and where each document ends (int64[documents])."""

    tokens: npt.NDArray[np.int32]
    ends: npt.NDArray[np.int64]

    def starts(self, length: int, word_starts: npt.NDArray[np.bool_]) -> npt.NDArray[np.int64]:
        """Positions of tokens that begin a word and have `length` tokens of their document from there on."""
        room = np.zeros(len(self.tokens), dtype=bool)
        for begin, end in zip([0, *self.ends[:-1]], self.ends, strict=True):
            room[begin : max(begin, end - length + 1)] = True
        return np.flatnonzero(room & word_starts[self.tokens])


def corpus(source: str, tokenizer: Tokenizer) -> Corpus:
    """The documents of `source` as tokens. Raises texts.TextError."""
    documents = texts.documents(source)
    name = f"{documents.digest[:16]}-{tokenizer.digest[:16]}-{FORMAT}"
    target = cache.home() / "tokens" / name
    return _opened(cache.once(target, name, lambda path: _write(path, documents, tokenizer)))


@lru_cache(maxsize=2)
def _opened(directory: Path) -> Corpus:
    return Corpus(np.load(directory / "tokens.npy"), np.load(directory / "ends.npy"))


def _write(directory: Path, documents: texts.Documents, tokenizer: Tokenizer) -> None:
    heads = (text[:HEAD] for text in documents)
    parts = [
        np.asarray(ids, dtype=np.int32)
        for group in iter(lambda: list(islice(heads, GROUP)), [])
        for ids in tokenizer.encode_all(group)
    ]
    if not any(len(part) for part in parts):
        raise texts.TextError(f"{documents.source} holds no text: name {texts.SOURCES}")
    np.save(directory / "tokens.npy", np.concatenate(parts))
    np.save(directory / "ends.npy", np.cumsum([len(part) for part in parts]))
