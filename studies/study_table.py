"""A study's matrix as a terminal table: how many runs of what, and what they cost."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.table import Table as Grid

from studies.compare import LETTERS
from studies.durations import short
from studies.study_file import Study
from studies.study_run import CellState


def show_matrix(console: Console, study: Study, states: Sequence[CellState]) -> None:
    """Print the matrix: a row a method, engines, profile and budget; runs a scenario; cost."""
    console.print(f"[bold]{study.name}[/bold]  {' '.join(study.about.split())}\n")
    rows: dict[tuple[str, ...], list[CellState]] = defaultdict(list)
    for state in states:
        rows[_row(state)].append(state)
    grid = Grid(box=SIMPLE_HEAD)
    for name in ("method", "engines", "profile", "budget a run"):
        grid.add_column(name)
    for name in (*LETTERS, "done", "GPU-hours"):
        grid.add_column(name, justify="right")
    for key, members in rows.items():
        runs = [str(sum(state.cell.scenario == letter for state in members) or "-") for letter in LETTERS]
        done = sum(state.outcome == "done" for state in members)
        grid.add_row(*key, *runs, str(done), f"{gpu_hours(members):.2f}")
    console.print(grid)
    left = [state for state in states if state.outcome != "done"]
    console.print(
        f"{len(states)} runs, at most {gpu_hours(states):.2f} GPU-hours; "
        f"{len(left)} left to do, at most {gpu_hours(left):.2f} GPU-hours"
    )
    console.print(f"torch baselines, once a machine and not in the budget: {_baselines(left)}")


def _row(state: CellState) -> tuple[str, ...]:
    cell = state.cell
    method = f"agent:{cell.method}" if cell.kind == "agent" else cell.method
    if cell.strategy:
        method += f" ({cell.strategy})"
    devices = f" on {cell.devices} devices" if cell.devices > 1 else ""
    return method, "+".join(cell.engines), cell.profile, short(cell.budget) + devices


def gpu_hours(states: Sequence[CellState]) -> float:
    """What the cells may cost: their budgets."""
    return sum(state.cell.budget for state in states) / 3600


def _baselines(states: Sequence[CellState]) -> int:
    real = [state.cell for state in states if state.cell.engines != ("simulated",)]
    return len({(cell.scenario, cell.profile, cell.model) for cell in real})


def show_failures(console: Console, states: Sequence[CellState]) -> None:
    """Print what failed and why."""
    for state in states:
        if state.outcome == "failed":
            console.print(f"[red]failed[/red] {state.cell.name}: {state.detail}", soft_wrap=True)


def as_json(study: Study, states: Sequence[CellState]) -> dict[str, Any]:
    """The matrix as data."""
    return {
        "study": study.name,
        "runs": len(states),
        "gpu_hours": gpu_hours(states),
        "cells": [
            {**asdict(state.cell), "run": str(state.path), "outcome": state.outcome, "detail": state.detail}
            for state in states
        ],
    }
