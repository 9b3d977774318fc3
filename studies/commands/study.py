"""`ceiling study`: run a study file's matrix."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from studies.commands.options import JsonOption


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command()(study)


def study(
    file: Annotated[Path, typer.Argument(help="A study file (YAML).")],
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Print the matrix and its cost, run nothing.")
    ] = False,
    resume: Annotated[bool, typer.Option("--resume", help="Continue runs that were cut off.")] = False,
    runs: Annotated[Path, typer.Option("--runs", help="Where run directories go.", metavar="DIR")] = Path(
        "runs"
    ),
    json: JsonOption = None,
) -> int:
    """Run a study file's matrix of runs.

    A finished run is never run again; a failed one is reported, and the rest go on.

    Example: ceiling study studies/cpu_agents_vs_search.yaml --dry-run
    """
    from studies import compare, compare_data, compare_table, study_file, study_run, study_table
    from studies.cell_run import run_cell
    from studies.terminal import out, steps, write_json

    loaded = study_file.load(file)
    found = study_run.states(loaded, runs)
    if dry_run:
        study_table.show_matrix(out(), loaded, found)
        write_json(json, study_table.as_json(loaded, found))
        return 0
    ended = study_run.run_cells(found, run_cell, steps(), resume=resume)
    study_table.show_failures(out(), ended)
    done = [state.path for state in ended if state.outcome == "done"]
    tables = compare.compare(compare.load(done)) if done else []
    compare_table.show(out(), tables, None, published=False)
    place = runs / loaded.name
    out().print(f"The runs are in {place}; as a page: ceiling report {place} --html report.html")
    write_json(
        json, {"cells": study_table.as_json(loaded, ended), **compare_data.as_json(tables, None, False)}
    )
    if any(state.outcome == "interrupted" for state in ended):
        return 130
    return 1 if any(state.outcome == "failed" for state in ended) else 0
