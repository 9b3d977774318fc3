"""What all planners share: nothing proposed twice, nothing that surely crashes, an end when all was seen."""

from __future__ import annotations

import random
from collections.abc import Iterator
from itertools import chain, islice
from typing import Protocol

from engines.contract import Config
from engines.space import Space
from scenarios.trial import State
from search.planners.draws import draw, every, key
from search.planners.feasibility import THRESHOLD, Feasibility

TRIES = 8
"""Proposals asked of the method before a random unseen config takes its place."""

RANDOM_TRIES = 200
LISTED = 4096
"""Spaces up to this many configs are listed to the end; wider ones are never exhausted in practice."""


class Proposer(Protocol):
    """A search method, free to repeat itself."""

    name: str

    def suggest(self) -> Config:
        """A canonical config."""
        ...

    def accept(self, number: int, config: Config) -> None:
        """`config`, the last suggestion or another one, runs as trial `number`."""
        ...

    def tell(self, number: int, config: Config, score: float | None) -> None:
        """The end of a trial, accepted or not; None: nothing that the objective may learn from."""
        ...


class Careful:
    """A Planner over a proposer."""

    def __init__(self, proposer: Proposer, space: Space, seed: int, feasibility: Feasibility) -> None:
        self.name = proposer.name
        self._proposer = proposer
        self._space = space
        self._rng = random.Random(f"{seed}/careful")
        self._feasibility = feasibility
        self._seen: set[str] = set()

    def ask(self, number: int) -> Config | None:
        """A config never seen before; None when there is none."""
        config = self._suggested()
        if config is None:
            return None
        self._seen.add(key(config))
        self._proposer.accept(number, config)
        return config

    def tell(self, number: int, config: Config, state: State, score: float | None) -> None:
        """What came of a config, asked here or not."""
        canonical = self._space.canonical(config)
        self._seen.add(key(canonical))
        self._feasibility.tell(canonical, state)
        learn = score if state in (State.COMPLETE, State.PRUNED) else None
        self._proposer.tell(number, canonical, learn)

    def _suggested(self) -> Config | None:
        risky: list[tuple[float, Config]] = []
        drawn = (draw(self._space, self._rng) for _ in range(RANDOM_TRIES))
        suggested = (self._proposer.suggest() for _ in range(TRIES))
        for config in chain(suggested, drawn, self._listed()):
            if key(config) in self._seen:
                continue
            risk = self._feasibility.risk(config)
            if risk <= THRESHOLD:
                return config
            risky.append((risk, config))
        return min(risky, key=lambda each: each[0])[1] if risky else None

    def _listed(self) -> Iterator[Config]:
        listed = list(islice(every(self._space), LISTED))
        self._rng.shuffle(listed)
        yield from listed
