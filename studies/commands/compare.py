"""`ceiling compare`: methods side by side, per scenario and overall."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

import typer

from studies.commands.options import JsonOption, writable


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command()(compare)


def compare(
    runs: Annotated[list[Path], typer.Argument(help="Run directories, or a study's directory.")],
    focus: Annotated[
        Literal["A", "B", "C", "D"] | None, typer.Option("--focus", help="Rank by one scenario.")
    ] = None,
    published: Annotated[
        bool, typer.Option("--published", help="Show the published figures in columns of their own.")
    ] = False,
    json: JsonOption = None,
    csv: Annotated[
        Path | None, typer.Option("--csv", help="Write the table as CSV.", metavar="FILE", callback=writable)
    ] = None,
    html: Annotated[
        Path | None,
        typer.Option("--html", help="Write one self-contained page.", metavar="FILE", callback=writable),
    ] = None,
) -> int:
    """Compare methods over runs and studies.

    Speedups over torch and over the default, found and submitted, cost, outcomes; a leaderboard.

    Example: ceiling compare runs/cpu-agents-vs-search --focus C --html comparison.html
    """
    from studies import compare as comparison
    from studies import compare_data, compare_table
    from studies.errors import BadInput
    from studies.report.page import write_page
    from studies.terminal import err, out, write_json

    tables = comparison.compare(comparison.load(runs))
    there = sorted({letter for table in tables for letter in table.scenarios})
    if focus and focus not in there:
        raise BadInput(
            f"no finished run of scenario {focus} here: --focus one of {', '.join(there) or 'none'}"
        )
    if html:
        write_page(html, tables, focus=focus, published=published)
    if csv:
        compare_data.write_csv(csv, tables, published)
    write_json(json, compare_data.as_json(tables, focus, published))
    if "-" not in (str(json), str(csv)):
        compare_table.show(out(), tables, focus, published)
    for path in (json, csv, html):
        if path and str(path) != "-":
            err().print(f"wrote {path}", soft_wrap=True)
    return 0 if any(table.scenarios for table in tables) else 1
