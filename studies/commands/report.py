"""`ceiling report`: one run or study with all its trials, in the terminal or as a page."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from studies.commands.options import writable

if TYPE_CHECKING:
    from studies.compare import Table
    from studies.record import Run


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command()(report)


def report(
    run: Annotated[Path, typer.Argument(help="A run directory, or a study's directory.")],
    html: Annotated[
        Path | None,
        typer.Option("--html", help="Write one self-contained page.", metavar="FILE", callback=writable),
    ] = None,
    published: Annotated[
        bool, typer.Option("--published", help="Show the published figures beside ours.")
    ] = False,
) -> int:
    """Show what a run or a study came to, and every trial of it: here, or as one web page.

    Example: ceiling report runs/cpu-agents-vs-search --html report.html
    """
    from studies import compare as comparison
    from studies.report.page import write_page
    from studies.terminal import out

    runs = comparison.load([run])
    tables = comparison.compare(runs)
    if html is None:
        _print(runs, tables, published)
    else:
        write_page(html, tables, published=published, trials=True)
        out().print(f"wrote {html}", soft_wrap=True)
    return 0 if any(one.trials for one in runs) else 1


def _print(runs: Sequence[Run], tables: Sequence[Table], published: bool) -> None:
    from studies import compare_table, summary
    from studies.terminal import out
    from studies.trials import show_trials

    if len(runs) > 1:
        compare_table.show(out(), tables, None, published)
    for run in runs:
        if len(runs) > 1:
            out().print(f"\n{run.path}", soft_wrap=True, markup=False)
        else:
            summary.show(out(), run)
        show_trials(out(), run)
        if run.damaged:
            out().print(f"[yellow]note:[/yellow] {run.damaged} unreadable ledger line(s) skipped")
