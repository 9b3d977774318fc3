"""`ceiling agent` and `ceiling agents`: hold a coding agent to the same budget and scorer."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from studies.commands import options
from studies.commands.group import group
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

if TYPE_CHECKING:
    from agents.registry import AgentEntry

agents = group("List the agents there are.")


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command()(agent)


def agent(
    agent: Annotated[str, typer.Option("--agent", help="One of `ceiling agents list`, or command.")],
    scenario: ScenarioOption,
    budget: BudgetOption,
    model: ModelOption = "smollm2-135m",
    engine: EngineOption = "vllm",
    profile: ProfileOption = "cpu",
    length: options.LengthOption = "forced",
    argv: Annotated[
        list[str] | None,
        typer.Argument(help="After --: the executable of --agent command, or more arguments."),
    ] = None,
    devices: DevicesOption = 1,
    seed: options.SeedOption = options.DEV_SEED,
    eval_seed: options.EvalSeedOption = options.EVAL_SEED,
    text: TextOption = None,
    quality: options.QualityOption = None,
    llm: Annotated[str, typer.Option("--llm", help="Model that the agent itself thinks with.")] = "",
    variant: Annotated[
        Literal["default", "iterate"], typer.Option("--variant", help="Wording of the task.")
    ] = "default",
    unsafe_no_sandbox: Annotated[
        bool, typer.Option("--unsafe-no-sandbox", help="Run the agent without bubblewrap's isolation.")
    ] = False,
    run: RunOption = None,
    resume: ResumeOption = False,
    json: JsonOption = None,
) -> int:
    """Give a coding agent the same task and budget.

    It works in a workspace of its own; what it submits is scored on held-out requests.

    Example: ceiling agent --agent greedy --engine vllm --scenario B --budget 20m --model smollm2-135m

    Example: ceiling agent --agent command --scenario B --budget 20m -- ./my-agent.sh
    """
    from agents import AgentSpec
    from studies import summary
    from studies.durations import parse
    from studies.running import run_agent, status
    from studies.terminal import out, write_json

    profile = options.sized(profile, length)
    opened = options.opened_model(model, profile)
    engines = options.engine_names(engine)
    options.check_length(engines, profile, opened)
    spec = AgentSpec(
        agent=agent,
        engines=engines,
        scenario=options.check_scenario(scenario, profile),
        profile=profile,
        model=opened,
        budget=parse(budget),
        argv=tuple(argv or ()),
        seed=seed,
        eval_seed=eval_seed,
        devices=tuple(range(devices)),
        text=options.text_source(text, profile),
        llm=llm,
        variant=variant,
        sandbox=not unsafe_no_sandbox,
        quality=options.quality_task(quality),
    )
    path = options.new_run(run, resume, spec.scenario, engine, "agent", agent)
    done = run_agent(spec, path, resume=resume)
    if str(json) != "-":
        summary.show(out(), done)
    write_json(json, summary.speedups(done))
    return status(done)


@agents.command("list")
def list_agents(json: JsonOption = None) -> int:
    """List the agents: scripts with fixed rules, and coding agents whose program must be here.

    Example: ceiling agents list
    """
    from rich.markup import escape
    from rich.table import Table

    from agents import registry
    from studies.terminal import out, write_json

    rows = [_row(registry.entry(name)) for name in registry.names()]
    if str(json) != "-":
        grid = Table("agent", "what it is", "here", box=None, pad_edge=False)
        for row in rows:
            grid.add_row(
                row["name"], escape(row["note"]), "yes" if row["here"] else f"no: install {row['program']}"
            )
        out().print(grid)
    write_json(json, rows)
    return 0


def _row(entry: AgentEntry) -> dict[str, Any]:
    return {
        "name": entry.name,
        "note": entry.note,
        "scripted": entry.scripted,
        "program": entry.program,
        "here": entry.here,
    }
