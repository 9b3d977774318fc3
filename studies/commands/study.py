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
    cell: Annotated[
        list[str] | None,
        typer.Option("--cell", help="Only the cells of this name or pattern (repeat it).", metavar="NAME"),
    ] = None,
    at_once: Annotated[
        int,
        typer.Option("--at-once", min=1, help="Cells that run at a time, each on GPUs and cores of its own."),
    ] = 1,
    runs: Annotated[Path, typer.Option("--runs", help="Where run directories go.", metavar="DIR")] = Path(
        "runs"
    ),
    json: JsonOption = None,
) -> int:
    """Run a study file's matrix of runs.

    A finished run is never run again; a failed one is reported, and the rest go on.

    Example: ceiling study studies/cpu_agents_vs_search.yaml --dry-run

    Example: ceiling study studies/h100_short.yaml --cell '*-C-*' --at-once 2
    """
    from engines.host import this_host
    from studies import (
        compare,
        compare_data,
        compare_table,
        side_by_side,
        study_file,
        study_needs,
        study_run,
        study_table,
    )
    from studies.cell_run import run_cell
    from studies.terminal import out, steps, write_json

    loaded = study_file.load(file)
    found = study_run.states(loaded, runs, cell or ())
    if dry_run:
        study_table.show_matrix(out(), loaded, found)
        for line in study_needs.missing([state.cell for state in found if state.outcome != "done"]):
            out().print(f"[yellow]not here:[/yellow] {line}", soft_wrap=True)
        write_json(json, study_table.as_json(loaded, found))
        return 0
    if at_once == 1:
        ended = study_run.run_cells(found, run_cell, steps(), resume=resume)
    else:
        places = side_by_side.lanes([state.cell for state in found], at_once, this_host())
        ended = side_by_side.run_at_once(found, file, runs, places, steps(), resume=resume)
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
