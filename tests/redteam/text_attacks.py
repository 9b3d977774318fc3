"""Answers from elsewhere, at the honest server's pace: only what they say gives them away.

They need the reference model to be caught: `python -m tests.redteam.real torch smollm2-135m` runs them.
"""

from __future__ import annotations

import random
from collections.abc import AsyncGenerator, Iterator
from itertools import chain, cycle, islice

from scenarios.tokenizer import Tokenizer
from tests.redteam.proxy import Attack, Upstream, content
from tests.scenarios.mock_server import Body, delta
from tests.tiny_model import SENTENCES


class Elsewhere(Attack):
    """Each token of the honest answer is replaced by one of a text from elsewhere."""

    codes = frozenset({"text-not-from-model"})
    scenario = "D"

    def __init__(self, upstream: Upstream, words: Tokenizer | None = None) -> None:
        super().__init__(upstream)
        self.words = words

    async def answer(self, body: Body, number: int) -> AsyncGenerator[bytes, None]:
        assert self.words is not None
        pieces = self.pieces(str(body["messages"][0]["content"]), random.Random(number))
        seen = 0
        async for event in super().answer(body, number):
            text = content(event)
            count = self.words.count(text) if text else 0
            taken = list(islice(pieces, count)) if self.replaces(seen) else []
            seen += count
            yield delta("".join(taken)) if taken else event

    def replaces(self, seen: int) -> bool:
        """Whether what comes after so many tokens is replaced."""
        return True

    def pieces(self, prompt: str, draw: random.Random) -> Iterator[str]:
        """The other text, token by token, without an end."""
        return self.tokens(self.text(prompt, draw))

    def tokens(self, text: str) -> Iterator[str]:
        """A text over and over, token by token."""
        assert self.words is not None
        return cycle([self.words.decode([one]) for one in self.words.encode(text)])

    def text(self, prompt: str, draw: random.Random) -> str:
        """The other text: digits."""
        return " ".join(str(draw.randrange(10)) for _ in range(400))


class CannedFluent(Elsewhere):
    """Plain English that was written beforehand, in another order for every request."""

    def text(self, prompt: str, draw: random.Random) -> str:
        return " ".join(draw.sample(SENTENCES, len(SENTENCES)))


class PromptText(Elsewhere):
    """Words of the prompt itself, from somewhere in its middle."""

    def text(self, prompt: str, draw: random.Random) -> str:
        words = prompt.split()
        start = draw.randrange(len(words) // 4, 3 * len(words) // 4)
        return " " + " ".join(words[start : start + 120])


class EchoFirst(PromptText):
    """The first tokens are out of the prompt, so that they can come early; then the honest answer."""

    def replaces(self, seen: int) -> bool:
        return seen < 12


class CannedLater(CannedFluent):
    """Honest while somebody may look, written beforehand afterwards."""

    scenario = "B"

    def replaces(self, seen: int) -> bool:
        return seen >= 24


class SomeCanned(CannedFluent):
    """One answer in three was written beforehand."""

    def pieces(self, prompt: str, draw: random.Random) -> Iterator[str]:
        return super().pieces(prompt, draw) if draw.random() < 1 / 3 else chain()


TEXT_ATTACKS: tuple[type[Elsewhere], ...] = (CannedFluent, PromptText, EchoFirst, CannedLater, SomeCanned)
