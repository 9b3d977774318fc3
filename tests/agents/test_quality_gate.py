"""An agent's server is asked questions when it counts, and in no measurement before."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from agents import run_agent
from engines.contract import Model
from scenarios import ledger
from scenarios.quality import mix, tasks
from tests.agents.conftest import needs_bwrap, spec_for
from tests.engines import posing
from tests.scenarios import stand_in_reference

pytestmark = needs_bwrap


@pytest.fixture
def weighty(model: Model, tmp_path: Path) -> Model:
    """The model with a file of weights, that nobody loads."""
    folder = tmp_path / "weighty"
    folder.mkdir()
    for file in model.path.iterdir():
        (folder / file.name).symlink_to(file)
    with (folder / "model.safetensors").open("wb") as weights:
        weights.truncate(269_000_000)
    return replace(model, path=folder)


@pytest.mark.parametrize(("known", "valid"), [(False, True), (True, False)])
def test_final_scoring_asks_questions_and_dev_scoring_does_not(
    known: bool, valid: bool, weighty: Model, text: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    verbs = dict(line.split() for line in tasks.VERBS.read_text().splitlines()) if known else {}
    for name, value in stand_in_reference.make(tmp_path / "torch", past=verbs).items():
        monkeypatch.setenv(name, value)
    monkeypatch.setenv("PYTHONPATH", posing.add(tmp_path / "site")["PYTHONPATH"])
    monkeypatch.syspath_prepend(str(tmp_path / "site"))
    spec = replace(
        spec_for(weighty, "default", text=text, quality="past-tense", baseline=False, sandbox=False),
        engines=("posing",),
    )
    run = tmp_path / "run"
    result = run_agent(spec, run)
    events = ledger.read(run)[0]
    dev, *finals = [event for event in events if event["event"] == "measurement"]
    assert (dev["seed"], dev["quality"]) == (21, None)
    assert not (run / dev["rows"] / mix.FILE).exists()
    assert finals[-1]["quality"], finals[-1]["invalid_reasons"]
    assert finals[-1]["quality"]["items"] == 12
    assert (run / finals[-1]["rows"] / mix.FILE).is_file()
    assert result.submitted and result.submitted["valid"] == valid
    assert valid or "past-tense: 0.0% right" in result.submitted["reason"]
