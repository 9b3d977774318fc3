"""`ceiling score`: measure anybody's OpenAI-compatible server."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from studies.commands import options
from studies.commands.options import JsonOption, ModelOption, ProfileOption, ScenarioOption, TextOption
from studies.errors import BadInput

if TYPE_CHECKING:
    from scenarios.measurement import Measurement


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command()(score)


def score(
    url: Annotated[
        str | None, typer.Argument(help="The server's address: http://HOST:PORT.", show_default=False)
    ] = None,
    scenario: ScenarioOption = "",
    model: ModelOption = "",
    profile: ProfileOption = "cpu",
    served_model: Annotated[
        str | None, typer.Option("--served-model", help="Name the server knows the model by.")
    ] = None,
    seed: options.SeedOption = options.DEV_SEED,
    text: TextOption = None,
    header: Annotated[
        list[str] | None,
        typer.Option("--header", metavar="NAME:VALUE", help="Send this header (repeat it): a key, say."),
    ] = None,
    rows: Annotated[
        Path | None, typer.Option("--out", help="Keep the per-request rows here.", metavar="DIR")
    ] = None,
    from_rows: Annotated[
        Path | None,
        typer.Option("--from-rows", help="Score kept rows again, without any server.", metavar="DIR"),
    ] = None,
    json: JsonOption = None,
) -> int:
    """Score a running OpenAI-compatible server.

    Sends the scenario's load, measures, judges the measurement, and prints its score.

    Example: ceiling score http://127.0.0.1:8000 --scenario C --profile cpu --model ./my-model --seed 21

    Example: ceiling score --from-rows runs/my-run/rows/MEASUREMENT
    """
    if from_rows is not None:
        return _again(from_rows, json)
    for name, given in (("URL", url), ("--scenario", scenario), ("--model", model)):
        if not given:
            raise BadInput(f"{name} is missing: ceiling score URL --scenario C --profile cpu --model DIR")
    assert url is not None
    from scenarios.score import score as measure
    from studies.live import LiveView
    from studies.measured import show
    from studies.terminal import out, steps, write_json

    letter = options.check_scenario(scenario, profile)
    opened = options.opened_model(model, profile)
    steps()(f"scoring {url}: scenario {letter}, profile {profile}, seed {seed}")
    with LiveView(f"scoring {url}, scenario {letter}") as view:
        measurement: Measurement = measure(
            url,
            letter,
            profile=profile,
            seed=seed,
            model=opened,
            text=options.text_source(text, profile),
            served_model=served_model,
            out=rows,
            observer=view,
            headers=dict(_header(line) for line in header or ()),
        )
    if str(json) != "-":
        show(out(), measurement)
    write_json(json, measurement.to_json())
    return 0 if measurement.valid else 1


def _again(rows: Path, json: JsonOption) -> int:
    from scenarios.score import rescore
    from studies.measured import show
    from studies.terminal import out, write_json

    try:
        measurement = rescore(rows)
    except FileNotFoundError as error:
        raise BadInput(str(error)) from None
    if str(json) != "-":
        show(out(), measurement)
    write_json(json, measurement.to_json())
    return 0 if measurement.valid else 1


def _header(line: str) -> tuple[str, str]:
    """`NAME:VALUE` of --header. Raises BadInput."""
    name, colon, value = line.partition(":")
    if not name.strip() or not colon:
        raise BadInput(f"--header {line}: write it as NAME:VALUE")
    return name.strip(), value.strip()
