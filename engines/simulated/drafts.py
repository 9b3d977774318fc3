"""N-gram speculation: what followed the last time that the text ended as it does now."""

from __future__ import annotations

from engines.simulated.answer import Answer


class Drafter:
    """Drafts from the prompt and the answer so far, and compares with the tokens that really come.

    Acceptance is thus a property of the text: near nothing on fresh prose, high where an answer repeats.

    Args:
        answer: the answer to draft for.
        length: tokens that must match.
        most: tokens drafted at most.
    """

    def __init__(self, answer: Answer, length: int, most: int) -> None:
        self._answer = answer
        self._length = length
        self._most = most
        self._ids = list(answer.prompt)
        self._ends: dict[tuple[int, ...], int] = {}
        self._indexed = length - 1

    def __call__(self, produced: int) -> tuple[int, int]:
        """Tokens drafted after `produced` tokens of the answer, and how many of them are right."""
        answer = self._answer
        start = len(answer.prompt) + produced
        tokens = answer.story.take(produced + self._most)
        coming = [token for token, _ in tokens[produced : produced + self._most]]
        self._ids.extend(token for token, _ in tokens[len(self._ids) - len(answer.prompt) : produced])
        self._index(start - 1)
        end = self._ends.get(tuple(self._ids[start - self._length : start]))
        if end is None:
            return 0, 0
        guess = self._ids[end : end + self._most]
        right = 0
        for drafted, real in zip(guess, coming, strict=False):
            if drafted != real:
                break
            right += 1
        return len(guess), right

    def _index(self, end: int) -> None:
        """Remember every n-gram that ends before position `end`, the last occurrence first to be found."""
        for stop in range(self._indexed + 1, end + 1):
            self._ends[tuple(self._ids[stop - self._length : stop])] = stop
        self._indexed = max(self._indexed, end)
