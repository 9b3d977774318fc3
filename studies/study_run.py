"""Run the cells of a study: finished ones never again, a failed one is reported and the rest go on."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any, Literal

from scenarios import ledger
from studies.cell import Cell
from studies.errors import BadInput, is_expected
from studies.record import Run, open_run
from studies.study_file import Study

Outcome = Literal["new", "begun", "done", "failed", "interrupted"]


@dataclass(frozen=True)
class CellState:
    """A cell with its directory, and where it stands."""

    cell: Cell
    path: Path
    outcome: Outcome
    detail: str = ""


RunCell = Callable[[Cell, Path, bool], Run]
"""Runs or resumes one cell in a directory and gives the run."""

Say = Callable[[str], None]


def states(study: Study, runs: Path, only: Sequence[str] = ()) -> list[CellState]:
    """Where every cell stands, or every one whose name matches one of the patterns (`*-C-*`).

    Raises BadInput when a directory holds another version's run, or a pattern matches nothing.
    """
    cells = study.cells()
    for pattern in only:
        if not any(fnmatchcase(cell.name, pattern) for cell in cells):
            raise BadInput(f"--cell {pattern} matches no cell of {study.name}: such as {cells[0].name}")
    chosen = [cell for cell in cells if not only or any(fnmatchcase(cell.name, each) for each in only)]
    return [_state(cell, runs / study.name / cell.name) for cell in chosen]


def _state(cell: Cell, path: Path) -> CellState:
    if not (path / ledger.FILE).is_file():
        return CellState(cell, path, "new")
    run = open_run(path)
    _check_same(cell, run)
    return CellState(cell, path, "done" if run.finished else "begun")


def _check_same(cell: Cell, run: Run) -> None:
    wanted: dict[str, Any] = {
        "kind": cell.kind,
        "engines": list(cell.engines),
        "scenario": cell.scenario,
        "profile": cell.profile,
        "budget": cell.budget,
        "devices": cell.devices,
        "seeds": {"dev": cell.seeds[0], "eval": cell.seeds[1]},
        "quality": cell.quality,
    }
    known = {**run.header, "quality": (run.header.get("spec") or {}).get("quality")}
    for name, value in wanted.items():
        if known.get(name) != value:
            raise BadInput(
                f"{run.path} belongs to another version of this study ({name} {known.get(name)!r}, now "
                f"{value!r}): name another --runs directory, or move that one away"
            )


def check_begun(found: Sequence[CellState], *, resume: bool) -> None:
    """Raises BadInput when cells were begun and are not to be resumed."""
    begun = [state for state in found if state.outcome == "begun"]
    if begun and not resume:
        raise BadInput(
            f"{len(begun)} cell(s) were begun and not finished, such as {begun[0].path}: add --resume"
        )


def run_cells(found: Sequence[CellState], run_cell: RunCell, say: Say, *, resume: bool) -> list[CellState]:
    """Run what is not done. Raises BadInput when cells were begun and `resume` is False."""
    check_begun(found, resume=resume)
    ended: list[CellState] = []
    for number, state in enumerate(found, start=1):
        if state.outcome == "done":
            ended.append(state)
            continue
        say(f"cell {number} of {len(found)}: {state.cell.name}")
        ended.append(_run_one(state, run_cell))
        say(f"cell {number} of {len(found)}: {ended[-1].outcome} {ended[-1].detail}".rstrip())
        if ended[-1].outcome == "interrupted":
            return [*ended, *found[number:]]
    return ended


def _run_one(state: CellState, run_cell: RunCell) -> CellState:
    try:
        run = run_cell(state.cell, state.path, state.outcome == "begun")
    except KeyboardInterrupt:
        return CellState(state.cell, state.path, "interrupted")
    except Exception as error:
        if not is_expected(error):
            raise
        return CellState(state.cell, state.path, "failed", str(error))
    if not run.finished:
        return CellState(state.cell, state.path, "interrupted")
    return CellState(state.cell, state.path, "done", _words(run))


def _words(run: Run) -> str:
    found = run.result.get("found") or {}
    submitted = run.result.get("submitted") or {}
    if submitted and not submitted.get("valid"):
        return f"(counts 1.00x: {submitted.get('reason')})"
    score = submitted.get("score") or found.get("score")
    return f"(score {score:.4g})" if score else "(nothing valid found)"
