"""A comparison as terminal tables."""

from __future__ import annotations

from collections.abc import Sequence

from rich.console import Console
from rich.table import Table as Grid

from studies.compare import Entry, Row, Table
from studies.compare_data import published_beside
from studies.durations import short
from studies.estimates import Estimate
from studies.published import CITATION, leaderboard


def show(console: Console, tables: Sequence[Table], focus: str | None, published: bool) -> None:
    """Print every table: the leaderboard, then each scenario."""
    if len(tables) > 1:
        console.print(
            f"{len(tables)} settings that cannot be compared with one another, a table each "
            "(host, profile, model, or real against simulated):\n"
        )
    for table in tables:
        _show_table(console, table, focus, published)
    if published:
        console.print(f"[dim]{CITATION}[/dim]")


def _show_table(console: Console, table: Table, focus: str | None, published: bool) -> None:
    style = "yellow" if table.setting.simulated else "bold"
    console.print(f"[{style}]{table.setting.title}[/{style}]")
    if table.scenarios:
        console.print(_leaderboard(table, focus, published))
        for letter in [focus] if focus else table.scenarios:
            console.print(_scenario(table, letter))
    for note in table.notes:
        console.print(f"[yellow]note:[/yellow] {note}", soft_wrap=True)
    console.print()


def _leaderboard(table: Table, focus: str | None, published: bool) -> Grid:
    over = "the torch baseline" if table.reference == "torch" else "the engine default"
    by = f"scenario {focus}" if focus else "geometric mean over " + " ".join(table.scenarios)
    grid = Grid(title=f"Leaderboard: speedup over {over}, by {by}", title_justify="left")
    grid.add_column("#", justify="right")
    grid.add_column("method")
    grid.add_column("aggregate", justify="right")
    for letter in table.scenarios:
        grid.add_column(letter, justify="right")
    if published:
        for name in ("agg", "A", "B", "C", "D"):
            grid.add_column(f"published\n{name}", justify="right", style="dim")
    for number, row in enumerate(table.ranked(focus), start=1):
        ours = [aggregate_cell(row, table), *(_cell(row.entries.get(letter)) for letter in table.scenarios)]
        grid.add_row(str(number), row.method, *ours, *(_published_cells(row) if published else ()))
    if published:
        _published_rows(grid, table)
    return grid


def aggregate_cell(row: Row, table: Table) -> str:
    """The aggregate, with the scenarios that it rests on where they are not all four."""
    over = "" if len(row.entries) == 4 else f" ({''.join(row.entries)} only)"
    return times(row.aggregate) + over


def times(value: Estimate | None) -> str:
    """An estimate as `3.21x ± 0.05`."""
    if value is None:
        return "-"
    return f"{value.mean:.2f}x" + (f" ± {value.sem:.2f}" if value.sem is not None else "")


def _cell(entry: Entry | None) -> str:
    return times(entry.speedup) if entry else "-"


def _published_cells(row: Row) -> list[str]:
    beside = published_beside(row)
    if beside is None:
        return [""] * 5
    return [f"{beside.aggregate:.2f}x", *(f"{value:.2f}x" for value in beside.speedups.values())]


def _published_rows(grid: Grid, table: Table) -> None:
    shown = {beside.method for row in table.rows if (beside := published_beside(row))}
    grid.add_section()
    for row in leaderboard():
        if row.method not in shown:
            empty = [""] * (1 + len(table.scenarios))
            figures = [f"{value:.2f}x" for value in (row.aggregate, *row.speedups.values())]
            grid.add_row("", f"[dim]{row.method} (published)[/dim]", *empty, *figures)


def _scenario(table: Table, letter: str) -> Grid:
    top = table.ceiling(letter)
    caption = f"search ceiling: {times(top.entries[letter].speedup)} by {top.method}" if top else None
    grid = Grid(title=f"Scenario {letter}", title_justify="left", caption=caption, caption_justify="left")
    grid.add_column("method")
    figures = ("over\ndefault", "found", "seed\npairs", "GPU time\na run", "configs\na run")
    for name in (f"submitted\nover {table.reference}", *figures):
        grid.add_column(name, justify="right")
    grid.add_column("outcomes of trials")
    grid.add_column("counted as 1.00x")
    for row in table.ranked(letter):
        grid.add_row(row.method, *_figures(row, row.entries[letter]))
    return grid


def _figures(row: Row, entry: Entry) -> list[str]:
    measured = row.kind not in ("default", "baseline")
    return [
        times(entry.speedup),
        times(entry.over_default),
        times(entry.found) if measured else "",
        str(entry.speedup.n) if row.kind != "baseline" else "",
        short(entry.gpu_seconds) if measured else "",
        f"{entry.configs:g}" if measured else "",
        counts(entry.outcomes),
        counts(entry.reasons),
    ]


def counts(values: object) -> str:
    """Counts as `7 complete, 1 crashed`."""
    assert isinstance(values, dict)
    return ", ".join(f"{count} {name}" for name, count in sorted(values.items(), key=lambda kv: -kv[1]))
