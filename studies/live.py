"""The live view of a run on stderr: a panel on a terminal, plain lines elsewhere. Fed by ledger events."""

from __future__ import annotations

import threading
import time
from collections.abc import Mapping
from contextlib import ExitStack
from types import TracebackType
from typing import Any, Self

from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.panel import Panel
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from studies.durations import clock, short
from studies.progress import InFlight, Progress, config_words, failure_class, phase_words
from studies.terminal import err

Event = Mapping[str, Any]


class LiveView:
    """An observer of ledger events, shown while the context is open.

    Events from before it was made are a resumed run's past: taken in, and not shown as news.
    """

    def __init__(self, title: str = "", console: Console | None = None) -> None:
        self._console = console or err()
        self._progress = Progress(title)
        self._made = time.time()
        self._mutex = threading.Lock()
        self._stack = ExitStack()
        self._started = time.monotonic()

    def __call__(self, event: Event) -> None:
        """Take in one event; safe from any thread."""
        live = event.get("at", self._made) >= self._made
        with self._mutex:
            self._progress.see(event, live=live)
        if live and not self._console.is_terminal and (line := plain_line(event)):
            elapsed = clock(time.monotonic() - self._started)
            self._console.print(f"{elapsed} {line}", markup=False, soft_wrap=True)

    def __enter__(self) -> Self:
        if self._console.is_terminal:
            live = Live(
                console=self._console, get_renderable=self._render, refresh_per_second=4, transient=True
            )
            self._stack.enter_context(live)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stack.close()

    def _render(self) -> RenderableType:
        with self._mutex:
            return panel(self._progress, time.monotonic() - self._started)


def panel(progress: Progress, elapsed: float) -> Panel:
    """The view of one moment; fits any width from 60 columns on."""
    grid = Table.grid(padding=(0, 1), expand=True)
    grid.add_column(style="dim", no_wrap=True, width=9)
    grid.add_column(ratio=1, overflow="fold")
    if progress.begun:
        grid.add_row("budget", _budget(progress))
    for flight in progress.flying.values() or [None]:
        grid.add_row("in flight", _flight(flight))
    if progress.begun:
        grid.add_row("best", _best(progress))
        grid.add_row("trials", _counts(progress))
    title = progress.title or "getting ready"
    return Panel(grid, title=title, title_align="left", subtitle=clock(elapsed), subtitle_align="right")


def _budget(progress: Progress) -> RenderableType:
    if progress.budget is None:
        return Text(f"{short(progress.spent)} of GPU time, no limit")
    words = f"{short(progress.spent)} of {short(progress.budget)}"
    left = Text(f"{words}, {short(progress.wall_left or 0.0)} left")
    bar = ProgressBar(total=progress.budget, completed=min(progress.spent, progress.budget), width=None)
    row = Table.grid(padding=(0, 1), expand=True)
    row.add_column(ratio=1)
    row.add_column(no_wrap=True, justify="right")
    row.add_row(bar, left)
    return row


def _flight(flight: InFlight | None) -> RenderableType:
    if flight is None:
        return Text("nothing right now", style="dim")
    seconds = short(time.monotonic() - flight.since)
    head = Text.assemble(
        (f"#{flight.number} " if flight.origin else "", "bold"),
        f"{flight.engine} ".lstrip(),
        (f"{flight.phase} {seconds}", "cyan"),
        f" ({flight.origin})" if flight.origin else "",
    )
    return Group(head, Text(config_words(flight.config), style="dim")) if flight.origin else head


def _best(progress: Progress) -> RenderableType:
    best = progress.best
    if best is None:
        return Text("none yet", style="dim")
    over = f", {best.score / progress.default:.2f}x the default" if progress.default else ""
    head = Text.assemble((f"{best.score:.4g}", "bold green"), over, f"  (#{best.trial} {best.engine})")
    return Group(head, Text(config_words(best.config), style="dim"))


def _counts(progress: Progress) -> Text:
    if not progress.ended:
        return Text("none ended yet", style="dim")
    text = Text(", ".join(f"{count} {state}" for state, count in progress.ended.most_common()))
    if progress.failures:
        failures = ", ".join(f"{count} {name}" for name, count in progress.failures.most_common())
        text.append(f"  failures: {failures}", style="red")
    return text


def plain_line(event: Event) -> str | None:
    """One line for a log; None for events that say nothing to a person."""
    match event["event"]:
        case "run":
            budget = f", budget {short(event['budget'])} of GPU time" if event.get("budget") else ""
            return f"{event['kind']} {event['method']}, scenario {event['scenario']}{budget}"
        case "ask":
            words = config_words(event.get("config") or {})
            return f"trial {event['trial']} ({event.get('origin', '')}) {event['engine']}: {words}"
        case "phase":
            return _phase_line(event)
        case "trial":
            return _trial_line(event)
        case "lost":
            return f"trial {event['trial']} was lost ({event.get('why', '')}); it will run again"
        case "note":
            return f"note: {event.get('what', '')}: {event.get('detail', '')}".rstrip(": ")
        case "end":
            return f"the run ended: {event['reason']}"
    return None


def _phase_line(event: Event) -> str | None:
    """A scoring's stretches of load, but of a trial only that it starts and that it is measured."""
    if "trial" not in event:
        return phase_words(event)
    if event["phase"] == "checking":
        return f"trial {event['trial']}: holding its answers against the model, uncharged"
    told = event["phase"] == "starting" or (event["phase"] == "measuring" and not event.get("traffic"))
    return f"trial {event['trial']} {event['phase']}" if told else None


def _trial_line(event: Event) -> str:
    spent = f"{event.get('gpu_seconds', 0.0):.0f} GPU-s"
    if event.get("score") is not None:
        return f"trial {event['trial']} {event['state']}: score {event['score']:.4g} ({spent})"
    detail = f": {event['detail']}" if event.get("detail") else ""
    state = event["state"]
    name = failure_class(event)
    return f"trial {event['trial']} {state}{f' ({name})' if name != state else ''}{detail} ({spent})"
