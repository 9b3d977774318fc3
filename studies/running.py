"""Start a run, show it while it goes, and read what came of it."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from scenarios import ledger
from scenarios.trial import Observer
from studies.live import Event, LiveView
from studies.record import Run, open_run

if TYPE_CHECKING:
    from agents import AgentSpec
    from search.spec import SearchSpec

INTERRUPTED = 130


def run_search(spec: SearchSpec, path: Path, *, resume: bool = False, address: str | None = None) -> Run:
    """Search with a live view, then read the run. Raises what `search` raises for bad input."""
    from search.search import search

    return _follow(
        path, lambda observer: search(spec, path, resume=resume, observer=observer, address=address)
    )


def run_agent(spec: AgentSpec, path: Path, *, resume: bool = False) -> Run:
    """Run an agent with a live view, then read the run. Raises what `agents` raises for bad input."""
    from agents import run_agent as run

    return _follow(path, lambda observer: run(spec, path, resume=resume, observer=_CaughtUp(path, observer)))


def _follow(path: Path, job: Callable[[Observer], object]) -> Run:
    """A Ctrl-C ends the job, which tears its servers down; what the ledger holds is read all the same."""
    with LiveView() as view:
        try:
            job(view)
        except KeyboardInterrupt:
            if not (path / ledger.FILE).is_file():
                raise
    return open_run(path)


class _CaughtUp:
    """Gives an observer what the ledger held before the first event that it was told of."""

    def __init__(self, path: Path, observer: Observer) -> None:
        self._path = path
        self._observer = observer
        self._behind = True

    def __call__(self, event: Event) -> None:
        if self._behind and (self._path / ledger.FILE).is_file():
            self._behind = False
            for earlier in ledger.read(self._path)[0]:
                self._observer(earlier)
        else:
            self._observer(event)


def status(run: Run) -> int:
    """The exit status of a run: 0 with a valid result, 1 without one, 130 when it was interrupted."""
    if run.ended is None or run.ended == "interrupted":
        return INTERRUPTED
    submitted = run.result.get("submitted") or {}
    return 0 if run.result.get("found") or submitted.get("valid") else 1
