"""`ceiling baseline`: score the naive PyTorch server, once a machine, model, scenario and profile."""

from __future__ import annotations

from typing import Annotated

import typer

from studies.commands import options
from studies.commands.options import JsonOption, ModelOption, ProfileOption, ScenarioOption


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command()(baseline)


def baseline(
    scenario: ScenarioOption,
    model: ModelOption,
    profile: ProfileOption = "cpu",
    length: options.LengthOption = "forced",
    seed: options.SeedOption = options.DEV_SEED,
    force: Annotated[bool, typer.Option("--force", help="Measure again, whatever is kept.")] = False,
    json: JsonOption = None,
) -> int:
    """Score the torch baseline of this machine.

    Every speedup refers to it. It is measured once a machine, model, scenario and profile, then reused.

    Example: ceiling baseline --scenario C --profile cpu --model smollm2-135m
    """
    from scenarios.baseline import baseline as measure
    from studies.live import LiveView
    from studies.measured import show
    from studies.terminal import out, write_json

    profile = options.sized(profile, length)
    letter = options.check_scenario(scenario, profile)
    opened = options.opened_model(model, profile)
    with LiveView(f"torch baseline, scenario {letter}") as view:
        measurement = measure(opened, letter, profile, seed, observer=view, force=force)
    if str(json) != "-":
        show(out(), measurement)
    write_json(json, measurement.to_json())
    return 0 if measurement.valid else 1
