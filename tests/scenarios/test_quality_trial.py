"""Questions in a trial: what can be asked of whom, and when the answers are judged."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any, Literal

import pytest

from engines.contract import EngineNotInstalled, Model
from engines.registry import engine
from scenarios.models import open_model
from scenarios.quality import tasks
from scenarios.quality.admission import admit
from scenarios.scenario import Fidelity, Plan
from scenarios.trial import State, TrialSpec
from scenarios.trial_run import run_trial
from tests.engines.posing import Posing
from tests.scenarios import stand_in_reference
from tests.scenarios.plain_text import write_jsonl
from tests.scenarios.test_authenticity import TRIES
from tests.tiny_model import make_tiny_model


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Model:
    place = make_tiny_model(tmp_path_factory.mktemp("model"))
    with (place / "model.safetensors").open("wb") as weights:
        weights.truncate(269_000_000)
    return open_model(place, name="tiny", max_length=2048)


@pytest.fixture(scope="module")
def text(tmp_path_factory: pytest.TempPathFactory) -> str:
    return write_jsonl(tmp_path_factory.mktemp("text") / "text.jsonl", documents=40)


@pytest.fixture
def torch(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in stand_in_reference.make(tmp_path / "torch").items():
        monkeypatch.setenv(name, value)


@pytest.mark.usefixtures("torch")
@pytest.mark.parametrize(
    ("scenario", "weights", "engines", "said"),
    [
        ("A", "dummy", (), "random weights answer no question: leave --quality past-tense out for tiny"),
        ("A", "real", ("vllm", "simulated"), "the text of simulated comes from no model"),
        ("B", "real", (), "room for 3 questions of past-tense, and 7 are the fewest"),
    ],
)
def test_what_no_question_can_ride_in_is_one_line(
    scenario: str,
    weights: Literal["real", "dummy"],
    engines: tuple[str, ...],
    said: str,
    model: Model,
    text: str,
) -> None:
    plan = Plan(scenario, "smoke", 1337, text=text)
    with pytest.raises(tasks.TaskError, match=said) as raised:
        admit("past-tense", plan, replace(model, weights=weights), [engine(name) for name in engines])
    assert "\n" not in str(raised.value)


def test_nothing_is_asked_that_nobody_can_judge(
    model: Model, text: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CEILING_HOME", str(tmp_path / "home"))
    monkeypatch.delenv("CEILING_TORCH_PYTHON", raising=False)
    with pytest.raises(EngineNotInstalled, match="ceiling engines install torch"):
        admit("past-tense", Plan("A", "smoke", 1337, text=text), model, [engine("vllm")])


@pytest.mark.usefixtures("torch")
def test_what_can_be_asked_is_admitted(model: Model, text: str) -> None:
    admit("past-tense", Plan("A", "smoke", 1337, text=text), model, [engine("vllm")])


@pytest.mark.parametrize(("known", "state"), [(False, State.COMPLETE), (True, State.INVALID)])
def test_a_trial_is_judged_once_its_server_is_gone_and_uncharged(
    known: bool,
    state: State,
    model: Model,
    text: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    verbs = dict(line.split() for line in tasks.VERBS.read_text().splitlines()) if known else {}
    for name, value in stand_in_reference.make(tmp_path / "torch", past=verbs).items():
        monkeypatch.setenv(name, value)
    plan = Plan("A", "smoke", 21, Fidelity(), text)
    spec = TrialSpec(1, "simulated", {}, "final", model, plan, str(tmp_path), quality="past-tense")
    for _ in range(TRIES):
        events: list[dict[str, Any]] = []
        trial = run_trial(spec, lambda event, to=events: to.append(dict(event)), engine=Posing())
        if not trial.detail.startswith(("other-process", "client-lag")):
            break
    assert trial.state is state, trial.detail
    assert trial.detail.partition(":")[0] == ("quality" if known else "")
    phases = [event["phase"] for event in events if event["event"] == "phase"]
    assert phases[-2:] == ["stopping", "checking"]
    (told,) = [event for event in events if event["event"] == "measurement"]
    assert (told["quality"]["items"], told["quality"]["baseline"]) == (12, float(known))
    assert told["text"]["verdict"] == "from the model"
    charged = sum(seconds for name, seconds in trial.seconds.items() if name != "check")
    assert trial.gpu_seconds == pytest.approx(charged, abs=0.01)
