"""What is known of where a measurement's answers come from."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Self

import numpy as np
import numpy.typing as npt

UNASKED = "only defaults, final trials and `ceiling score` are checked"


@dataclass(frozen=True)
class Graded:
    """One answer under the model's own weights, by token of it that was looked at.

    `gap` is by how many nats the likeliest token was likelier, `rank` how many were (0: none).
    """

    index: int
    logprob: tuple[float, ...]
    gap: tuple[float, ...]
    rank: tuple[int, ...]

    def first(self, tokens: int) -> Graded:
        """Its first tokens."""
        return Graded(self.index, self.logprob[:tokens], self.gap[:tokens], self.rank[:tokens])


@dataclass(frozen=True)
class Text:
    """A sample of the speed run's answers, graded.

    Attributes:
        why: why none was graded; empty where some were.
        how: versions, device and dtype of the reference.
        seconds: what the grading took, after the measurement; 0 where it was kept from before.
    """

    why: str = UNASKED
    answers: tuple[Graded, ...] = ()
    how: Mapping[str, Any] = field(default_factory=dict)
    seconds: float = 0.0

    def first(self, tokens: int) -> Text:
        """With the first tokens of each answer only."""
        return replace(self, answers=tuple(answer.first(tokens) for answer in self.answers))

    @property
    def gaps(self) -> npt.NDArray[np.float64]:
        """Of all tokens."""
        return np.array([gap for answer in self.answers for gap in answer.gap], dtype=float)

    @property
    def agreement(self) -> float:
        """Share of tokens that the model finds likeliest itself."""
        ranks = [rank for answer in self.answers for rank in answer.rank]
        return float(np.mean(np.array(ranks) == 0)) if ranks else float("nan")

    def figures(self) -> dict[str, float]:
        """As metrics of a measurement; none where nothing was graded."""
        if not len(self.gaps):
            return {}
        likelihood = np.mean([one for answer in self.answers for one in answer.logprob])
        return {
            "text_agreement": self.agreement,
            "text_gap": float(self.gaps.mean()),
            "text_logprob": float(likelihood),
        }

    def told(self, *, from_model: bool) -> dict[str, Any]:
        """As a measurement says it: `verdict`, and why or how it was found."""
        if self.why:
            return {"verdict": "not checked", "why": self.why}
        return {
            "verdict": "from the model" if from_model else "not from the model",
            "answers": len(self.answers),
            "tokens": len(self.gaps),
            "agreement": round(self.agreement, 4),
            "reference": dict(self.how),
            "seconds": self.seconds,
        }

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Self:
        """From what `dataclasses.asdict` made of one."""
        answers = tuple(_graded(one) for one in data["answers"])
        return cls(**{**data, "answers": answers})


def _graded(data: Mapping[str, Any]) -> Graded:
    lists: dict[str, Sequence[Any]] = {name: tuple(data[name]) for name in ("logprob", "gap", "rank")}
    return Graded(data["index"], **lists)  # type: ignore[arg-type]
