"""`ceiling search`: find how fast a server can be made within a budget."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Annotated

import typer

from studies.commands import options
from studies.commands.options import (
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
from studies.errors import BadInput


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command()(search)


def search(
    engine: EngineOption,
    scenario: ScenarioOption,
    model: ModelOption,
    budget: Annotated[
        str | None,
        typer.Option("--budget", help="GPU time: 90s, 30m, 2h (devices x wall, start-up included)."),
    ] = None,
    profile: ProfileOption = "cpu",
    length: options.LengthOption = "forced",
    planner: Annotated[str, typer.Option("--planner", help="random, tpe, gp or smac.")] = "tpe",
    strategy: Annotated[
        str,
        typer.Option(
            "--strategy",
            help="How the budget is spent: ceiling (drops what is clearly behind, holds the best against the "
            "default on held-out requests), published (four-request trials, one finalist), full, or survey "
            "(a block from every config, for the record: nothing is dropped or submitted).",
        ),
    ] = "ceiling",
    also: Annotated[
        list[str] | None,
        typer.Option(
            "--also", metavar="LETTER", help="A further scenario that a survey measures (repeat it)."
        ),
    ] = None,
    devices: DevicesOption = 1,
    seed: options.SeedOption = options.DEV_SEED,
    eval_seed: options.EvalSeedOption = options.EVAL_SEED,
    planner_seed: Annotated[
        int | None,
        typer.Option(
            "--planner-seed", min=0, max=options.MOST_SEED, help="Seed of the proposals. Default: --seed."
        ),
    ] = None,
    trials: Annotated[
        int | None, typer.Option("--trials", min=1, help="End after so many trials, whatever is left.")
    ] = None,
    space: Annotated[
        list[Path] | None,
        typer.Option(
            "--space",
            metavar="FILE",
            help="Search this space in place of an engine's own (YAML as in engines/spaces; one an engine).",
        ),
    ] = None,
    fix: Annotated[
        list[str] | None,
        typer.Option(
            "--fix",
            metavar="FLAG[=VALUE]",
            help="Do not vary this flag: leave it at the engine's default, or at one of its choices. "
            "Repeat it; with several engines, vllm/FLAG means one of them.",
        ),
    ] = None,
    force: Annotated[
        list[str] | None,
        typer.Option(
            "--set",
            metavar="FLAG=VALUE",
            help="Give every server this flag, the default's too, even if the space lacks it. Repeat it.",
        ),
    ] = None,
    baseline: Annotated[
        bool, typer.Option("--baseline/--no-baseline", help="Score the torch baseline first.")
    ] = True,
    cold_starts: Annotated[
        bool, typer.Option("--cold-starts", help="Never import an engine ahead of its next launch.")
    ] = False,
    text: TextOption = None,
    quality: options.QualityOption = None,
    run: RunOption = None,
    resume: ResumeOption = False,
    address: Annotated[
        str | None, typer.Option("--address", help="A Ray cluster's address. Default: Ray on this machine.")
    ] = None,
    json: JsonOption = None,
) -> int:
    """Search engines' settings for the best score.

    A trial starts the engine with other flags, measures it and ends it. The engine's default goes first,
    then a few configs that experts try, then what the planner proposes. What wins must beat the default on
    held-out requests; it is printed as a launch command. Which flags are varied stands in
    engines/spaces/ENGINE.yaml.

    Example: ceiling search --engine vllm --scenario C --profile cpu --model smollm2-135m --budget 20m

    For the record: --strategy survey --also B --planner random --trials 60 keeps what 60 configs do in both.

    By hand: add --set gpu-memory-utilization=0.5 (every server gets it) or --fix kv-cache-dtype (not varied).
    """
    from studies import summary
    from studies.durations import parse
    from studies.running import run_search, status
    from studies.setting import is_real
    from studies.terminal import out, write_json

    engines = options.engine_names(engine)
    profile = options.sized(profile, length)
    letter = options.check_scenario(scenario, profile)
    seconds = parse(budget) if budget else None
    fixed, forced = _pins("--fix", fix or (), "default"), _pins("--set", force or ())
    for flag in sorted(fixed.keys() & forced.keys()):
        raise BadInput(f"--fix {flag} and --set {flag} both pin it: drop one of them")
    source = options.text_source(text, profile)
    task = options.quality_task(quality)
    opened = options.opened_model(model, profile)
    options.check_length(engines, profile, opened)
    path = options.new_run(run, resume, letter, engine, planner)

    from search.spec import SearchSpec

    spec = SearchSpec(
        engines=engines,
        scenario=letter,
        profile=profile,
        model=opened,
        planner=planner,
        strategy=strategy,
        budget=seconds,
        devices=devices,
        seed=seed,
        eval_seed=eval_seed,
        planner_seed=planner_seed,
        fixed=fixed,
        forced=forced,
        space_files=tuple(space or ()),
        text=source,
        trials=trials,
        baseline=baseline and any(is_real(name) for name in engines),
        starts="cold" if cold_starts else "auto",
        quality=task,
        also=tuple(options.check_scenario(one, profile) for one in also or ()),
    )
    done = run_search(spec, path, resume=resume, address=address)
    if str(json) != "-":
        summary.show(out(), done)
    write_json(json, summary.speedups(done))
    return status(done)


def _pins(option: str, items: Iterable[str], fallback: str | None = None) -> dict[str, str]:
    made: dict[str, str] = {}
    for flag, value in (_pin(option, item, fallback) for item in items):
        if made.setdefault(flag, value) != value:
            raise BadInput(f"{option} {flag}={made[flag]} and {option} {flag}={value} contradict: drop one")
    return made


def _pin(option: str, item: str, fallback: str | None = None) -> tuple[str, str]:
    """`flag=value` of --fix or --set; a bare flag stands for the fallback. Raises BadInput."""
    flag, equals, value = item.partition("=")
    if not equals and fallback is not None:
        value = fallback
    if not flag.lstrip("-") or not value:
        raise BadInput(f"{option} {item}: write it as FLAG=VALUE, such as {option} max-num-seqs=64")
    return flag.lstrip("-"), value
