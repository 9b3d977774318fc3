"""The ask/tell protocol that every planner keeps."""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

from engines.contract import Config
from engines.space import Space
from scenarios.trial import State


class Planner(Protocol):
    """Proposes configs of a space, seeded and deterministic: the same asks and tells give the same proposals.

    Resume replays the ledger's asks and tells into a fresh planner and compares each proposal with the
    recorded one.
    """

    name: str

    def ask(self, number: int) -> Config | None:
        """A canonical config for trial `number`; None when the space has nothing new."""
        ...

    def tell(self, number: int, config: Config, state: State, score: float | None) -> None:
        """What came of a config, asked here or not (defaults and expert configs are told too).

        `score` (higher is better) is given for `complete` and `pruned` only. Crashed and infeasible configs
        teach feasibility, never the objective.
        """
        ...


PlannerFactory = Callable[[Space, int], Planner]
"""Makes a planner over a space with a seed."""
