"""Random search: each active parameter uniform over its choices."""

from __future__ import annotations

import random

from engines.contract import Config
from engines.space import Space
from search.planners.draws import draw


class Uniform:
    """Proposer of the `random` planner."""

    name = "random"

    def __init__(self, space: Space, seed: int) -> None:
        self._space = space
        self._rng = random.Random(seed)

    def suggest(self) -> Config:
        """A config, drawn with replacement."""
        return draw(self._space, self._rng)

    def accept(self, number: int, config: Config) -> None:
        """Random search keeps no memory."""

    def tell(self, number: int, config: Config, score: float | None) -> None:
        """Random search learns nothing."""
