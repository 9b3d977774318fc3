"""Run one cell of a study: a search or an agent, as the CLI would."""

from __future__ import annotations

from pathlib import Path

from studies import running
from studies.cell import Cell
from studies.commands.options import opened_model, text_source
from studies.record import Run
from studies.setting import is_real


def run_cell(cell: Cell, path: Path, resume: bool) -> Run:
    """Run or resume a cell in its directory. Raises what search and agents raise for bad input."""
    return _search(cell, path, resume) if cell.kind == "search" else _agent(cell, path, resume)


def _search(cell: Cell, path: Path, resume: bool) -> Run:
    from search.spec import SearchSpec

    spec = SearchSpec(
        engines=cell.engines,
        scenario=cell.scenario,
        profile=cell.profile,
        model=opened_model(cell.model, cell.profile),
        planner=cell.method,
        strategy=cell.strategy or "ceiling",
        budget=cell.budget,
        devices=cell.devices,
        seed=cell.seeds[0],
        eval_seed=cell.seeds[1],
        text=text_source(cell.text, cell.profile),
        quality=cell.quality,
        baseline=any(is_real(name) for name in cell.engines),
    )
    return running.run_search(spec, path, resume=resume)


def _agent(cell: Cell, path: Path, resume: bool) -> Run:
    from agents import AgentSpec

    spec = AgentSpec(
        agent=cell.method,
        engines=cell.engines,
        scenario=cell.scenario,
        profile=cell.profile,
        model=opened_model(cell.model, cell.profile),
        budget=cell.budget,
        devices=tuple(range(cell.devices)),
        seed=cell.seeds[0],
        eval_seed=cell.seeds[1],
        text=text_source(cell.text, cell.profile),
        quality=cell.quality,
    )
    return running.run_agent(spec, path, resume=resume)
