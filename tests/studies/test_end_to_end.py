"""Whole commands on the simulated engine: a scoring, a search cut off and resumed, a study compared."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import psutil
import pytest

from engines.registry import engine
from engines.server import Server
from scenarios.models import open_model
from tests.conftest import Ceiling
from tests.scenarios.plain_text import write_jsonl
from tests.tiny_model import make_tiny_model

COMMAND = [sys.executable, "-c", "from studies.cli import main; main()"]


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_tiny_model(tmp_path_factory.mktemp("model"))


@pytest.fixture(scope="module")
def text(tmp_path_factory: pytest.TempPathFactory) -> str:
    return write_jsonl(tmp_path_factory.mktemp("text") / "text.jsonl", documents=40)


@pytest.fixture
def server(model: Path, tmp_path: Path) -> Iterator[Server]:
    with Server(engine("simulated"), {}, open_model(model), log=tmp_path / "engine.log") as running:
        yield running


def test_score_of_a_running_server(ceiling: Ceiling, server: Server, model: Path, text: str) -> None:
    options = ("--scenario", "A", "--profile", "smoke", "--model", model, "--text", text, "--json", "-")
    done = ceiling("score", server.url, *options, "--seed", 7)
    assert done.returncode == 0, done.stdout + done.stderr
    data = json.loads(done.stdout)
    assert data["valid"] is True and data["invalid_reasons"] == []
    assert data["score"] > 0 and data["metrics"] and data["provenance"]
    assert (data["scenario"], data["profile"], data["seed"]) == ("A", "smoke", 7)
    assert data["requests"]["completed"] == data["requests"]["asked"]
    assert "measuring" in done.stderr


def test_kept_rows_give_the_same_score_without_the_server(
    ceiling: Ceiling, server: Server, model: Path, text: str, tmp_path: Path
) -> None:
    options = ("--scenario", "A", "--profile", "smoke", "--model", model, "--text", text, "--json", "-")
    first = json.loads(ceiling("score", server.url, *options, "--out", tmp_path / "kept").stdout)
    again = ceiling("score", "--from-rows", tmp_path / "kept" / first["id"], "--json", "-")
    assert again.returncode == 0, again.stderr
    data = json.loads(again.stdout)
    assert (data["score"], data["interval"]) == (first["score"], first["interval"])
    assert data["request_set"] == first["request_set"]


def test_a_wrong_model_name_is_one_line(ceiling: Ceiling, server: Server, model: Path, text: str) -> None:
    options = ("--scenario", "A", "--profile", "smoke", "--model", model, "--text", text)
    done = ceiling("score", server.url, *options, "--served-model", "frob")
    assert done.returncode == 2
    assert "--served-model" in done.stderr.splitlines()[-1]


def test_ctrl_c_and_resume(ceiling: Ceiling, model: Path, text: str, tmp_path: Path) -> None:
    options = (
        *("search", "--engine", "simulated", "--scenario", "A", "--profile", "smoke", "--budget", "18s"),
        *("--model", str(model), "--text", text, "--run", "run"),
    )
    search = subprocess.Popen(
        [*COMMAND, *options], cwd=tmp_path, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    ledger = tmp_path / "run" / "ledger.jsonl"
    _until(lambda: ledger.is_file() and '"phase":"measuring"' in ledger.read_text(), 60)
    children = psutil.Process(search.pid).children(recursive=True)
    search.send_signal(signal.SIGINT)
    said, _ = search.communicate(timeout=15)
    assert search.returncode == 130
    assert "--run run --resume" in said
    gone, alive = psutil.wait_procs(children, timeout=5)
    assert not alive, [process.cmdline() for process in alive]
    assert gone
    done = ceiling(*options, "--resume", "--json", "r.json")
    assert done.returncode == 0, done.stdout + done.stderr
    assert "SIMULATION" in done.stdout and "Launch it yourself" in done.stdout
    result = json.loads((tmp_path / "r.json").read_text())
    assert result["simulation"] is True
    assert result["submitted"]["over_default"]["value"] > 0
    assert sum(result["split"].values()) == pytest.approx(result["gpu_seconds"], rel=0.01)


def test_a_term_ends_a_run_like_ctrl_c(model: Path, text: str, tmp_path: Path) -> None:
    options = (
        *("agent", "--agent", "default", "--engine", "simulated", "--scenario", "A", "--profile", "smoke"),
        *("--budget", "60s", "--model", str(model), "--text", text, "--run", "run"),
    )
    agent = subprocess.Popen([*COMMAND, *options], cwd=tmp_path, stdout=subprocess.PIPE, text=True)
    ledger = tmp_path / "run" / "ledger.jsonl"
    _until(lambda: ledger.is_file() and '"phase":"measuring"' in ledger.read_text(), 60)
    children = psutil.Process(agent.pid).children(recursive=True)
    agent.terminate()
    said, _ = agent.communicate(timeout=15)
    assert agent.returncode == 130
    assert "--run run --resume" in said
    _, alive = psutil.wait_procs(children, timeout=10)
    assert not alive, [process.cmdline() for process in alive]
    assert '"reason":"interrupted"' in ledger.read_text().splitlines()[-1]


def _until(condition: Callable[[], bool], seconds: float) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "it took too long"
        time.sleep(0.05)


STUDY = """\
name: tiny
profile: smoke
model: {model}
text: "{text}"
engines: [simulated]
scenarios: [A]
planners: [random]
agents: [regressor]
budget: 16s
"""


def test_a_study_runs_once_and_compares(ceiling: Ceiling, model: Path, text: str, tmp_path: Path) -> None:
    study = tmp_path / "tiny.yaml"
    study.write_text(STUDY.format(model=model, text=text))
    done = ceiling("study", study, "--json", "first.json", timeout=240)
    assert done.returncode == 0, done.stdout + done.stderr
    cells = json.loads((tmp_path / "first.json").read_text())["cells"]["cells"]
    assert [cell["outcome"] for cell in cells] == ["done"] * 2
    put_down = ["counts 1.00x" in line for line in done.stderr.splitlines() if ": done " in line]
    assert put_down == [False, True], "only the regressor submits nothing valid"
    before = {path: path.read_bytes() for path in (tmp_path / "runs").rglob("ledger.jsonl")}
    again = ceiling("study", study)
    assert again.returncode == 0, again.stderr
    assert {path: path.read_bytes() for path in before} == before, "a finished cell is never run again"
    compared = ceiling("compare", "runs/tiny", "--json", "-")
    table = json.loads(compared.stdout)["tables"][0]
    assert table["simulation"] is True and table["reference"] == "default"
    by_method = {row["method"]: row["scenarios"]["A"] for row in table["leaderboard"]}
    broken = by_method["agent:regressor (simulated, script)"]
    assert broken["speedup"]["mean"] == 1.0 and broken["counted_as_1x"]
    assert broken["found"]["mean"] > 0.5
