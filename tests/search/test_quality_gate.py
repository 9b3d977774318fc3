"""A whole search whose final measurements ask questions, from the command line."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from scenarios import ledger
from scenarios.quality import mix, tasks
from tests.conftest import Ceiling
from tests.engines import posing
from tests.scenarios import stand_in_reference
from tests.scenarios.plain_text import write_jsonl
from tests.tiny_model import make_tiny_model


@pytest.fixture
def options(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """A short search with questions, of an engine whose answers are never right."""
    verbs = dict(line.split() for line in tasks.VERBS.read_text().splitlines())
    variables = stand_in_reference.make(tmp_path / "torch", past=verbs) | posing.add(tmp_path / "site")
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    model = tmp_path / "model"
    model.mkdir()
    with (make_tiny_model(model) / "model.safetensors").open("wb") as weights:
        weights.truncate(269_000_000)
    text = write_jsonl(tmp_path / "text.jsonl", documents=40)
    return [
        *("search", "--engine", "posing", "--scenario", "A", "--profile", "smoke", "--model", str(model)),
        *("--text", text, "--trials", "2", "--no-baseline", "--planner", "random", "--run", "run"),
        *("--quality", "past-tense"),
    ]


def events_of(run: Path, kind: str) -> list[dict[str, Any]]:
    """Events of a kind."""
    return [event for event in ledger.read(run)[0] if event["event"] == kind]


@pytest.mark.slow
def test_questions_ride_in_the_final_measurements_only_and_void_them(
    ceiling: Ceiling, options: list[str], tmp_path: Path
) -> None:
    done = ceiling(*options, "--json", "result.json", timeout=240)
    run = tmp_path / "run"
    assert events_of(run, "run")[0]["spec"]["quality"] == "past-tense"
    origins = {event["trial"]: event["origin"] for event in events_of(run, "ask")}
    assert list(origins.values()).count("final") >= 1
    for measured in events_of(run, "measurement"):
        asked = (run / measured["rows"] / mix.FILE).is_file()
        assert asked == (origins[measured["trial"]] == "final")
    finals = [e for e in events_of(run, "measurement") if origins[e["trial"]] == "final"]
    codes = {reason["code"] for e in finals for reason in e["invalid_reasons"]}
    assert "quality" in codes, codes
    checked = [e["trial"] for e in events_of(run, "phase") if e["phase"] == "checking"]
    assert {origins[trial] for trial in checked} == {"default", "final"}
    submitted = json.loads((tmp_path / "result.json").read_text())["submitted"]
    assert not submitted["valid"]
    assert "past-tense: 0.0% right" in submitted["reason"], submitted
    assert done.returncode == 0, done.stdout + done.stderr
