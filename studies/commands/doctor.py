"""`ceiling doctor`: what is here, and the command that mends what is not."""

from __future__ import annotations

from typing import Annotated

import typer

from studies.commands.options import JsonOption

MARKS = {"ok": "[green]ok[/green]", "missing": "[red]missing[/red]", "optional": "[yellow]optional[/yellow]"}


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command()(doctor)


def doctor(
    load: Annotated[
        bool, typer.Option("--load", help="Measure what the load client can do here (about 10 s).")
    ] = False,
    json: JsonOption = None,
) -> int:
    """Say what this machine has, and lacks.

    Devices, engines, models, text, disk, programs: each missing one with the command that mends it.

    Example: ceiling doctor

    Example: ceiling doctor --load
    """
    return _load(json) if load else _inventory(json)


def _load(json: JsonOption) -> int:
    """One sender against a server that only keeps time; kept, so that measurements state their headroom."""
    from dataclasses import asdict

    from scenarios.load.calibration import calibrate, save
    from studies.terminal import out, steps, write_json

    steps()("measuring the load client against a server that only keeps time, about 10 s")
    made = calibrate()
    save(made)
    if str(json) != "-":
        out().print(
            f"one sender on this machine: {made.tokens_per_second:,.0f} streamed tokens/s "
            f"({made.token_seconds * 1e6:.1f} us of CPU each), {made.requests_per_second:,.0f} requests/s\n"
            f"streams of 50 tokens/s that it keeps up with: {made.streams:,.0f}\n"
            f"first tokens are stamped {made.bias_p50 * 1e3:.2f} ms late (p50), {made.bias_p99 * 1e3:.2f} ms "
            "(p99), at 64 streams of 50 tokens/s\n"
            "kept: measurements from now on state their headroom"
        )
    write_json(json, asdict(made))
    return 0


def _inventory(json: JsonOption) -> int:
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
