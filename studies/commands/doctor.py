"""`ceiling doctor`: what is here, and the command that mends what is not."""

from __future__ import annotations

import typer

from studies.commands.options import JsonOption

MARKS = {"ok": "[green]ok[/green]", "missing": "[red]missing[/red]", "optional": "[yellow]optional[/yellow]"}


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command()(doctor)


def doctor(json: JsonOption = None) -> int:
    """Say what this machine has, and lacks.

    Devices, engines, models, text, disk, programs: each missing one with the command that mends it.

    Example: ceiling doctor
    """
    from dataclasses import asdict

    from rich.markup import escape
    from rich.table import Table

    from studies.doctor import checks
    from studies.terminal import out, write_json

    found = checks()
    if str(json) != "-":
        grid = Table("", "what", "state", "detail", "what mends it", box=None, pad_edge=False)
        group = ""
        for check in found:
            head = check.group if check.group != group else ""
            group = check.group
            grid.add_row(head, check.name, MARKS[check.state], escape(check.detail), escape(check.fix))
        out().print(grid)
        missing = sum(check.state == "missing" for check in found)
        out().print(f"\n{missing} missing" if missing else "\neverything that the demo needs is here")
    write_json(json, [asdict(check) for check in found])
    return 0
