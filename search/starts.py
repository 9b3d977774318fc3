"""How long an engine's start took on this machine, kept so that a hopeless budget is refused beforehand."""

from __future__ import annotations

import json
from pathlib import Path

from engines.contract import Engine
from engines.runtime import home

FLOOR = 10.0
"""Seconds below which no real engine has been seen to start."""

FILE = "starts.json"


def shortest_start(engine: Engine) -> float:
    """Seconds of the fastest start of this engine's version seen here; a floor before one was seen."""
    seen = _read().get(_key(engine))
    return seen if seen is not None else (FLOOR if engine.real else 0.0)


def remember_start(engine: Engine, seconds: float) -> None:
    """Keep a start's duration if it is the fastest so far."""
    starts = _read()
    key = _key(engine)
    if seconds >= starts.get(key, float("inf")):
        return
    path = home() / FILE
    path.parent.mkdir(parents=True, exist_ok=True)
    fresh = path.with_suffix(".new")
    fresh.write_text(json.dumps({**starts, key: round(seconds, 1)}, indent=2) + "\n")
    fresh.replace(path)


def _read() -> dict[str, float]:
    try:
        kept = json.loads(Path(home() / FILE).read_text())
    except (OSError, ValueError):
        return {}
    return {str(key): float(value) for key, value in kept.items()}


def _key(engine: Engine) -> str:
    return f"{engine.name} {engine.runtime().version}"
