"""`ceiling report`: one run or study as a page."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command()(report)


def report(
    run: Annotated[Path, typer.Argument(help="A run directory, or a study's directory.")],
    html: Annotated[Path, typer.Option("--html", help="Where to write the page.", metavar="FILE")],
    published: Annotated[
        bool, typer.Option("--published", help="Show the published figures beside ours.")
    ] = False,
) -> int:
    """Write a run or a study as one web page.

    Example: ceiling report runs/cpu-agents-vs-search --html report.html
    """
    from studies import compare as comparison
    from studies.report.page import write_page
    from studies.terminal import out

    tables = comparison.compare(comparison.load([run]))
    write_page(html, tables, published=published)
    out().print(f"wrote {html}", soft_wrap=True)
    return 0 if any(table.scenarios for table in tables) else 1
