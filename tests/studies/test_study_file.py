"""Study files: those that are shipped, and the line that a wrong one is told."""

from __future__ import annotations

from pathlib import Path

import pytest

from studies import study_file
from studies.errors import BadInput

SHIPPED = sorted(Path(study_file.__file__).parent.glob("*.yaml"))

GOOD = """\
name: small
profile: cpu
model: smollm2-135m
engines: [vllm, [vllm, torch]]
scenarios: [A, C]
planners: [tpe]
agents: [greedy]
budget: [10m, 20m]
seeds: [[21, 1337], [248, 428]]
repeats: 2
"""


def written(tmp_path: Path, text: str) -> Path:
    path = tmp_path / "study.yaml"
    path.write_text(text)
    return path


def test_the_four_studies_and_a_miniature_of_each_are_shipped() -> None:
    names = {path.stem for path in SHIPPED}
    for study in ("ceiling", "engine_restricted", "agents_vs_search", "budget_scaling"):
        assert {study, f"cpu_{study}"} <= names


@pytest.mark.parametrize("path", SHIPPED, ids=lambda path: path.stem)
def test_shipped_studies_are_valid_and_their_cells_have_directories_of_their_own(path: Path) -> None:
    study = study_file.load(path)
    cells = study.cells()
    assert cells
    assert len({cell.name for cell in cells}) == len(cells)
    assert study.name == path.stem.replace("_", "-")


def test_published_budget_and_cost_of_the_whole_ceiling() -> None:
    study = study_file.load(next(path for path in SHIPPED if path.stem == "ceiling"))
    cells = study.cells()
    assert {cell.budget for cell in cells} == {7200.0}
    assert {cell.seeds for cell in cells} == {(21, 1337), (248, 428), (999, 777)}
    assert len(cells) == 3 * 4 * 4 * 3


def test_the_matrix_is_the_product(tmp_path: Path) -> None:
    cells = study_file.load(written(tmp_path, GOOD)).cells()
    assert len(cells) == 2 * 2 * 2 * 2 * 2 * 2
    assert {cell.engines for cell in cells} == {("vllm",), ("vllm", "torch")}
    assert {(cell.kind, cell.method) for cell in cells} == {("search", "tpe"), ("agent", "greedy")}


def test_parts_change_what_they_say_and_keep_the_rest(tmp_path: Path) -> None:
    parts = "parts:\n  - {}\n  - {engines: [torch], budget: 1h, agents: []}\n"
    cells = study_file.load(written(tmp_path, GOOD + parts)).cells()
    second = [cell for cell in cells if cell.engines == ("torch",)]
    assert len(cells) == 64 + len(second)
    assert {(cell.budget, cell.kind, cell.profile) for cell in second} == {(3600.0, "search", "cpu")}


def test_a_cell_that_two_parts_name_runs_once(tmp_path: Path) -> None:
    cells = study_file.load(written(tmp_path, GOOD + "parts:\n  - {}\n  - {}\n")).cells()
    assert len(cells) == 64


@pytest.mark.parametrize(
    ("old", "new", "line", "said"),
    [
        (
            "engines: [vllm, [vllm, torch]]",
            "engines: [vllm, foo]",
            4,
            "engines.1: no engine 'foo': one of torch",
        ),
        ("profile: cpu", "profile: huge", 2, "profile: unknown profile huge: choose cpu"),
        ("scenarios: [A, C]", "scenarios: [A, E]", 5, "scenarios.1: Input should be 'A', 'B', 'C' or 'D'"),
        ("planners: [tpe]", "planners: [magic]", 6, "planners.0: no planner 'magic': one of random"),
        ("agents: [greedy]", "agents: [genius]", 7, "agents.0: no agent 'genius': one of default"),
        ("agents: [greedy]", "agents: [command]", 7, "agents.0: a study cannot name command's executable"),
        ("budget: [10m, 20m]", "budget: [10m, soon]", 8, "budget.1: 'soon' is not a duration"),
        ("[248, 428]", "[7, 7]", 9, "seeds: dev and eval seed are both 7"),
        ("repeats: 2", "repeats: 0", 10, "repeats: Input should be greater than 0"),
        ("repeats: 2", "repeat: 2", 10, "repeat: unknown field: one of profile, model"),
        ("name: small", "name: Not good", 1, "name: "),
        ("model: smollm2-135m\n", "", 1, "the study does not say its model: add `model:`"),
        ("repeats: 2", "parts:\n  - {budget: soon}", 11, "parts.0.budget.0: 'soon' is not a duration"),
        ("planners: [tpe]", "planners: [tpe", 7, "not YAML"),
        (
            "repeats: 2",
            "quality: sums",
            10,
            "quality: unknown task sums: say past-tense, recall or mmlu-pro:FILE",
        ),
        ("repeats: 2", "quality: mmlu-pro:no.jsonl", 10, "no.jsonl cannot be read"),
        (
            "engines: [vllm, [vllm, torch]]",
            "quality: past-tense\nengines: [simulated]",
            1,
            "the study asks for quality, and the text of simulated comes from no model",
        ),
    ],
)
def test_errors_name_file_line_and_field(tmp_path: Path, old: str, new: str, line: int, said: str) -> None:
    path = written(tmp_path, GOOD.replace(old, new))
    with pytest.raises(BadInput) as raised:
        study_file.load(path)
    message = str(raised.value)
    assert message.startswith(f"{path}, line {line}: ")
    assert said in message
    assert "\n" not in message


def test_quality_is_part_of_a_cell_and_of_its_directory(tmp_path: Path) -> None:
    plain = study_file.load(written(tmp_path, GOOD)).cells()
    parts = "parts:\n  - {}\n  - {quality: past-tense}\n"
    cells = study_file.load(written(tmp_path, GOOD + parts)).cells()
    assert cells[: len(plain)] == plain
    asked = cells[len(plain) :]
    assert {cell.quality for cell in asked} == {"past-tense"}
    assert [cell.name for cell in asked] == [f"{cell.name}-past-tense" for cell in plain]


def test_a_file_that_is_not_there_lists_those_that_are() -> None:
    with pytest.raises(BadInput, match=r"studies/ceiling\.yaml"):
        study_file.load(Path("nowhere.yaml"))
