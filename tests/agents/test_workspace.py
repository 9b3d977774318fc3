"""The workspace: the task as text and as data, the clients, and whether they are as they were given."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from pathlib import Path

import pytest

from agents.case import Case
from agents.launcher import FILE
from agents.sandbox import Sandbox
from agents.spec import AgentSpec
from agents.workspace import Workspace, brief, visible
from engines.contract import Model
from engines.host import this_host
from engines.registry import engine
from scenarios.profiles import scenario
from tests.agents.conftest import spec_for


def case_for(spec: AgentSpec, tmp_path: Path) -> Case:
    """A case on this host."""
    engines = {"simulated": engine("simulated")}
    return Case(spec, tmp_path / "run", "id", engines, this_host(), 4711, {}, 30.0)


@pytest.fixture
def workspace(model: Model, sandbox: Sandbox, place: Path, tmp_path: Path) -> Workspace:
    """A laid-out workspace."""
    workspace = Workspace(place / "workspace", sandbox)
    case = case_for(spec_for(model, "default", scenario="C", eval_seed=918273645), tmp_path)
    workspace.write(brief(case, scenario("smoke", "C"), sandbox))
    return workspace


def test_the_task_says_what_counts(workspace: Workspace, model: Model) -> None:
    task = (workspace.path / "TASK.md").read_text()
    for words in (
        "scenario C", "geometric mean of req/s", "burst: 24 requests", "100.0/s", str(model.path),
        "60 GPU-seconds", "within 30 s", "port 4711", "### simulated", "-m engines.simulated.server",
    ):  # fmt: skip
        assert words in task
    assert "918273645" not in task
    assert "Work in rounds" not in task


def test_the_task_is_there_for_programs(workspace: Workspace) -> None:
    task = json.loads((workspace.path / "task.json").read_text())
    (offer,) = task["engines"]
    assert task["scenario"]["letter"] == "C" and task["port"] == 4711
    assert "exec " in offer["default"] and '"$PORT"' in offer["default"]
    assert {"name", "choices", "default", "when"} <= set(offer["space"][0])
    assert "918273645" not in json.dumps(task)


def test_the_variant_asks_for_rounds(model: Model, sandbox: Sandbox, place: Path, tmp_path: Path) -> None:
    spec = replace(spec_for(model, "default"), variant="iterate")
    workspace = Workspace(place / "workspace", sandbox)
    workspace.write(brief(case_for(spec, tmp_path), scenario("smoke", "A"), sandbox))
    assert "Work in rounds" in (workspace.path / "TASK.md").read_text()


def test_changed_clients_are_told(workspace: Workspace) -> None:
    assert workspace.changed() == {}
    (workspace.path / "score").write_text("echo 1e9")
    (workspace.path / "timer").unlink()
    (workspace.path / "serve").unlink()
    (workspace.path / "serve").symlink_to("/bin/true")
    changed = workspace.changed()
    assert set(changed) == {"score", "serve", "timer"}
    assert changed["timer"] == changed["serve"] == "gone"


def test_laying_out_again_keeps_the_launcher_and_follows_no_link(
    workspace: Workspace, model: Model, sandbox: Sandbox, tmp_path: Path
) -> None:
    (workspace.path / FILE).write_text("mine")
    (tmp_path / "victim").write_text("untouched")
    (workspace.path / "score").unlink()
    (workspace.path / "score").symlink_to(tmp_path / "victim")
    (workspace.path / "TASK.md").unlink()
    (workspace.path / "TASK.md").mkdir()
    case = case_for(spec_for(model, "default"), tmp_path)
    workspace.write(brief(case, scenario("smoke", "A"), sandbox), again=True)
    assert (workspace.path / FILE).read_text() == "mine"
    assert (tmp_path / "victim").read_text() == "untouched"
    assert workspace.changed() == {}


def test_only_one_floor_of_the_harness_shows(model: Model) -> None:
    shown = visible(spec_for(model, "default"), [engine("simulated")])
    root = Path(__file__).parents[2]
    assert root / "engines" in shown
    assert not any(root.is_relative_to(path) for path in shown)
    assert not any((root / "studies").is_relative_to(path) for path in shown)


def test_links_of_a_model_directory_lead_somewhere(model: Model, tmp_path: Path) -> None:
    linked, blobs = tmp_path / "snapshot", tmp_path / "blobs"
    shutil.copytree(model.path, blobs)
    linked.mkdir()
    for file in blobs.iterdir():
        (linked / file.name).symlink_to(file)
    shown = visible(spec_for(replace(model, path=linked), "default"), [])
    assert {linked, blobs} <= set(shown)
