"""What tables say of submitted servers' answers: whose they are, and how good."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from scenarios.quality.gate import Paired
from studies import compare_data, compare_table, summary
from studies.checked import Checked, checked
from studies.compare import Table, compare, load
from studies.record import open_run
from studies.report.page import render
from tests.studies.conftest import MakeRun

OWN = {"verdict": "from the model", "agreement": 0.98}
PASSED = {"task": "past-tense", "verdict": "passed", **Paired(50, 4, 3, 39).to_json()}
FAILED = {"task": "mmlu-pro:/x/y.jsonl", "verdict": "failed", **Paired(30, 20, 1, 45).to_json(0.95)}
GATED = {"spec": {"quality": "past-tense"}}


def reason(code: str) -> dict[str, Any]:
    return {"code": code, "detail": "made up", "evidence": {}}


@pytest.mark.parametrize(
    ("told", "header", "found"),
    [
        ({"text": OWN}, {}, Checked("from the model")),
        ({"text": {"verdict": "not from the model"}}, {}, Checked("not from the model")),
        ({"text": {"verdict": "not checked", "why": "no torch"}}, {}, Checked("not checked: no torch")),
        ({}, {}, Checked("not checked")),
        (
            {"text": {"verdict": "not checked", "why": "x"}, "invalid_reasons": [reason("failures")]},
            GATED,
            Checked(
                "not checked: void before that (failures)",
                "not judged: past-tense, void before that (failures)",
            ),
        ),
        (
            {"text": OWN, "quality": PASSED},
            GATED,
            Checked(
                "from the model",
                "passed: past-tense, 55.2% right, the model itself 56.2% of the same 96 "
                "(p 0.5; a drop of 15 points would be caught)",
            ),
        ),
        (
            {"text": OWN, "quality": FAILED, "invalid_reasons": [reason("quality")]},
            {},
            Checked(
                "from the model",
                "failed: mmlu-pro, 32.3% right, the model itself 52.1% of the same 96, 49.5% required "
                "(p 1e-05; a drop of 6 points would be caught, and an honest server voided in 14% of cases)",
            ),
        ),
        (
            {"text": OWN, "quality": {"task": "past-tense", "verdict": "not judged", "why": "it failed"}},
            GATED,
            Checked("from the model", "not judged: past-tense, it failed"),
        ),
    ],
)
def test_words(make_run: MakeRun, told: Mapping[str, Any], header: Mapping[str, Any], found: Checked) -> None:
    assert checked(open_run(make_run("a", told=told, header=header))) == found


def test_nothing_submitted_says_nothing(make_run: MakeRun) -> None:
    run = open_run(make_run("a", told={"text": OWN}, submitted=None))
    assert checked(run) is None
    assert "answers submitted" not in printed(run.path)


def printed(path: Path) -> str:
    console = Console(file=io.StringIO(), width=160)
    assert isinstance(console.file, io.StringIO)
    summary.show(console, open_run(path))
    return console.file.getvalue()


def test_the_summary_has_a_line_and_its_json_the_figures(make_run: MakeRun) -> None:
    path = make_run("a", told={"text": OWN, "quality": PASSED}, header=GATED)
    assert "answers submitted: text from the model; quality passed: past-tense, 55.2% right" in printed(path)
    data = summary.speedups(open_run(path))
    assert data["submitted"]["checked"] == {"text": OWN, "quality": json.loads(json.dumps(PASSED))}
    assert "checked" not in data["found"]


@pytest.fixture
def table(make_run: MakeRun, tmp_path: Path) -> Table:
    """Two searches found alike, and an agent that was not asked."""
    for name, seeds in (("a", (21, 1337)), ("b", (248, 428))):
        make_run(name, seeds=seeds, told={"text": OWN, "quality": PASSED}, header=GATED)
    make_run("c", method="agent:x", kind="agent", told={"text": {"verdict": "not checked", "why": "<no>"}})
    return compare(load([tmp_path / "runs"]))[0]


@pytest.mark.parametrize("width", [80, 160])
def test_a_comparison_has_a_line_a_finding(table: Table, width: int) -> None:
    console = Console(file=io.StringIO(), width=width)
    assert isinstance(console.file, io.StringIO)
    compare_table.show(console, [table], None, False)
    lines = [line.strip() for line in console.file.getvalue().splitlines() if ", answers: " in line]
    assert len(lines) == 2
    assert any(line.startswith("tpe (vllm), answers: text from the model; quality passed") for line in lines)
    assert any(line.endswith("(2 runs)") for line in lines)
    assert "agent:x (vllm), answers: text not checked: <no>" in lines


def test_data_for_programs(table: Table, tmp_path: Path) -> None:
    data = compare_data.as_json([table], None, False)
    rows = {row["method"]: row["scenarios"]["C"] for row in data["tables"][0]["leaderboard"]}
    assert [each["quality"]["items"] for each in rows["tpe (vllm)"]["checked"]] == [96, 96]
    assert rows["agent:x (vllm)"]["checked"][0]["quality"] is None
    compare_data.write_csv(tmp_path / "t.csv", [table], False)
    with (tmp_path / "t.csv").open() as file:
        lines = {(line["method"], line["scenario"]): line for line in csv.DictReader(file)}
    assert lines["tpe (vllm)", "C"]["text"] == "from the model: 2"
    assert lines["tpe (vllm)", "C"]["quality"].startswith("passed: past-tense")
    assert lines["agent:x (vllm)", "C"]["quality"] == ""


def test_the_page_has_a_table(table: Table) -> None:
    html = render([table])
    rows = html.split('class="answers"')[1].split("</table>")[0]
    assert "passed: past-tense" in rows and "not asked" in rows
    assert "&lt;no&gt;" in rows


def test_without_questions_the_page_has_no_column_for_them(make_run: MakeRun, tmp_path: Path) -> None:
    make_run("a", told={"text": OWN})
    html = render(compare(load([tmp_path / "runs"])))
    assert "Whose answers they were</h3>" in html
    assert ">Quality<" not in html
