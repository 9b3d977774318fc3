"""Which errors are expected: those whose message is one line for a person, and end a command with exit 2."""

from __future__ import annotations

import importlib
import sys

EXPECTED = {
    "engines.contract": ("EngineError",),
    "engines.space": ("SpaceError",),
    "scenarios.scenario": ("ScenarioError",),
    "scenarios.models": ("ModelError",),
    "scenarios.texts": ("TextError",),
    "scenarios.ledger": ("LedgerError",),
    "scenarios.tokenizer": ("TokenizerError",),
    "scenarios.remote": ("Unreachable",),
    "scenarios.quality.tasks": ("TaskError",),
    "scenarios.baseline": ("BaselineError",),
    "scenarios.load.driver": ("LoadFailed",),
    "search.spec": ("SearchError",),
    "search.planners": ("UnknownPlanner",),
    "search.strategies": ("UnknownStrategy",),
    "agents.spec": ("AgentError",),
    "studies.errors": ("BadInput",),
    "studies.durations": ("DurationError",),
}


class BadInput(Exception):
    """What a person gave cannot be used. The message is one line that names the fix."""


def is_expected(error: BaseException) -> bool:
    """Whether `error` is an expected one. Only modules already loaded can have raised it."""
    loaded = (
        getattr(importlib.import_module(module), name)
        for module, names in EXPECTED.items()
        if module in sys.modules
        for name in names
    )
    return isinstance(error, tuple(loaded))
