"""`ceiling search`: find how fast a server can be made within a budget."""

from __future__ import annotations

from typing import Annotated

import typer

from studies.commands import options
from studies.commands.options import (
    BudgetOption,
    DevicesOption,
    EngineOption,
    JsonOption,
    ModelOption,
    ProfileOption,
    ResumeOption,
    RunOption,
    ScenarioOption,
    TextOption,
)


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command()(search)


def search(
    engine: EngineOption,
    scenario: ScenarioOption,
    model: ModelOption,
    budget: BudgetOption,
    profile: ProfileOption = "cpu",
    planner: Annotated[str, typer.Option("--planner", help="random, tpe, gp or smac.")] = "tpe",
    strategy: Annotated[
        str, typer.Option("--strategy", help="How the budget is spent: ceiling, published or full.")
    ] = "ceiling",
    devices: DevicesOption = 1,
    seed: options.SeedOption = options.DEV_SEED,
    eval_seed: options.EvalSeedOption = options.EVAL_SEED,
    text: TextOption = None,
    run: RunOption = None,
    resume: ResumeOption = False,
    address: Annotated[
        str | None, typer.Option("--address", help="A Ray cluster's address. Default: Ray on this machine.")
    ] = None,
    json: JsonOption = None,
) -> int:
    """Search engines' settings for the best score.

    The engine's default goes first, and what is found must beat it on held-out requests.

    Example: ceiling search --engine vllm --scenario C --profile cpu --model smollm2-135m --budget 20m
    """
    from search.search import SearchSpec
    from search.search import search as run_search
    from studies import summary
    from studies.durations import parse
    from studies.running import follow, status
    from studies.terminal import out, write_json

    spec = SearchSpec(
        engines=options.engine_names(engine),
        scenario=options.check_scenario(scenario, profile),
        profile=profile,
        model=options.opened_model(model, profile),
        planner=planner,
        strategy=strategy,
        budget=parse(budget),
        devices=devices,
        seed=seed,
        eval_seed=eval_seed,
        text=options.text_source(text, profile),
    )
    path = options.new_run(run, resume, spec.scenario, engine, planner)
    done = follow(
        path,
        lambda observer: run_search(spec, path, resume=resume, observer=observer, address=address),
        resume=resume,
    )
    if str(json) != "-":
        summary.show(out(), done)
    write_json(json, summary.speedups(done))
    return status(done)
