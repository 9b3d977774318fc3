"""Planners by name: one ask/tell protocol over conditional spaces."""

from __future__ import annotations

from engines.space import Space
from search.planners.careful import Careful, Proposer
from search.planners.feasibility import Feasibility
from search.planners.planner import Planner

__all__ = ["Planner", "UnknownPlanner", "names", "planner"]


class UnknownPlanner(ValueError):
    """No planner of that name; the message lists those there are."""


def names() -> tuple[str, ...]:
    """The planners there are."""
    return ("random", "tpe", "gp", "smac")


def planner(name: str, space: Space, seed: int) -> Planner:
    """A fresh planner. Raises UnknownPlanner."""
    feasibility = Feasibility(space, seed)
    return Careful(_proposer(name, space, seed, feasibility), space, seed, feasibility)


def _proposer(name: str, space: Space, seed: int, feasibility: Feasibility) -> Proposer:
    match name:
        case "random":
            from search.planners.uniform import Uniform

            return Uniform(space, seed)
        case "tpe":
            from search.planners.tpe import Tpe

            return Tpe(space, seed)
        case "gp":
            from search.planners.gp import Gp

            return Gp(space, seed, feasibility)
        case "smac":
            from search.planners.smac import Smac

            return Smac(space, seed)
    raise UnknownPlanner(f"unknown planner {name!r}: one of {', '.join(names())}")
