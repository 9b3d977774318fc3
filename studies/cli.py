"""The command line `ceiling`: what it offers, and how it ends (0 done, 1 nothing valid, 2 bad input)."""

from __future__ import annotations

import os
import signal
import sys

import typer

from studies.commands import (
    agent,
    baseline,
    bundle,
    compare,
    demo,
    doctor,
    engines,
    models,
    report,
    score,
    search,
    study,
)
from studies.commands.group import top
from studies.errors import is_expected

BAD_INPUT = 2
INTERRUPTED = 130

app = top(
    "How fast an LLM server can be made by search alone, and how close coding agents come.\n\n"
    "Start with `ceiling demo`, or `ceiling doctor` to see what this machine has."
)
for module in (demo, doctor):
    module.register(app)
app.add_typer(engines.app, name="engines")
app.add_typer(models.app, name="models")
for module in (score, baseline, search, agent):
    module.register(app)
app.add_typer(agent.agents, name="agents")
for module in (study, compare, report, bundle):
    module.register(app)


def main() -> None:
    """Run the command line; expected errors become one line on stderr and exit 2.

    A SIGTERM ends it as Ctrl-C does: servers go down, nothing unfinished stays. So does a SIGINT that a shell
    has it ignore, as it does for what runs in the background.
    """
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.default_int_handler)
    sys.exit(run(sys.argv[1:]))


def run(arguments: list[str]) -> int:
    """Run one command line and give its exit status."""
    try:
        status = app(arguments, prog_name="ceiling", standalone_mode=False)
    except typer.TyperException as error:
        return _say(error.format_message() + _hint(error))
    except (typer.Abort, KeyboardInterrupt):
        print("interrupted: servers are down, the ledger is kept", file=sys.stderr)
        return INTERRUPTED
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1
    except Exception as error:
        if not is_expected(error):
            raise
        return _say(str(error))
    return status if isinstance(status, int) else 0


def _hint(error: typer.TyperException) -> str:
    """Where to look: the commands there are, or the help of the command that was named."""
    context: typer.Context | None = getattr(error, "ctx", None)
    if context is None:
        return ""
    commands = getattr(context.command, "commands", {})
    if commands:
        return f" Choose one of {', '.join(commands)}."
    return f" See `{context.command_path} --help`."


def _say(message: str) -> int:
    """One red line; several lines of a message are joined."""
    line = " ".join(part.strip() for part in message.splitlines() if part.strip())
    red, plain = ("\033[31m", "\033[0m") if sys.stderr.isatty() and "NO_COLOR" not in os.environ else ("", "")
    print(f"{red}error: {line}{plain}", file=sys.stderr)
    return BAD_INPUT
