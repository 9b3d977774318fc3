"""Cells of a study at a time: what each has to itself, and what becomes of them."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest

from engines.host import Device, Host
from studies import study_file
from studies.cell import Cell
from studies.errors import BadInput
from studies.record import open_run
from studies.side_by_side import VISIBLE, lanes, run_at_once
from studies.study_run import CellState, states
from tests.scenarios.plain_text import write_jsonl
from tests.tiny_model import make_tiny_model

STUDY = """\
name: {name}
profile: smoke
model: {model}
text: {text}
engines: [{engines}]
scenarios: [A, C]
planners: [tpe]
budget: {budget}
devices: {devices}
"""


def written(tmp_path: Path, *, engines: str = "simulated", budget: str = "4s", devices: int = 1) -> Path:
    model = make_tiny_model(tmp_path / "model")
    text = write_jsonl(tmp_path / "text.jsonl", documents=40)
    path = tmp_path / "study.yaml"
    path.write_text(
        STUDY.format(name="two", model=model, text=text, engines=engines, budget=budget, devices=devices)
    )
    return path


def gpus(count: int) -> Host:
    cards = tuple(Device(n, "cuda", "Card", 80 << 30, f"GPU-{n}", f"GPU-{n}") for n in range(count))
    return Host(cards, cores=64, memory=1 << 39)


def cells(tmp_path: Path, engines: str, devices: int = 1) -> list[Cell]:
    return study_file.load(written(tmp_path, engines=engines, devices=devices)).cells()


def test_every_lane_has_gpus_and_cores_of_its_own(tmp_path: Path) -> None:
    placed = lanes(cells(tmp_path, "vllm", devices=2), 2, gpus(4))
    assert [lane.selectors for lane in placed] == [("GPU-0", "GPU-1"), ("GPU-2", "GPU-3")]
    known = os.sched_getaffinity(0)
    if len(known) > 1:
        assert not placed[0].cores & placed[1].cores
    assert all(lane.cores and lane.cores <= known for lane in placed)


def test_more_lanes_than_gpus_are_refused_unless_all_is_simulated(tmp_path: Path) -> None:
    with pytest.raises(BadInput, match="--at-once 3: 6 GPUs are needed and 4 are here"):
        lanes(cells(tmp_path, "vllm", devices=2), 3, gpus(4))
    assert lanes(cells(tmp_path / "second", "simulated"), 3, gpus(0))[0].selectors == ()


def run(file: Path, says: list[str]) -> list[CellState]:
    runs = file.parent / "runs"
    found = states(study_file.load(file), runs)
    places = lanes([state.cell for state in found], 2, gpus(0))
    return run_at_once(found, file, runs, places, says.append, resume=False)


def test_each_runs_in_its_own_process_and_one_that_fails_leaves_the_rest_alone(tmp_path: Path) -> None:
    file, says = written(tmp_path, budget="8s"), list[str]()
    first, second = states(study_file.load(file), tmp_path / "runs")
    second.path.parent.mkdir(parents=True)
    second.path.write_text("in the way")
    ended = run(file, says)
    assert [state.outcome for state in ended] == ["done", "failed"]
    assert str(second.path) in ended[1].detail
    assert open_run(first.path).finished
    assert any(line.startswith("[1] ") and "trial 0" in line for line in says)
    log = first.path.with_name(f"{first.path.name}.log").read_text()
    assert "trial 0" in log and "ceiling report" in log

    second.path.unlink()
    before = (first.path / "ledger.jsonl").stat().st_mtime
    assert [state.outcome for state in run(file, [])] == ["done", "done"]
    assert (first.path / "ledger.jsonl").stat().st_mtime == before


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGKILL])
def test_an_interrupt_ends_every_cell_and_a_kill_leaves_none(tmp_path: Path, number: int) -> None:
    file = written(tmp_path, budget="60s")
    command = [sys.executable, "-c", "from studies.cli import main; main()", "study", str(file)]
    study = subprocess.Popen(
        [*command, "--at-once", "2", "--runs", "runs"], cwd=tmp_path, stderr=subprocess.PIPE, text=True
    )
    assert study.stderr is not None
    measuring: set[str] = set()
    for line in study.stderr:
        if "trial 0 starting" in line:
            measuring.add(line.split("]")[0])
        if len(measuring) == 2:
            break
    below = psutil.Process(study.pid).children(recursive=True)
    study.send_signal(number)
    study.stderr.read()
    assert study.wait(30) == (130 if number == signal.SIGINT else -number)
    _, alive = psutil.wait_procs(below, timeout=20)
    assert not alive
    assert [s.outcome for s in states(study_file.load(file), tmp_path / "runs")] == ["begun"] * 2


def test_a_lane_s_process_sees_what_is_its_own(tmp_path: Path) -> None:
    core = min(os.sched_getaffinity(0))
    file = written(tmp_path, budget="60s")
    code = (
        "from pathlib import Path; from studies.side_by_side import *; from studies.study_run import states;"
        "from studies import study_file; import signal, sys; signal.signal(signal.SIGINT, "
        "signal.default_int_handler); file, runs = Path(sys.argv[1]), Path(sys.argv[2]);"
        "found = states(study_file.load(file), runs, ['*-A-*']);"
        f"run_at_once(found, file, runs, [Lane(('7',), frozenset([{core}]))], print, resume=False)"
    )
    study = subprocess.Popen([sys.executable, "-c", code, str(file), str(tmp_path / "runs")])
    try:
        cell = _child(study.pid)
        assert cell.cpu_affinity() == [core]
        assert cell.environ()[VISIBLE] == "7"
    finally:
        study.send_signal(signal.SIGINT)
        study.wait(30)


def _child(parent: int) -> psutil.Process:
    """The process of the one cell, once it has become that program."""
    for _ in range(200):
        for child in psutil.Process(parent).children():
            if "study" in child.cmdline():
                return child
        time.sleep(0.05)
    raise AssertionError("no cell was started")
