"""The page: what the template needs of a comparison, and its rendering."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

from scenarios.trial import State
from studies import published as literature
from studies.checked import Checked, counted
from studies.compare import KINDS, Row, Table, configs_tried
from studies.compare_data import published_beside
from studies.compare_table import counts, times
from studies.durations import short
from studies.hardware import share_words
from studies.record import Run
from studies.report import charts
from studies.trials import Tried, letters, tried
from studies.verdict import Verdict, amount, over_default, search_against_agents, verdicts

SCENARIOS = {
    "A": "prefill: how soon the first word of a long prompt's answer comes",
    "B": "decode: how fast the words of a long answer follow one another",
    "C": "throughput: how many requests a second under load",
    "D": "all of it: first word, following words and requests a second together",
}
STATES = tuple(state.value for state in State)


@dataclass(frozen=True)
class Board:
    """One leaderboard. `focus` None is the aggregate."""

    focus: str | None
    rows: Sequence[Row]
    top: float


@dataclass(frozen=True)
class Section:
    """One table of the comparison, with everything that is drawn of it."""

    table: Table
    over: str
    boards: Sequence[Board]
    verdicts: Sequence[Verdict]
    colours: Mapping[str, str]
    bars: Mapping[str, Markup]
    plots: Mapping[str, charts.Plot]
    outcomes: Sequence[tuple[Row, Markup, str]]
    standings: Sequence[str]
    launches: Sequence[tuple[str, str, str]]
    answers: Sequence[tuple[str, str, Checked, int]]
    focus: str | None
    roofs: bool = False


def write_page(
    path: Path,
    tables: Sequence[Table],
    *,
    focus: str | None = None,
    published: bool = False,
    trials: bool = False,
) -> None:
    """Write the comparison as one self-contained HTML file, with `trials` of every run where asked."""
    path.parent.mkdir(parents=True, exist_ok=True)
    page = render(tables, focus=focus, published=published, trials=trials)
    path.write_text(page, encoding="utf-8")


def render(
    tables: Sequence[Table], *, focus: str | None = None, published: bool = False, trials: bool = False
) -> str:
    """The page's HTML."""
    environment = Environment(
        loader=PackageLoader("studies.report", ""),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= {
        "times": times,
        "short": short,
        "share": share_words,
        "amount": amount,
        "svg": Markup,
    }
    sections = [_section(table, focus) for table in tables]
    return environment.get_template("page.html.j2").render(
        sections=sections,
        style=Markup(Path(__file__).with_name("style.css").read_text(encoding="utf-8")),
        scenarios=SCENARIOS,
        states=STATES,
        present=sorted({letter for table in tables for letter in table.scenarios}),
        published=literature.leaderboard() if published else [],
        citation=literature.CITATION,
        beside=published_beside,
        provenance=_provenance,
        tried=tried if trials else None,
        letters=letters,
        widest=_widest,
        lone=sum(len(table.runs) for table in tables) == 1,
        simulated=any(table.setting.simulated for table in tables),
    )


def _section(table: Table, focus: str | None) -> Section:
    colours = _colours(table)
    return Section(
        table=table,
        over="torch baseline" if table.reference == "torch" else "engine default",
        boards=[_board(table, letter) for letter in (None, *table.scenarios)],
        verdicts=verdicts(table),
        colours=colours,
        bars={letter: _bars(table, letter, colours) for letter in table.scenarios},
        plots={letter: _plot(table, letter, colours) for letter in table.scenarios},
        outcomes=_outcomes(table),
        standings=[*(each.words for each in over_default(table)), *search_against_agents(table)],
        launches=_launches(table),
        answers=_answers(table),
        focus=focus if focus in table.scenarios else None,
        roofs=any(table.has_roofline(letter) for letter in table.scenarios),
    )


def _board(table: Table, focus: str | None) -> Board:
    rows = table.ranked(focus)
    values = [value.mean for row in rows if (value := row.estimate(focus))]
    return Board(focus, rows, max(values, default=1.0))


def _colours(table: Table) -> dict[str, str]:
    own = sorted((row.kind != "search", row.method) for row in table.rows if row.kind in KINDS)
    colours = {method: f"var(--m{number % charts.PALETTE})" for number, (_, method) in enumerate(own)}
    return {row.method: colours.get(row.method, "var(--plain)") for row in table.rows}


def _bars(table: Table, letter: str, colours: Mapping[str, str]) -> Markup:
    rows = [
        charts.Bar(
            label=row.method,
            colour=colours[row.method],
            value=row.entries[letter].speedup.mean,
            error=row.entries[letter].speedup.sem,
            found=found.mean if (found := row.entries[letter].found) else None,
            note=" (put down to 1.00x)" if row.entries[letter].reasons else "",
        )
        for row in table.ranked(letter)
    ]
    top = table.ceiling(letter)
    return Markup(charts.bars(rows, ceiling=top.entries[letter].speedup.mean if top else None))


def _plot(table: Table, letter: str, colours: Mapping[str, str]) -> charts.Plot:
    series = [
        charts.Line(
            label=f"{row.method}, seed {run.seeds[0]}",
            colour=colours[row.method],
            points=_points(run, table.reference_of(run).scale),
            end=float(run.result.get("gpu_seconds") or 0.0),
        )
        for row in table.rows
        if letter in row.entries
        for run in row.entries[letter].runs
    ]
    shown = [run for row in table.rows if letter in row.entries for run in row.entries[letter].runs]
    budgets = {run.header.get("budget") for run in shown}
    limit = float(budgets.pop() or 0.0) or None if len(budgets) == 1 else None
    return charts.lines(series, limit=limit, label=f"Best so far against GPU time, scenario {letter}")


def _points(run: Run, scale: float | None) -> list[tuple[float, float]]:
    return [(point.gpu_seconds, point.score * scale) for point in run.curve] if scale else []


def _outcomes(table: Table) -> list[tuple[Row, Markup, str]]:
    rows = []
    for row in table.rows:
        total: Counter[str] = Counter()
        for entry in row.entries.values():
            total.update(entry.outcomes)
        if total:
            rows.append((row, Markup(charts.stacked(total, STATES)), counts(total)))
    return rows


def _answers(table: Table) -> list[tuple[str, str, Checked, int]]:
    """What was found of the submitted servers' answers: (scenario, method, finding, runs)."""
    return [
        (letter, row.method, found, count)
        for letter in table.scenarios
        for row in table.ranked(letter)
        for found, count in counted(row.entries[letter].runs).items()
    ]


def _launches(table: Table) -> list[tuple[str, str, str]]:
    """Per scenario the best search or agent run's launch: (scenario, method, command)."""
    launches = []
    for letter in table.scenarios:
        for row in table.ranked(letter):
            command = _command(row.entries[letter].runs)
            if command:
                launches.append((letter, row.method, command))
                break
    return launches


def _command(runs: Sequence[Run]) -> str | None:
    def score(run: Run) -> float:
        return float((run.result.get("submitted") or {}).get("score") or 0.0)

    for run in sorted(runs, key=score, reverse=True):
        for part in ("submitted", "found"):
            command = (run.result.get(part) or {}).get("command")
            if command:
                return str(command)
    return None


def _widest(rows: Sequence[Tried]) -> dict[str, float]:
    """The greatest ratio to the default by scenario: a full bar."""
    top: dict[str, float] = {}
    for row in rows:
        for letter, reading in row.readings.items():
            top[letter] = max(top.get(letter, 0.0), reading.over_default or 0.0)
    return top


def _provenance(run: Run) -> dict[str, Any]:
    return {
        "path": str(run.path),
        "method": run.method,
        "scenario": run.scenario,
        "seeds": f"{run.seeds[0]} / {run.seeds[1]}",
        "engines": ", ".join(f"{name} {run.versions.get(name, '')}".strip() for name in run.engines),
        "commit": run.commit,
        "gpu": short(float(run.result.get("gpu_seconds") or 0.0)),
        "configs": configs_tried(run),
        "ended": run.ended or "has not ended",
    }
