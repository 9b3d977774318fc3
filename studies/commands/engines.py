"""`ceiling engines`: what is installed, and making an engine's own environment."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from studies.commands.group import group
from studies.commands.options import JsonOption, ModelOption, ProfileOption

app = group("List engines, or install one.")


@app.command("list")
def list_engines(json: JsonOption = None) -> int:
    """List the engines and what is installed of them.

    Example: ceiling engines list
    """
    from rich.table import Table

    from studies.terminal import out, write_json

    rows = found()
    if str(json) != "-":
        grid = Table("engine", "installed", "how", "mend")
        for row in rows:
            grid.add_row(row["name"], row["version"] or "no", row["kind"] or "", row["fix"] or "")
        out().print(grid)
    write_json(json, rows)
    return 0


def found() -> list[dict[str, Any]]:
    """Every engine with its version and runtime, or with the command that installs it."""
    from engines.contract import EngineNotInstalled
    from engines.registry import engine, names

    rows: list[dict[str, Any]] = []
    for name in names():
        row: dict[str, Any] = {"name": name, "version": None, "kind": None, "program": None, "fix": None}
        try:
            runtime = engine(name).runtime()
        except EngineNotInstalled as error:
            row["fix"] = str(error)
        else:
            row |= {"version": runtime.version, "kind": runtime.kind, "program": runtime.place}
        rows.append(row)
    return rows


@app.command()
def add(
    name: Annotated[str, typer.Argument(help="Engine: tgi, vllm or sglang.")],
    container: Annotated[
        str, typer.Option("--container", help="Image that holds it; none: no longer in one.", metavar="IMAGE")
    ],
    tool: Annotated[
        str | None, typer.Option("--tool", help="docker, podman or apptainer. Default: the first here.")
    ] = None,
) -> int:
    """Have an engine run in a container from now on.

    The image is asked for the engine's version, and fetched for that if it is not here.

    Example: ceiling engines add tgi --container ghcr.io/huggingface/text-generation-inference:3.3.4

    Example: ceiling engines add tgi --container none
    """
    from engines import runtime
    from studies.terminal import out, steps

    if container == "none":
        there = runtime.forget(name)
        out().print(f"{name} runs in no container" + (" any more" if there else ""))
        return 0
    made = runtime.add(name, container, tool=tool, echo=steps())
    out().print(f"{name} {made.version} is ready ({made.place})", soft_wrap=True)
    return 0


@app.command(context_settings={"ignore_unknown_options": True})
def install(
    name: Annotated[str, typer.Argument(help="Engine, with a version if wanted: vllm or vllm==0.24.0.")],
    pip_args: Annotated[list[str] | None, typer.Argument(help="Options for pip, after --.")] = None,
    cpu: Annotated[bool, typer.Option("--cpu", help="The build for machines without a GPU.")] = False,
) -> int:
    """Make an environment of its own for an engine (pip's own configuration holds).

    Example: ceiling engines install vllm --cpu

    Example: ceiling engines install vllm==0.24.0 -- --find-links ./wheels
    """
    from engines.install import install as make
    from studies.terminal import out, steps

    engine, _, version = name.partition("==")
    runtime = make(engine, version=version or None, cpu=cpu, pip_args=tuple(pip_args or ()), echo=steps())
    out().print(f"{engine} {runtime.version} is ready ({runtime.program[0]})", soft_wrap=True)
    return 0


@app.command()
def check(
    name: Annotated[str, typer.Argument(help="Engine that is installed here.")],
    model: ModelOption,
    profile: ProfileOption = "cpu",
    json: JsonOption = None,
) -> int:
    """Start an engine's default once, and end it: does it work here, and how long does it take?

    A first start builds kernels and fills caches for minutes; after this one, no budget pays for that.

    Example: ceiling engines check vllm --model smollm2-135m
    """
    from engines.registry import engine
    from studies.commands.options import opened_model
    from studies.start_check import check as checked
    from studies.terminal import out, steps, write_json

    chosen, opened = engine(name), opened_model(model, profile)
    steps()(f"starting {name} {chosen.runtime().version} with {opened.name}")
    found = checked(chosen, opened)
    if str(json) != "-":
        out().print(found.words, markup=False, soft_wrap=True)
    write_json(json, found.to_json())
    return 1 if found.crash else 0
