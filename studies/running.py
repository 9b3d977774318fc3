"""Start a run, show it while it goes, and read what came of it."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from scenarios import ledger
from scenarios.trial import Observer
from studies.live import LiveView
from studies.record import Run, open_run

Job = Callable[[Observer], object]


def follow(path: Path, job: Job, *, resume: bool) -> Run:
    """Run `job` with a live view fed by its ledger events, then read the run.

    A Ctrl-C ends the job, which tears its servers down; what the ledger holds is read all the same.
    """
    view = LiveView()
    if resume and (path / ledger.FILE).is_file():
        view.replay(ledger.read(path)[0])
    with view:
        try:
            job(view)
        except KeyboardInterrupt:
            if not (path / ledger.FILE).is_file():
                raise
    return open_run(path)


def status(run: Run) -> int:
    """The exit status of a run: 0 with a valid result, 1 without one, 130 when it was interrupted."""
    if run.ended is None or run.ended == "interrupted":
        return 130
    return 0 if run.result.get("found") else 1
