"""The benchmark of load generators with the one that is always here, and with one that fails."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from types import MappingProxyType

import pytest

from studies.benchmarks.load_generators.bench import Outcome, measure
from studies.benchmarks.load_generators.jobs import Job
from studies.benchmarks.load_generators.peers import Ceiling, Figures
from studies.benchmarks.load_generators.table import tables
from tests.tiny_model import make_tiny_model

CLOSED = Job("64", 4, 8, 20, 0.05, 0.005)
OPEN = Job("poisson", 0, 40, 2, 0.01, 0.002, rate=40.0)


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_tiny_model(tmp_path_factory.mktemp("model"))


def test_a_closed_loop_is_held_against_the_servers_own_record(model: Path, tmp_path: Path) -> None:
    made = measure(Ceiling(), sys.executable, CLOSED, model, tmp_path)
    assert made.why is None
    assert made.reported["requests"] == made.truth["requests"] == 8
    assert made.truth["ttft_p50"] == pytest.approx(0.05, abs=0.02)
    assert made.reported["ttft_p50"] == pytest.approx(made.truth["ttft_p50"], abs=0.02)
    assert made.reported["tpot_p50"] == pytest.approx(made.truth["tpot_p50"], rel=0.2)
    assert made.token_cpu >= 0


def test_arrivals_are_judged_by_the_servers_record(model: Path, tmp_path: Path) -> None:
    made = measure(Ceiling(), sys.executable, OPEN, model, tmp_path)
    assert made.truth["rate"] == pytest.approx(40, rel=0.5)
    assert 0.3 < made.truth["dispersion"] < 2.5


class Broken:
    """A load generator that ends as it is told."""

    name, package = "broken", ""
    variables = MappingProxyType({"WHY": "no such option"})

    def __init__(self, status: int) -> None:
        self._status = status

    def command(self, python: str, job: Job, url: str, model: Path, out: Path) -> list[str]:
        code = f"import os, sys; print('Error:', os.environ['WHY']); sys.exit({self._status})"
        return [python, "-c", code]

    def read(self, out: Path, said: str) -> Figures:
        figures: Figures = json.loads((out / "result.json").read_text())
        return figures


@pytest.mark.parametrize(
    ("status", "why"), [(3, "exit 3: Error: no such option"), (0, "its report does not read: FileNotFound")]
)
def test_one_that_fails_says_why(status: int, why: str, model: Path, tmp_path: Path) -> None:
    made = measure(Broken(status), sys.executable, CLOSED, model, tmp_path)
    assert made.why is not None and made.why.startswith(why)
    assert f"- broken, 64: did not run: {why}" in tables({"broken": {"64": made}}, (CLOSED,), {})


def test_the_table_shows_bias_cost_and_arrivals() -> None:
    truth = {"ttft_p50": 0.1, "ttft_p99": 0.1, "tpot_p50": 0.02, "tpot_p99": 0.02, "requests": 8.0}
    reported = {
        "ttft_p50": 0.1005,
        "ttft_p99": 0.112,
        "tpot_p50": 0.02001,
        "tpot_p99": 0.0199,
        "requests": 8.0,
    }
    closed = Outcome(None, reported, truth, 20e-6, 5e-6)
    arrived = Outcome(None, reported, {**truth, "rate": 19.9, "dispersion": 1.04}, 20e-6)
    text = tables({"ours": {"64": closed, "poisson": arrived}}, (CLOSED, OPEN), {"ours": "1.0"})
    assert "| ours 1.0 | 50,000 / - | 20 (5) | +0.50 / +12.00 ms | +10 / -100 us |" in text
    assert "| ours | 19.90/s | 1.04 |" in text
