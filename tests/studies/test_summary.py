"""The table at the end of a run."""

from __future__ import annotations

import io
from pathlib import Path

from rich.console import Console

from studies import summary
from studies.record import open_run
from tests.studies.conftest import MakeRun


def printed(path: Path) -> str:
    console = Console(file=io.StringIO(), width=160)
    assert isinstance(console.file, io.StringIO)
    summary.show(console, open_run(path))
    return console.file.getvalue()


def test_a_search_that_submits_nothing_says_why(make_run: MakeRun) -> None:
    path = make_run("a", submitted=None)
    ledger = path / "ledger.jsonl"
    ledger.write_text(ledger.read_text().replace('"submitted":', '"nothing_submitted": "so", "submitted":'))
    assert "nothing submitted: so" in printed(path)


def test_what_a_finished_search_says(make_run: MakeRun) -> None:
    path = make_run("a", scores=(2.0, None, 3.0), baseline=1.0, submitted=3.2, ratio=1.6)
    text = printed(path)
    words = " ".join(text.split())
    assert "best found vllm: max-num-seqs=16 3 3.00x 1.50x (1.37 to 1.64)" in words
    assert "default (held out) defaults 2 2.00x 1.00x" in words
    assert "submitted vllm: max-num-seqs=8 3.2 3.20x 1.60x" in words
    assert "vllm serve --max-num-seqs 16" in text.splitlines(), "one line to copy"
    assert "2 complete, 1 crashed" in words
    assert f"ceiling report {path} --html report.html" in text
    assert "geometric mean of req/s" in words
    assert "resume" not in text


def test_an_interrupted_run_says_how_to_go_on(make_run: MakeRun) -> None:
    path = make_run("a", end="interrupted")
    text = printed(path)
    assert f"--run {path} --resume" in text
    assert "best found" in text and "3" in text


def test_nothing_valid_is_said(make_run: MakeRun) -> None:
    assert "no valid measurement" in printed(make_run("a", scores=(None,), submitted=None))


def test_a_submission_that_does_not_count_says_why(make_run: MakeRun) -> None:
    text = printed(make_run("a", kind="agent", method="agent:x", submitted="unreachable: nothing answered"))
    assert "submitted counts 1.00x: unreachable: nothing answered" in text


def test_simulation_is_marked_first(make_run: MakeRun) -> None:
    text = printed(make_run("a", engines=("simulated",), baseline=None))
    assert text.startswith("SIMULATION")


def test_json_of_a_summary_has_the_speedups(make_run: MakeRun) -> None:
    run = open_run(make_run("a", scores=(2.0, 3.0), baseline=1.0, submitted=3.2, ratio=1.6))
    data = summary.speedups(run)
    assert data["found"]["over_torch"]["value"] == 3.0
    low, high = data["found"]["over_default"]["interval"]
    assert low < 1.5 < high
    assert data["submitted"]["over_default"]["value"] == 1.6


def test_a_part_of_the_scenario_is_not_held_against_the_whole_baseline(make_run: MakeRun) -> None:
    """Half the requests score 2.0 and 3.0 where all of them score 6.0 and 9.0; torch scores 4.0 on all."""
    run = open_run(make_run("a", scores=(2.0, 3.0), share=0.5, submitted=9.0, ratio=1.5, baseline=4.0))
    data = summary.speedups(run)
    assert data["submitted"]["over_torch"]["value"] == 9.0 / 4.0
    assert data["found"]["over_torch"] == {"value": 3.0 / 2.0 * 6.0 / 4.0, "interval": None}
    assert data["default"]["over_torch"] == {"value": 6.0 / 4.0, "interval": None}
