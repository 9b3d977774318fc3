"""Strategies by name: how a search spends its budget."""

from __future__ import annotations

from search.strategies.ceiling import Ceiling
from search.strategies.published import Published
from search.strategies.strategy import Setting, Strategy
from search.strategies.survey import Survey

NAMES = ("ceiling", "published", "full", "survey")


class UnknownStrategy(ValueError):
    """No strategy of that name; the message lists those there are."""


def strategy(name: str, setting: Setting) -> Strategy:
    """A fresh strategy. Raises UnknownStrategy."""
    match name:
        case "ceiling":
            return Ceiling(setting)
        case "published":
            return Published(setting, quick=True)
        case "full":
            return Published(setting, quick=False)
        case "survey":
            return Survey(setting)
    raise UnknownStrategy(f"unknown strategy {name!r}: one of {', '.join(NAMES)}")
