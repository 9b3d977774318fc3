"""A group of commands: without one of them it prints its help."""

from __future__ import annotations

from importlib.metadata import version
from typing import Annotated

import typer

DISTRIBUTION = "serving-ceiling"


def top(help_text: str) -> typer.Typer:
    """The Typer app for `ceiling` itself, which also says its version."""
    app = _app()

    @app.callback(invoke_without_command=True, help=help_text)
    def bare(
        context: typer.Context,
        asked: Annotated[bool, typer.Option("--version", help="Print the version and end.")] = False,
    ) -> None:
        if asked:
            print(f"ceiling {version(DISTRIBUTION)}")
            raise typer.Exit
        if context.invoked_subcommand is None:
            print(context.get_help())

    return app


def group(help_text: str) -> typer.Typer:
    """A Typer app for one of its groups."""
    app = _app()

    @app.callback(invoke_without_command=True, help=help_text)
    def bare(context: typer.Context) -> None:
        if context.invoked_subcommand is None:
            print(context.get_help())

    return app


def _app() -> typer.Typer:
    return typer.Typer(add_completion=False, pretty_exceptions_enable=False, rich_markup_mode=None)
