"""A group of commands: without one of them it prints its help."""

from __future__ import annotations

import typer


def group(help_text: str) -> typer.Typer:
    """A Typer app for `ceiling` or one of its groups."""
    app = typer.Typer(add_completion=False, pretty_exceptions_enable=False, rich_markup_mode=None)

    @app.callback(invoke_without_command=True, help=help_text)
    def bare(context: typer.Context) -> None:
        if context.invoked_subcommand is None:
            print(context.get_help())

    return app
