"""GPU figures and the roofline, wherever a result is shown."""

from __future__ import annotations

import csv
import io
import json
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from scenarios.ledger import Ledger
from scenarios.measurement import Measurement
from studies import compare_table, measured, summary
from studies.compare import compare, load
from studies.compare_data import as_json, write_csv
from studies.hardware import roofline_words, use_words
from studies.record import open_run
from studies.report.page import render
from tests.studies.conftest import MakeRun, measurement

METRICS = {
    "of_roofline": 0.314,
    "memory_peak_bytes": 71.2e9,
    "power_mean_w": 412.0,
    "power_max_w": 655.0,
    "energy_j": 8123.0,
    "energy_j_per_output_token": 0.3307,
}
PEAKS = {"roofline": {"bandwidth": 3.352e12, "flops": 989e12, "source": "data sheet"}}
HELD = {
    "devices": ["GPU-a"],
    "memory_before": [0.6e9],
    "memory_after": [0.61e9],
    "others_before": [[{"pid": 7, "memory": None}]],
    "others_after": [[]],
}
ROOF = "31 % of the roofline (3.35 TB/s, 989 TFLOP/s bf16: data sheet)"
USE = "GPU while measured: 71.2 GB at most, 412 W on average, 655 W at most, 8.12 kJ, 0.331 J an output token"


@pytest.fixture
def run(make_run: MakeRun) -> Path:
    return make_run("a", metrics=METRICS, provenance=PEAKS, held=HELD, submitted=3.0)


def printed(show: Any, *what: Any) -> str:
    console = Console(file=io.StringIO(), width=160)
    assert isinstance(console.file, io.StringIO)
    show(console, *what)
    return console.file.getvalue()


def test_one_measurement_says_them() -> None:
    data = measurement(3.0, "C", 21)
    data["metrics"] |= METRICS
    data["provenance"] |= PEAKS
    lines = printed(measured.show, Measurement.from_json(data)).splitlines()
    assert ROOF in lines and USE in lines


def test_a_run_says_them_of_its_best_server(run: Path) -> None:
    text = printed(summary.show, open_run(run))
    assert ROOF in text.splitlines() and USE in text.splitlines()
    assert "of roofline" in text and "31 %" in text
    assert (
        "GPU memory over 2 trials: 0.60 GB before the launch at most, 0.61 GB after; "
        "other processes computed there before 2 of them"
    ) in text
    data = summary.speedups(open_run(run))
    assert data["submitted"]["of_roofline"] == data["default"]["of_roofline"] == 0.314


def test_the_end_of_a_run_is_told(run: Path) -> None:
    with Ledger.resume(run) as ledger:
        ledger.append("devices", when="end", **HELD)
    assert "0.61 GB after, 0.61 GB when the run ended" in printed(summary.show, open_run(run))


def test_a_comparison_shows_the_fraction(run: Path, tmp_path: Path) -> None:
    tables = compare(load([run]))
    text = printed(compare_table.show, tables, None, False)
    assert "roofline" in text and "31 %" in text
    rows = as_json(tables, None, False)["tables"][0]["leaderboard"]
    assert [row["scenarios"]["C"]["of_roofline"] for row in rows][-1] is None
    assert rows[0]["scenarios"]["C"]["of_roofline"]["mean"] == 0.314
    assert json.dumps(rows)
    write_csv(tmp_path / "t.csv", tables, False)
    with (tmp_path / "t.csv").open() as file:
        assert next(csv.DictReader(file))["of_roofline"] == "0.314"
    assert "<th>Of roofline</th>" in render(tables) and "<td>31 %</td>" in render(tables)


def test_without_gpus_nothing_of_it_is_shown(make_run: MakeRun) -> None:
    path = make_run("b")
    text = printed(summary.show, open_run(path)) + printed(
        compare_table.show, compare(load([path])), None, False
    )
    assert "roofline" not in text and "GPU memory" not in text and "GPU while" not in text
    assert "oofline" not in render(compare(load([path])))


def test_beyond_the_roofline_says_how_that_can_be() -> None:
    words = roofline_words({"of_roofline": 1.2}, PEAKS)
    assert words is not None and words.endswith("over 100 %: quantised weights or speculation")
    assert roofline_words({"of_roofline": 1.2}, {}) is None
    assert use_words({"memory_peak_bytes": 1e9}) == "GPU while measured: 1.0 GB at most"
