"""`ceiling score`: measure anybody's OpenAI-compatible server."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from studies.commands import options
from studies.commands.options import JsonOption, ModelOption, ProfileOption, ScenarioOption, TextOption
from studies.errors import BadInput

if TYPE_CHECKING:
    from engines.contract import Model
    from scenarios.measurement import Measurement
    from scenarios.repeats import Repeats
    from scenarios.scenario import Fidelity


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
    length: options.LengthOption = "forced",
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
        Path | None,
        typer.Option(
            "--out",
            help="Keep the per-request rows here.",
            metavar="DIR",
            callback=options.writable_folder,
        ),
    ] = None,
    from_rows: Annotated[
        Path | None,
        typer.Option("--from-rows", help="Score kept rows again, without any server.", metavar="DIR"),
    ] = None,
    repeats: Annotated[
        int | None,
        typer.Option(
            "--repeats",
            min=1,
            help="Measure so many times, each time with fresh prompts; with --ci: at most so many (20).",
            show_default=False,
        ),
    ] = None,
    ci: Annotated[
        str | None,
        typer.Option(
            "--ci",
            help="Repeat until the mean's 95 % interval reaches no further than this to either side.",
            metavar="3%",
        ),
    ] = None,
    device: Annotated[
        list[int] | None,
        typer.Option(
            "--device",
            min=0,
            metavar="INDEX",
            help="GPU that serves, as CUDA counts (repeat it): its power, memory and roofline. Default: all.",
        ),
    ] = None,
    check_text: Annotated[
        bool,
        typer.Option(
            "--text-check/--no-text-check",
            help="Afterwards hold a sample of the answers against the model (needs the torch engine).",
        ),
    ] = True,
    quality: Annotated[
        str | None,
        typer.Option(
            "--quality",
            metavar="TASK",
            help="End every prompt in a question and void what answers worse than the model itself: "
            "past-tense, recall (of what stands at the far end of the prompt), or mmlu-pro:FILE (needs the "
            "torch engine).",
        ),
    ] = None,
    json: JsonOption = None,
) -> int:
    """Score a running OpenAI-compatible server.

    Sends the scenario's load, measures, judges the measurement, and prints its score. Repeats also teach
    this machine's noise floor, under which `ceiling compare` calls a difference none.

    Example: ceiling score http://127.0.0.1:8000 --scenario C --profile cpu --model ./my-model --seed 21

    Example: ceiling score http://127.0.0.1:8000 --scenario C --model ./my-model --ci 3%

    Example: ceiling score --from-rows runs/my-run/rows/MEASUREMENT
    """
    if from_rows is not None:
        return _again(from_rows, json)
    for name, given in (("URL", url), ("--scenario", scenario), ("--model", model)):
        if not given:
            raise BadInput(f"{name} is missing: ceiling score URL --scenario C --profile cpu --model DIR")
    assert url is not None
    from scenarios.quality.admission import admit
    from scenarios.repeats import MOST, repeat
    from scenarios.scenario import Fidelity, Plan
    from scenarios.score import score as measure
    from scenarios.workload import blocks
    from studies.live import LiveView
    from studies.terminal import steps

    within = _share(ci)
    task = options.quality_task(quality)
    profile = options.sized(profile, length)
    letter = options.check_scenario(scenario, profile)
    opened = options.opened_model(model, profile)
    source = options.text_source(text, profile)
    if task is not None:
        admit(task, Plan(letter, profile, seed, text=source), opened)
    headers = dict(_header(line) for line in header or ())
    serving = options.gpus(device)
    steps()(f"scoring {url}: scenario {letter}, profile {profile}, seed {seed}")
    with LiveView(f"scoring {url}, scenario {letter}") as view:

        def once(seed: int, fidelity: Fidelity) -> Measurement:
            return measure(
                url,
                letter,
                profile=profile,
                seed=seed,
                model=opened,
                fidelity=fidelity,
                text=source,
                served_model=served_model,
                out=rows,
                observer=view,
                headers=headers,
                devices=serving,
                check_text=check_text,
                quality=task,
                check_quality=True,
            )

        if repeats is None and within is None:
            return _told(once(seed, Fidelity()), json, task)
        plan = Plan(letter, profile, seed, text=source)
        made = repeat(once, seed=seed, blocks=blocks(plan, opened), most=repeats or MOST, within=within)
    return _told_all(made, opened, json)


def _again(rows: Path, json: JsonOption) -> int:
    from scenarios.score import rescore

    try:
        return _told(rescore(rows), json)
    except FileNotFoundError as error:
        raise BadInput(str(error)) from None


def _told(measurement: Measurement, json: JsonOption, task: str | None = None) -> int:
    from studies.measured import show
    from studies.terminal import err, out, write_json

    if str(json) != "-":
        show(out(), measurement)
    write_json(json, measurement.to_json())
    if task and measurement.valid and measurement.quality is None:
        err().print(f"--quality {task} was not judged: {measurement.mark}, and such text comes from no model")
    return 0 if measurement.valid else 1


def _told_all(repeats: Repeats, model: Model, json: JsonOption) -> int:
    from scenarios.noise import learn
    from studies.measured import floor_block, show_repeats
    from studies.terminal import out, write_json

    noise = learn(model, repeats)
    if str(json) != "-":
        show_repeats(out(), repeats, noise)
    measurements = [one.to_json() for one in repeats.measurements]
    write_json(json, {**repeats.to_json(), "noise_floor": floor_block(noise), "measurements": measurements})
    return 0 if repeats.valid else 1


def _share(text: str | None) -> float | None:
    """`3%` of --ci as 0.03. Raises BadInput."""
    if text is None:
        return None
    try:
        share = float(text.strip().removesuffix("%")) / 100
    except ValueError:
        share = 0.0
    if not 0 < share < 1:
        raise BadInput(f"--ci {text}: write it as 3% (of the mean, to either side)")
    return share


def _header(line: str) -> tuple[str, str]:
    """`NAME:VALUE` of --header. Raises BadInput."""
    name, colon, value = line.partition(":")
    if not name.strip() or not colon:
        raise BadInput(f"--header {line}: write it as NAME:VALUE")
    if not line.isascii() or not line.isprintable():
        raise BadInput(f"--header {name.strip()}: headers are plain ASCII")
    return name.strip(), value.strip()
