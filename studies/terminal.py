"""The two places where things are said: results on stdout, progress on stderr."""

from __future__ import annotations

import json
import os
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, TextIO

from rich.console import Console

from studies.durations import clock

PIPE_WIDTH = 160
"""Columns of a table that goes into a file or a pipe."""


def _console(stream: TextIO, *, stderr: bool) -> Console:
    width = None if stream.isatty() or "COLUMNS" in os.environ else PIPE_WIDTH
    return Console(stderr=stderr, width=width, highlight=False)


def out() -> Console:
    """The console of results."""
    return _console(sys.stdout, stderr=False)


def err() -> Console:
    """The console of progress."""
    return _console(sys.stderr, stderr=True)


def steps() -> Callable[[str], None]:
    """A function that says a line of progress on stderr, with the time since this call before it."""
    console = err()
    started = time.monotonic()

    def say(line: str) -> None:
        elapsed = clock(time.monotonic() - started)
        console.print(f"[dim]{elapsed}[/dim] ", end="")
        console.print(line, markup=False, soft_wrap=True)

    return say


def write_json(path: Path | None, data: Any) -> None:
    """Write a result for programs; None writes nothing, `-` goes to stdout."""
    if path is None:
        return
    text = json.dumps(data, indent=2, default=str, allow_nan=False) + "\n"
    if str(path) == "-":
        sys.stdout.write(text)
    else:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")
