"""What a study's cells need that this machine lacks: engines, agents' programs, models."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

from agents.registry import entry
from agents.spec import AgentError
from engines.contract import EngineError
from engines.registry import engine
from scenarios import models
from studies.cell import Cell


def missing(cells: Sequence[Cell]) -> list[str]:
    """One line for each thing that is not here, with what mends it where that is known."""
    return [*_engines(cells), *_agents(cells), *_models(cells)]


def _engines(cells: Sequence[Cell]) -> Iterator[str]:
    for name in dict.fromkeys(name for cell in cells for name in cell.engines):
        try:
            engine(name).runtime()
        except EngineError as error:
            yield str(error)


def _agents(cells: Sequence[Cell]) -> Iterator[str]:
    for name in dict.fromkeys(cell.method for cell in cells if cell.kind == "agent"):
        try:
            agent = entry(name)
        except AgentError as error:
            yield str(error)
            continue
        if not agent.here:
            yield f"agent {name}: {agent.program} is not an executable here"


def _models(cells: Sequence[Cell]) -> Iterator[str]:
    for name in dict.fromkeys(cell.model for cell in cells):
        if name not in models.names() and not Path(name).is_dir():
            known = ", ".join(models.names())
            yield f"model {name}: neither a directory here nor one of {known}"
