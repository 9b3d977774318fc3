"""`ceiling bundle`: everything that a host needs that reaches nothing."""

from __future__ import annotations

import platform
import sys
from pathlib import Path
from typing import Annotated, Literal

import typer

from studies.commands.options import JsonOption
from studies.errors import BadInput

HERE = ".".join(map(str, sys.version_info[:2]))


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command(context_settings={"ignore_unknown_options": True})(bundle)


def bundle(
    place: Annotated[Path, typer.Argument(metavar="DIR", help="A new directory for the bundle.")],
    engine: Annotated[
        list[str] | None, typer.Option("--engine", metavar="NAME", help="Engine to pack (repeat it).")
    ] = None,
    pins: Annotated[
        list[str] | None,
        typer.Option(
            "--pins",
            metavar="NAME=FILE",
            help="Pins of an engine, or of harness: exactly these wheels, nothing that they depend on.",
        ),
    ] = None,
    overlay: Annotated[
        list[str] | None,
        typer.Option(
            "--overlay",
            metavar="NAME=DIR",
            help="Files to lay over an engine's packages, such as kernels built ahead (docs/offline.md).",
        ),
    ] = None,
    model: Annotated[
        list[str] | None,
        typer.Option("--model", metavar="DIR", help="Model directory, or a fetchable name (repeat it)."),
    ] = None,
    shapes_only: Annotated[
        bool, typer.Option("--shapes-only", help="Leave the models' weights out: random ones are loaded.")
    ] = False,
    text: Annotated[
        Literal["sotu", "none"], typer.Option("--text", help="Text of the prompts to pack.")
    ] = "sotu",
    part_size: Annotated[str, typer.Option("--part-size", help="Size of a part at most.")] = "60M",
    python: Annotated[str, typer.Option("--python", help="Python of the other host.")] = HERE,
    arch: Annotated[str, typer.Option("--arch", help="Its processor.")] = platform.machine(),
    glibc: Annotated[str, typer.Option("--glibc", help="Its C library's version.")] = "2.35",
    harness: Annotated[
        bool, typer.Option("--harness/--no-harness", help="Pack this program and what it needs.")
    ] = True,
    pip_args: Annotated[list[str] | None, typer.Argument(help="Options for pip download, after --.")] = None,
    json: JsonOption = None,
) -> int:
    """Pack harness, engines and models for a host without a network.

    Parts of at most a size, with checksums, and unpack.py, which needs nothing but Python and pip there.

    Example: ceiling bundle out --engine vllm --model smollm2-135m --python 3.12 --part-size 60M

    Example: ceiling bundle out --engine vllm --pins vllm=vllm.txt --model ./my-model -- --find-links ./wheels
    """
    from studies.bundle.pack import Bundle, pack
    from studies.bundle.parts import size
    from studies.bundle.wheels import Target
    from studies.terminal import out, steps, write_json

    asked = Bundle(
        engines=tuple(dict.fromkeys(engine or ())),
        target=Target(python, arch, _minor(glibc)),
        part_size=size(part_size),
        pins=dict(_named("--pins", item, "vllm=vllm.txt") for item in pins or ()),
        overlays=dict(_named("--overlay", item, "vllm=kernels/") for item in overlay or ()),
        models=tuple(_model(name) for name in model or ()),
        shapes_only=shapes_only,
        texts=_texts(text),
        harness=harness,
        pip_args=tuple(pip_args or ()),
    )
    manifest = pack(asked, place, steps())
    total = sum(part["bytes"] for part in manifest["parts"])
    if str(json) != "-":
        out().print(
            f"{len(manifest['parts'])} parts of at most {part_size}, {total / 1e6:,.1f} MB, in {place}\n"
            f"carry all of it, then there: python3 unpack.py TARGET",
            soft_wrap=True,
        )
    write_json(json, manifest)
    return 0


def _minor(glibc: str) -> int:
    """`35` of 2.35. Raises BadInput."""
    major, _, minor = glibc.partition(".")
    if major != "2" or not minor.isdigit():
        raise BadInput(f"--glibc {glibc}: write it as 2.35 (ldd --version says it there)")
    return int(minor)


def _named(option: str, item: str, such_as: str) -> tuple[str, Path]:
    name, equals, path = item.partition("=")
    if not name or not equals:
        raise BadInput(f"{option} {item}: write it as NAME=PATH, such as {such_as}")
    return name, Path(path)


def _model(name: str) -> Path:
    """The directory of a model. Raises ModelError."""
    from scenarios import models
    from studies.terminal import steps

    path = Path(name)
    if not path.is_dir() and name in models.names():
        path = models.fetch(name, steps())
    return models.open_model(path).path


def _texts(text: str) -> tuple[str, ...]:
    """Text sources to pack, fetched if need be. Raises TextError."""
    if text == "none":
        return ()
    from scenarios.texts import documents
    from studies.terminal import steps

    return (documents(text, steps()).source,)
