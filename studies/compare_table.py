"""A comparison as terminal tables."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.table import Table as Grid

from studies.checked import counted
from studies.compare import KINDS, Entry, Row, Table
from studies.compare_data import published_beside
from studies.durations import short
from studies.estimates import Estimate
from studies.hardware import share_words
from studies.published import CITATION, Published, leaderboard
from studies.verdict import over_default, search_against_agents, sentence, verdicts

WIDE = 110
"""Columns from which on the leaderboard shows standard errors too, and published figures by scenario."""

PUBLISHED = ("all", "A", "B", "C", "D")


def show(console: Console, tables: Sequence[Table], focus: str | None, published: bool) -> None:
    """Print every table: the leaderboard, then each scenario."""
    if len(tables) > 1:
        console.print(
            f"{len(tables)} settings that cannot be compared with one another, a table each "
            "(host, profile, model, text, flags of --set, or real against simulated):\n"
        )
    for table in tables:
        _show_table(console, table, focus, published)
    if published:
        if console.width < WIDE:
            console.print(_published_alone())
        console.print(f"[dim]{CITATION}[/dim]")


def _show_table(console: Console, table: Table, focus: str | None, published: bool) -> None:
    style = "yellow" if table.setting.simulated else "bold"
    console.print(f"[{style}]{table.setting.title}[/{style}]")
    if table.scenarios:
        for verdict in verdicts(table):
            console.print(sentence(verdict, table.reference), soft_wrap=True)
        for line in [*(each.words for each in over_default(table)), *search_against_agents(table)]:
            console.print(line, soft_wrap=True)
        console.print()
        wide = console.width >= WIDE
        console.print(_leaderboard(table, focus, published and wide, published or not wide))
        for letter in [focus] if focus else table.scenarios:
            _show_scenario(console, table, letter)
    for note in table.notes:
        console.print(f"[yellow]note:[/yellow] {note}", soft_wrap=True)
    console.print()


def _leaderboard(table: Table, focus: str | None, published: bool, narrow: bool) -> Grid:
    over = "the torch baseline" if table.reference == "torch" else "the engine default"
    by = f"scenario {focus}" if focus else "geometric mean over " + " ".join(table.scenarios)
    grid = Grid(title=f"Leaderboard: speedup over {over}, by {by}", title_justify="left", box=SIMPLE_HEAD)
    grid.add_column("#", justify="right", min_width=2)
    grid.add_column("method", no_wrap=not narrow, min_width=16)
    for name in ("aggregate", *table.scenarios):
        grid.add_column(name, justify="right", no_wrap=True)
    if published:
        for name in PUBLISHED:
            grid.add_column(f"publ.\n{name}", justify="right", style="dim", min_width=6)
    for number, row in enumerate(table.ranked(focus), start=1):
        rank = str(number) if focus or table.complete(row) else "-"
        cells = [_cell(row.entries.get(letter), narrow) for letter in table.scenarios]
        ours = [aggregate_cell(row, narrow), *cells]
        grid.add_row(rank, row.method, *ours, *(_published_cells(row) if published else ()))
    if published:
        _published_rows(grid, table)
    return grid


def aggregate_cell(row: Row, narrow: bool = False) -> str:
    """The aggregate, with the scenarios that it rests on where they are not all four."""
    over = "" if len(row.entries) == 4 else f" ({''.join(row.entries)} only)"
    return _short(row.aggregate, narrow) + over


def times(value: Estimate | None) -> str:
    """An estimate as `3.21x ± 0.05`."""
    if value is None:
        return "-"
    return f"{value.mean:.2f}x" + (f" ± {value.sem:.2f}" if value.sem is not None else "")


def _short(value: Estimate | None, narrow: bool) -> str:
    return f"{value.mean:.2f}x" if narrow and value else times(value)


def _cell(entry: Entry | None, narrow: bool) -> str:
    return _short(entry.speedup, narrow) if entry else "-"


def _published_cells(row: Row) -> list[str]:
    beside = published_beside(row)
    if beside is None:
        return [""] * 5
    return [f"{beside.aggregate:.2f}x", *(f"{value:.2f}x" for value in beside.speedups.values())]


def _published_rows(grid: Grid, table: Table) -> None:
    shown = {beside.method for row in table.rows if (beside := published_beside(row))}
    grid.add_row("", "[dim]published, not measured here:[/dim]")
    for row in leaderboard():
        if row.method not in shown:
            empty = [""] * (1 + len(table.scenarios))
            grid.add_row("", f"[dim]{row.method}[/dim]", *empty, *_published_figures(row))


def _published_figures(row: Published) -> list[str]:
    return [f"{value:.2f}x" for value in (row.aggregate, *row.speedups.values())]


def _published_alone() -> Grid:
    """The published figures by themselves, where the leaderboard has no room for their columns."""
    grid = Grid(title="Published, not measured here", title_justify="left", box=SIMPLE_HEAD, style="dim")
    grid.add_column("method")
    for name in PUBLISHED:
        grid.add_column(name, justify="right")
    for row in leaderboard():
        grid.add_row(row.method, *_published_figures(row))
    return grid


def _show_scenario(console: Console, table: Table, letter: str) -> None:
    wide = console.width >= WIDE
    grid = Grid(title=f"Scenario {letter}", title_justify="left", box=SIMPLE_HEAD)
    grid.add_column("method", no_wrap=False, min_width=14)
    roofs = table.has_roofline(letter)
    for name in (f"submitted\nover {table.reference}", "over\ndefault", "found", *(["of\nroofline"] * roofs)):
        grid.add_column(name, justify="right", no_wrap=True)
    for name in ("seed\npairs", "GPU time\na run", "configs\na run"):
        grid.add_column(name, justify="right")
    if wide:
        grid.add_column("outcomes of trials", overflow="fold")
        grid.add_column("counted as 1.00x", overflow="fold")
    for row in table.ranked(letter):
        entry = row.entries[letter]
        words = [counts(entry.outcomes), counts(entry.reasons)] if wide else []
        speeds, costs = _figures(row, entry, not wide)
        roof = [share_words(entry.of_roofline.mean if entry.of_roofline else None)] * roofs
        grid.add_row(row.method, *speeds, *roof, *costs, *words)
    console.print(grid)
    if not wide:
        _show_words(console, table, letter)
    _show_checked(console, table, letter)
    top = table.ceiling(letter)
    if top:
        console.print(f"  search ceiling: {times(top.entries[letter].speedup)} by {top.method}")


def _show_words(console: Console, table: Table, letter: str) -> None:
    """Outcomes and reasons as lines, where the terminal has no room for their columns."""
    for row in table.ranked(letter):
        entry = row.entries[letter]
        if entry.outcomes:
            reasons = f"; counted as 1.00x: {counts(entry.reasons)}" if entry.reasons else ""
            console.print(f"  {row.method}: {counts(entry.outcomes)}{reasons}")


def _show_checked(console: Console, table: Table, letter: str) -> None:
    """What was found of the submitted servers' answers, a line a finding."""
    for row in table.ranked(letter):
        for found, count in counted(row.entries[letter].runs).items():
            times = f" ({count} runs)" if count > 1 else ""
            console.print(f"  {row.method}, answers: {found}{times}", soft_wrap=True, markup=False)


def _figures(row: Row, entry: Entry, narrow: bool) -> tuple[list[str], list[str]]:
    """Speedups, and what they cost."""
    measured = row.kind in KINDS
    speeds = [
        _short(entry.speedup, narrow),
        _short(entry.over_default, narrow),
        _short(entry.found, narrow) if measured else "",
    ]
    return speeds, [
        str(entry.speedup.n) if row.kind != "baseline" else "",
        short(entry.gpu_seconds) if measured else "",
        f"{entry.configs:g}" if measured else "",
    ]


def counts(values: Mapping[str, int]) -> str:
    """Counts as `7 complete, 1 crashed`."""
    return ", ".join(f"{count} {name}" for name, count in sorted(values.items(), key=lambda kv: -kv[1]))
