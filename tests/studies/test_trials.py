"""A run's trials as rows: their order, their ratios, and how they are shown."""

from __future__ import annotations

import json
import shutil
from io import StringIO
from pathlib import Path

import pytest
from rich.console import Console
from typer.testing import CliRunner

from studies.cli import app
from studies.compare import compare, load
from studies.record import open_run
from studies.report.page import render
from studies.silent import silence_words
from studies.trials import letters, show_trials, tried
from tests.studies.conftest import MakeRun

RESULTS = Path(__file__).parents[2] / "studies" / "results"


def test_the_best_is_first_and_what_failed_last(make_run: MakeRun) -> None:
    rows = tried(open_run(make_run("a", scores=(2.0, None, 3.0, 1.0))))
    assert [row.number for row in rows] == [2, 0, 3, 1]
    assert [row.readings["C"].over_default for row in rows[:3]] == [1.5, 1.0, 0.5]
    assert rows[3].readings == {}
    assert (rows[3].state, rows[3].why) == ("crashed", "out-of-memory: no room")
    assert (rows[0].config, rows[1].config, rows[0].start) == ("max-num-seqs=16", "defaults", 6.0)


def test_held_out_readings_come_first_and_over_the_default_on_the_same_requests() -> None:
    rows = tried(open_run(RESULTS / "h200-joint-8m" / "D"))
    assert [(row.number, row.origin) for row in rows[:2]] == [(5, "final"), (4, "final")]
    assert rows[0].readings["D"].over_default == rows[0].readings["D"].score / rows[1].readings["D"].score
    engines = [row.engine for row in rows if row.origin == "default"]
    assert sorted(engines) == ["sglang", "vllm"]


def test_a_survey_has_a_column_a_scenario() -> None:
    run = open_run(RESULTS / "h200-survey" / "1")
    assert letters(run) == ("C", "B")
    best = tried(run)[0]
    assert best.origin == "expert" and set(best.readings) == {"B", "C"}
    page = render(compare(load([run.path])), trials=True)
    assert "34 trials" in page and "details open" in page
    assert page.count("<tr") > 34


def test_a_measurement_that_was_mostly_silence_says_so(tmp_path: Path) -> None:
    copied = shutil.copytree(RESULTS / "h200-survey" / "1", tmp_path / "run") / "ledger.jsonl"
    events = [json.loads(line) for line in copied.read_text().splitlines()]
    (first, *_) = (one for one in events if one["event"] == "measurement" and one["scenario"] == "C")
    first["metrics"] |= {"constant.wall_s": 18.5, "constant.silence_s": 15.2, "burst.silence_s": 0.4}
    copied.write_text("".join(f"{json.dumps(one)}\n" for one in events))
    words = "nobody was answered for 15.2 of 18.5 s (constant): was something compiled meanwhile?"
    run = open_run(copied.parent)
    assert [row.silent for row in tried(run) if row.silent] == [f"C: {words}"]
    console = Console(width=200, record=True, file=StringIO())
    show_trials(console, run)
    assert words in console.export_text()
    assert words in render(compare(load([run.path])), trials=True)


@pytest.mark.parametrize(("silent", "wall"), [(0.9, 1.0), (4.0, 9.0)])
def test_an_everyday_silence_is_not_told_of(silent: float, wall: float) -> None:
    assert silence_words({"one.silence_s": silent, "one.wall_s": wall}) is None


def test_only_a_report_s_page_has_them(make_run: MakeRun, tmp_path: Path) -> None:
    make_run("a")
    tables = compare(load([tmp_path / "runs"]))
    assert "<summary>2 trials" in render(tables, trials=True)
    assert "<summary>2 trials" not in render(tables)


def test_an_interrupted_run_is_shown_too(make_run: MakeRun) -> None:
    path = make_run("a", end="interrupted", scores=(2.0, 3.0))
    done = CliRunner().invoke(app, ["report", str(path)])
    assert done.exit_code == 0
    assert "the same command with --run" in done.output
    assert "max-num-seqs=8" in done.output and "1.50x" in done.output


def test_several_runs_are_compared_and_each_shown(make_run: MakeRun, tmp_path: Path) -> None:
    for name, method in (("a", "tpe"), ("b", "random")):
        make_run(name, method=method, submitted=2.9)
    done = CliRunner().invoke(app, ["report", str(tmp_path / "runs")])
    assert done.exit_code == 0
    assert "Leaderboard" in done.output
    assert done.output.count("What was tried") == 2


def test_it_fits_a_narrow_terminal() -> None:
    console = Console(width=80, record=True, file=StringIO())
    show_trials(console, open_run(RESULTS / "h200-survey" / "1"))
    text = console.export_text()
    assert max(len(line) for line in text.splitlines()) <= 80
    assert "quantization=fp8" in text and "crashed: died-after-ready" in text
