"""Options that several commands share, and how their values become what the lower floors take."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from studies.errors import BadInput

if TYPE_CHECKING:
    from engines.contract import Model
    from engines.host import Device

ScenarioOption = Annotated[
    str,
    typer.Option("--scenario", help="A prefill, B decode, C throughput, D all-in-one.", show_default=False),
]
ProfileOption = Annotated[
    str, typer.Option("--profile", help="Size of the scenarios: paper, gpu-short, cpu or smoke.")
]
ModelOption = Annotated[
    str,
    typer.Option(
        "--model", help="Model directory (Hugging Face layout), or a name that `ceiling models fetch` knows."
    ),
]
MOST_SEED = 2**32 - 1
SeedOption = Annotated[int, typer.Option("--seed", min=0, max=MOST_SEED, help="Seed of the requests (dev).")]
EvalSeedOption = Annotated[
    int, typer.Option("--eval-seed", min=0, max=MOST_SEED, help="Held-out seed of the final scoring.")
]
TextOption = Annotated[
    str | None,
    typer.Option("--text", help="Prompts from: sotu, longbench-v2 or jsonl:FILE. Default: the profile's."),
]


def writable(path: Path | None) -> Path | None:
    """A file for a result, tried before anything is done for it. Raises BadParameter."""
    if path is None or str(path) == "-":
        return path
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        there = path.exists()
        with path.open("a"):
            pass
        if not there:
            path.unlink()
    except OSError as error:
        raise typer.BadParameter(f"{path} cannot be written ({error.strerror}): name another file") from error
    return path


def writable_folder(path: Path | None) -> Path | None:
    """A folder for results, made before anything is done for them. Raises BadParameter."""
    if path is None:
        return path
    try:
        path.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=path):
            pass
    except OSError as error:
        raise typer.BadParameter(f"{path} takes no files ({error.strerror}): name another folder") from error
    return path


BudgetOption = Annotated[
    str, typer.Option("--budget", help="GPU time: 90s, 30m, 2h (devices x wall, start-up included).")
]
EngineOption = Annotated[str, typer.Option("--engine", help="Engine, or several with commas: vllm,sglang.")]
DevicesOption = Annotated[int, typer.Option("--devices", min=1, help="How many devices to use.")]
RunOption = Annotated[
    Path | None,
    typer.Option("--run", help="Run directory. Default: a new one below runs/.", show_default=False),
]
ResumeOption = Annotated[bool, typer.Option("--resume", help="Continue the run in --run where it stopped.")]
JsonOption = Annotated[
    Path | None,
    typer.Option(
        "--json", help="Write the result as JSON to FILE (- for stdout).", metavar="FILE", callback=writable
    ),
]

QualityOption = Annotated[
    str | None,
    typer.Option(
        "--quality",
        metavar="TASK",
        help="End the prompts of the final measurements in questions, and void a server that answers worse "
        "than the model itself: past-tense, recall (of what stands at the far end of the prompt), or "
        "mmlu-pro:FILE (its test set as JSON lines; needs the torch engine).",
    ),
]

LengthOption = Annotated[
    Literal["forced", "natural"],
    typer.Option(
        "--length",
        help="Answers of exactly the tokens asked for, or as long as the model makes them (what an engine "
        "needs that cannot force a length); results of the two are never compared.",
    ),
]

DEV_SEED, EVAL_SEED = 21, 1337


def opened_model(model: str, profile_name: str) -> Model:
    """The model of `--model`, with the context of the profile. Raises ModelError, ScenarioError."""
    from scenarios import models
    from scenarios.profiles import profile
    from studies.terminal import steps

    max_length = profile(profile_name).max_length
    path = Path(model)
    if not path.is_dir() and model in models.names():
        path = models.fetch(model, steps())
    return models.open_model(path, max_length=max_length)


def sized(profile_name: str, length: str) -> str:
    """The profile's name with `--length` in it."""
    from scenarios.profiles import NATURAL

    natural = length == "natural" and not profile_name.endswith(NATURAL)
    return profile_name + NATURAL if natural else profile_name


def check_length(engines: tuple[str, ...], profile_name: str, model: Model) -> None:
    """Whether these engines and this model can do the profile's lengths. Raises BadInput."""
    from engines.registry import engine
    from scenarios.profiles import NATURAL

    if profile_name.endswith(NATURAL):
        if model.weights == "dummy":
            raise BadInput(
                "--length natural: random weights never end an answer; leave it out for this model"
            )
        return
    for name in engines:
        if not engine(name).capabilities.force_length:
            raise BadInput(f"{name} cannot force an answer's length: add --length natural, for all engines")


def engine_names(text: str) -> tuple[str, ...]:
    """Engines of `--engine`, checked. Raises UnknownEngine, BadInput."""
    from engines.registry import engine

    names = tuple(dict.fromkeys(name.strip() for name in text.split(",") if name.strip()))
    if not names:
        raise BadInput("no engine is named: say --engine vllm")
    for name in names:
        engine(name)
    return names


def text_source(text: str | None, profile_name: str) -> str:
    """The text source of `--text`, or the profile's own; fetched, so that no budget pays for it.

    Raises TextError.
    """
    from scenarios.profiles import profile
    from scenarios.texts import documents
    from studies.terminal import steps

    return documents(text or profile(profile_name).text, steps()).source


def quality_task(task: str | None) -> str | None:
    """The task of `--quality`, its file by its full path. Raises TaskError."""
    from scenarios.quality.tasks import named

    return None if task is None else named(task)


def check_scenario(letter: str, profile_name: str) -> str:
    """The scenario's letter, upper case. Raises ScenarioError, which lists the choices."""
    from scenarios.profiles import scenario

    return scenario(profile_name, letter.upper()).letter


def gpus(indices: list[int] | None) -> tuple[Device, ...] | None:
    """The devices of `--device`, None where none is named. Raises BadInput."""
    if not indices:
        return None
    from engines.host import this_host

    there = this_host().devices
    for index in indices:
        if index >= len(there) or there[index].kind == "cpu":
            seen = f"{len(there)} from 0 on" if there[0].kind == "cuda" else "none"
            raise BadInput(f"--device {index}: this machine shows {seen} (CUDA_VISIBLE_DEVICES)")
    return tuple(there[index] for index in dict.fromkeys(indices))


def new_run(run: Path | None, resume: bool, *parts: str) -> Path:
    """The run directory: `--run`, or a new one below runs/. Raises BadInput for --resume without --run."""
    if run is not None:
        return run
    if resume:
        raise BadInput("--resume needs the run: add --run DIR (the directory that the first start named)")
    from datetime import datetime

    name = "-".join([datetime.now().strftime("%Y%m%d-%H%M%S"), *parts])
    return Path("runs") / name.replace(":", "-").replace(",", "+")
