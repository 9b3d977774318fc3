"""The live view, fed by events as a ledger gives them."""

from __future__ import annotations

import io

import pytest
from rich.console import Console

from studies.live import LiveView, panel, plain_line
from studies.progress import Progress

RUN = {
    "event": "run",
    "kind": "search",
    "method": "tpe",
    "engines": ["vllm"],
    "scenario": "C",
    "profile": "cpu",
    "budget": 600.0,
    "devices": 1,
}
CONFIG = {"max-num-seqs": 128, "enforce-eager": True, "enable-prefix-caching": False}
TRIAL = {"trial": 1, "attempt": 0, "engine": "vllm", "config": CONFIG, "origin": "planner"}


def progress(*events: dict[str, object]) -> Progress:
    made = Progress()
    for event in (RUN, {"event": "meter", "segment": 0, "devices": 1, "gpu_seconds": 150.0}, *events):
        made.see(event)
    return made


def drawn(made: Progress, width: int) -> str:
    console = Console(file=io.StringIO(), width=width, force_terminal=True, color_system=None)
    console.print(panel(made, 65.0))
    assert isinstance(console.file, io.StringIO)
    return console.file.getvalue()


@pytest.mark.parametrize("width", [60, 80, 160])
def test_every_line_fits_and_nothing_is_lost(width: int) -> None:
    made = progress(
        {
            "event": "trial",
            **TRIAL,
            "trial": 0,
            "config": {},
            "origin": "default",
            "state": "complete",
            "score": 2.0,
        },
        {"event": "trial", **TRIAL, "trial": 2, "state": "complete", "score": 3.0},
        {"event": "trial", **TRIAL, "trial": 3, "state": "crashed", "score": None, "crash": "out-of-memory"},
        {"event": "ask", **TRIAL},
        {"event": "phase", "trial": 1, "attempt": 0, "phase": "measuring"},
    )
    text = drawn(made, width)
    assert max(map(len, text.splitlines())) == width
    words = " ".join(text.replace("│", " ").split())
    for part in (
        "2m30s of 10m",
        "7m30s left",
        "#1 vllm measuring",
        "1.50x the default",
        "max-num-seqs=128",
        "no-enable-prefix-caching",
        "2 complete, 1 crashed",
        "1 out-of-memory",
    ):
        assert part in words


def test_the_view_before_anything_happened() -> None:
    assert "nothing right now" in drawn(Progress(), 80)


def test_baseline_and_final_trials_are_no_part_of_the_search() -> None:
    scored = {"event": "trial", **TRIAL, "state": "complete", "score": 9.0}
    made = progress({**scored, "origin": "baseline"}, {**scored, "origin": "final"})
    assert made.best is None and not made.ended


def test_a_resumed_run_goes_on_from_what_it_had_spent() -> None:
    made = Progress()
    for event in (RUN, {"event": "meter", "segment": 0, "devices": 1, "gpu_seconds": 150.0}):
        made.see(event, live=False)
    assert made.spent == 150.0
    made.see({"event": "meter", "segment": 1, "devices": 1, "gpu_seconds": 10.0})
    assert 160.0 <= made.spent < 161.0
    assert made.wall_left is not None and 439.0 < made.wall_left <= 440.0


def test_plain_lines_where_there_is_no_terminal() -> None:
    console = Console(file=io.StringIO(), width=80)
    with LiveView(console=console) as view:
        view({**RUN, "at": 1.0})
        view({"event": "trial", **TRIAL, "state": "complete", "score": 2.0, "at": 2.0})
        view({"event": "ask", **TRIAL})
        view({"event": "phase", "trial": 1, "phase": "starting"})
        view({"event": "phase", "trial": 1, "phase": "measuring", "traffic": "burst"})
        view({"event": "phase", "phase": "measuring", "traffic": "burst"})
    assert isinstance(console.file, io.StringIO)
    assert console.file.getvalue().splitlines() == [
        "00:00 trial 1 (planner) vllm: max-num-seqs=128 enforce-eager no-enable-prefix-caching",
        "00:00 trial 1 starting",
        "00:00 measuring burst",
    ], "a resumed run's past is no news"


def test_a_single_scoring_shows_its_phase_and_no_budget() -> None:
    made = Progress("scoring http://127.0.0.1:1")
    made.see({"event": "phase", "phase": "measuring", "traffic": "poisson"})
    text = drawn(made, 80)
    assert "measuring poisson" in text and "scoring http://127.0.0.1:1" in text
    assert "budget" not in text and "best" not in text


def test_the_baseline_of_a_search_is_shown_and_then_gone() -> None:
    made = progress({"event": "phase", "trial": 0, "attempt": 0, "phase": "starting"})
    assert "starting" in drawn(made, 80)
    made.see({"event": "measurement", "trial": None, "origin": "baseline"})
    assert not made.flying


@pytest.mark.parametrize(
    ("event", "line"),
    [
        ({"event": "phase", **TRIAL, "phase": "starting"}, "trial 1 starting"),
        (
            {"event": "trial", **TRIAL, "state": "complete", "score": 1.23456, "gpu_seconds": 61.2},
            "trial 1 complete: score 1.235 (61 GPU-s)",
        ),
        (
            {
                "event": "trial",
                **TRIAL,
                "state": "crashed",
                "crash": "port",
                "detail": "in use",
                "gpu_seconds": 3,
            },
            "trial 1 crashed (port): in use (3 GPU-s)",
        ),
        (
            {"event": "lost", "trial": 4, "why": "worker died"},
            "trial 4 was lost (worker died); it will run again",
        ),
        ({"event": "end", "reason": "budget"}, "the run ended: budget"),
        ({"event": "meter", "segment": 0}, None),
    ],
)
def test_each_event_in_one_line(event: dict[str, object], line: str | None) -> None:
    assert plain_line(event) == line
