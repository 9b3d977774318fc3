"""Which cells of a study run, and what becomes of those that fail."""

from __future__ import annotations

from pathlib import Path

import pytest

from scenarios.ledger import Ledger
from studies import study_file
from studies.cell import Cell
from studies.errors import BadInput
from studies.record import Run, open_run
from studies.study_run import CellState, run_cells, states
from tests.studies.conftest import RunBuilder

STUDY = """\
name: three
profile: cpu
model: small
engines: [vllm]
scenarios: [A, B, C]
planners: [tpe]
budget: 10m
"""


class Runner:
    """Runs a cell by writing its ledger; fails or is interrupted where told to."""

    def __init__(self, failing: str = "", interrupted: str = "") -> None:
        self.ran: list[tuple[str, bool]] = []
        self.failing = failing
        self.interrupted = interrupted

    def __call__(self, cell: Cell, path: Path, resume: bool) -> Run:
        self.ran.append((cell.scenario, resume))
        if cell.scenario == self.failing:
            raise BadInput("vllm is not installed: ceiling engines install vllm")
        end = "interrupted" if cell.scenario == self.interrupted else "budget"
        if resume:
            with Ledger.resume(path) as ledger:
                ledger.append("result", found=None)
                ledger.append("end", reason="budget")
        else:
            RunBuilder(path, scenario=cell.scenario, seeds=cell.seeds, budget=cell.budget, end=end).write()
        return open_run(path)


@pytest.fixture
def study(tmp_path: Path) -> study_file.Study:
    path = tmp_path / "study.yaml"
    path.write_text(STUDY)
    return study_file.load(path)


def outcomes(found: list[CellState]) -> list[str]:
    return [state.outcome for state in found]


def test_a_failed_cell_is_reported_and_the_rest_go_on(study: study_file.Study, tmp_path: Path) -> None:
    said: list[str] = []
    runner = Runner(failing="B")
    ended = run_cells(states(study, tmp_path), runner, said.append, resume=False)
    assert outcomes(ended) == ["done", "failed", "done"]
    assert ended[1].detail == "vllm is not installed: ceiling engines install vllm"
    assert any("failed vllm is not installed" in line for line in said)


def test_a_finished_cell_is_never_run_again(study: study_file.Study, tmp_path: Path) -> None:
    run_cells(states(study, tmp_path), Runner(failing="B"), print, resume=False)
    again = Runner()
    assert outcomes(run_cells(states(study, tmp_path), again, print, resume=False)) == ["done"] * 3
    assert again.ran == [("B", False)]
    nothing = Runner()
    run_cells(states(study, tmp_path), nothing, print, resume=True)
    assert nothing.ran == []


def test_an_interrupt_stops_cleanly_and_resume_continues(study: study_file.Study, tmp_path: Path) -> None:
    first = Runner(interrupted="B")
    assert outcomes(run_cells(states(study, tmp_path), first, print, resume=False)) == [
        "done",
        "interrupted",
        "new",
    ]
    assert outcomes(states(study, tmp_path)) == ["done", "begun", "new"]
    with pytest.raises(BadInput, match="add --resume"):
        run_cells(states(study, tmp_path), Runner(), print, resume=False)
    second = Runner()
    run_cells(states(study, tmp_path), second, print, resume=True)
    assert second.ran == [("B", True), ("C", False)]


def test_a_run_of_another_version_is_refused(study: study_file.Study, tmp_path: Path) -> None:
    cell = study.cells()[0]
    RunBuilder(tmp_path / study.name / cell.name, scenario="A", budget=60.0).write()
    with pytest.raises(BadInput, match="another version of this study"):
        states(study, tmp_path)


def test_a_run_with_other_questions_is_refused(study: study_file.Study, tmp_path: Path) -> None:
    asked = study.model_copy(update={"quality": "mmlu-pro:/a.jsonl"})
    cell = asked.cells()[0]
    spec = {"spec": {"quality": "mmlu-pro:/b.jsonl"}}
    RunBuilder(tmp_path / study.name / cell.name, scenario="A", header=spec).write()
    with pytest.raises(BadInput, match=r"quality 'mmlu-pro:/b.jsonl', now 'mmlu-pro:/a.jsonl'"):
        states(asked, tmp_path)


def test_an_unexpected_error_is_not_swallowed(study: study_file.Study, tmp_path: Path) -> None:
    def broken(cell: Cell, path: Path, resume: bool) -> Run:
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        run_cells(states(study, tmp_path), broken, print, resume=False)
