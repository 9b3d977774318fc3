"""`python -m studies.benchmarks.search_policies`: race, then say what came of it."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated

import typer
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from search.planners import names as planner_names
from studies.benchmarks.search_policies import figures, picture, table
from studies.benchmarks.search_policies.play import Policy, Run
from studies.benchmarks.search_policies.race import heats, race, read
from studies.benchmarks.search_policies.worlds import RACED, world
from studies.durations import parse
from studies.errors import BadInput, is_expected
from studies.terminal import err, out

app = typer.Typer(add_completion=False, pretty_exceptions_enable=False, rich_markup_mode=None)
POLICIES = tuple(
    f"{strategy}-{planner}" for strategy in (figures.OWN, figures.RIVAL) for planner in planner_names()
)


@app.command()
def main(
    seeds: Annotated[
        int, typer.Option("--seeds", min=1, help="Searches of each policy on each landscape.")
    ] = 50,
    landscape: Annotated[
        list[str] | None,
        typer.Option(
            "--landscape",
            help="Repeat it. A name, a run, a directory of runs, or a table (CSV, Parquet) of real trials.",
        ),
    ] = None,
    policy: Annotated[
        list[str] | None, typer.Option("--policy", help="Repeat it. STRATEGY-PLANNER, such as ceiling-tpe.")
    ] = None,
    budget: Annotated[str, typer.Option("--budget", help="Virtual GPU time of a search.")] = "1h",
    part: Annotated[
        float, typer.Option("--part", help="`ceiling` searches again with this share of it; 0: do not.")
    ] = round(1 / 3, 4),
    scenario: Annotated[str, typer.Option("--scenario", help="A, B, C or D.")] = "C",
    profile: Annotated[str, typer.Option("--profile", help="The scenario's size.")] = "gpu-short",
    processes: Annotated[int, typer.Option("--processes", min=1, help="Searches side by side.")] = 2,
    file: Annotated[
        Path, typer.Option("--file", help="One row a search. Rows that are there are not run again.")
    ] = Path("runs/search_policies.csv"),
    report: Annotated[
        bool, typer.Option("--report", help="Run nothing: say what the file holds of what is asked for.")
    ] = False,
    svg: Annotated[Path | None, typer.Option("--svg", help="Where to draw the curves.")] = None,
    markdown: Annotated[Path | None, typer.Option("--markdown", help="Where to write the tables.")] = None,
) -> None:
    """Race search policies in virtual time.

    The real strategies and planners search the simulated engine's landscapes, or recorded trials. Without
    servers and sleeps two virtual hours take seconds. Interrupt it at will; the same command goes on.

    Example: nice -n 19 python -m studies.benchmarks.search_policies --seeds 50 --svg race.svg
    """
    names = tuple(landscape or RACED)
    try:
        setting = f"{profile}/{scenario.upper()}"
        for name in names:
            world(name, setting)
        raced = [_policy(each) for each in policy or POLICIES]
        asked = heats(names, raced, seeds, parse(budget), setting, part or None)
        if not report:
            _follow(race(asked, file, processes))
    except Exception as error:
        if not is_expected(error):
            raise
        err().print(f"error: {error}", markup=False, soft_wrap=True)
        raise typer.Exit(2) from error
    known = read(file)
    runs = {
        name: [known[heat.key] for heat in asked if heat.landscape == name and heat.key in known]
        for name in names
    }
    _say({name: _ordered(raced, some) for name, some in runs.items() if some}, svg, markdown)


def _policy(text: str) -> Policy:
    try:
        return Policy.parse(text)
    except ValueError as error:
        raise BadInput(str(error)) from error


def _ordered(raced: list[Policy], runs: list[Run]) -> list[Run]:
    return sorted(runs, key=lambda run: (raced.index(run.policy), run.seed, run.budget))


def _follow(steps: Iterator[tuple[int, int]]) -> None:
    console = err()
    columns = (TextColumn("searches"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, console=console, disable=not sys.stderr.isatty()) as bar:
        task, said = bar.add_task("race", total=None), -1
        for done, asked in steps:
            bar.update(task, completed=done, total=asked)
            if not sys.stderr.isatty() and done * 20 // max(1, asked) != said:
                said = done * 20 // max(1, asked)
                console.print(f"{done} of {asked} searches")


def _say(landscapes: dict[str, list[Run]], svg: Path | None, markdown: Path | None) -> None:
    text = table.markdown(landscapes)
    out().print(text, markup=False, soft_wrap=True)
    for path, content in ((markdown, text), (svg, picture.svg(landscapes) if svg else "")):
        if path is not None:
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(content, encoding="utf-8")


if __name__ == "__main__":
    app()
