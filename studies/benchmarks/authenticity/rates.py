"""How often measurements with answers from a source would be void."""

from __future__ import annotations

import random
from collections.abc import Sequence

from scenarios.authenticity.evidence import Graded, Text
from scenarios.validity.text import judged

DRAWS = 1000


def voided(
    answers: Sequence[Graded], tokens: int, *, count: int, honest: Sequence[Graded] = (), share: float = 1.0
) -> float:
    """Share of measurements with `count` answers, of so many tokens each, that are void.

    Answers are drawn with replacement; each is from the source with the chance `share`, else from `honest`.
    """
    draw = random.Random(0)
    own, other = ([one.first(tokens) for one in some] for some in (honest, answers))
    void = 0
    for _ in range(DRAWS):
        picked = [draw.choice(other if not own or draw.random() < share else own) for _ in range(count)]
        void += judged(Text("", tuple(picked))) is not None
    return void / DRAWS
