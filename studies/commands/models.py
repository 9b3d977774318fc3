"""`ceiling models`: models that can be fetched without a hub."""

from __future__ import annotations

from typing import Annotated

import typer

from studies.commands.group import group

app = group("Fetch a small model.")


@app.command()
def fetch(
    name: Annotated[str, typer.Argument(help="smollm2-135m, or mistral-7b-shapes (no weights).")],
) -> int:
    """Fetch a model into the cache, check its hash, and print its directory.

    Example: ceiling models fetch smollm2-135m
    """
    from scenarios import models
    from studies.terminal import out, steps

    path = models.fetch(name, steps())
    out().print(str(path), soft_wrap=True)
    return 0
