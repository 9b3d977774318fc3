"""`ceiling demo`: the main job, from nothing to a number."""

from __future__ import annotations

from typing import Annotated

import typer

from studies.commands import options
from studies.commands.options import JsonOption, RunOption


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command()(demo)


def demo(
    budget: Annotated[str, typer.Option("--budget", help="GPU time of the search.")] = "6m",
    run: RunOption = None,
    json: JsonOption = None,
) -> int:
    """Do the main job on this machine, start to end.

    Installs what is missing, fetches a small model, measures the torch baseline, searches, summarises.

    Example: ceiling demo
    """
    from studies import demo as job
    from studies import summary
    from studies.durations import parse
    from studies.running import status
    from studies.terminal import out, steps, write_json

    plan = job.Demo(budget=parse(budget))
    path = options.new_run(run, False, "demo", plan.scenario, plan.engine, plan.planner)
    done = job.run(plan, path, steps())
    if str(json) != "-":
        summary.show(out(), done)
    write_json(json, summary.speedups(done))
    return status(done)
