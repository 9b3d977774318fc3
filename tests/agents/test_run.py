"""Whole runs on the simulated engine: the scripted agents, what they find and submit, and what it costs."""

from __future__ import annotations

import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import psutil
import pytest

from agents import AgentError, AgentSpec, run_agent
from engines.contract import Model
from engines.ports import is_free
from scenarios import ledger
from tests.agents.conftest import needs_bwrap, spec_for
from tests.agents.driver import start

pytestmark = needs_bwrap


@pytest.fixture
def run(tmp_path: Path, ceiling_home: Path) -> Path:
    """A run directory, with a home of its own beside it."""
    return tmp_path / "run"


def script(path: Path, text: str) -> tuple[str, ...]:
    """An executable agent; the command line that runs it."""
    path.write_text(f"#!/bin/bash\n{text}\n")
    path.chmod(0o755)
    return (str(path),)


def events_of(run: Path, kind: str) -> list[dict[str, Any]]:
    """Events of a kind."""
    return [event for event in ledger.read(run)[0] if event["event"] == kind]


def test_default_submits_the_default(model: Model, text: str, run: Path, ceiling_home: Path) -> None:
    result = run_agent(spec_for(model, "default", text=text), run)
    assert result.found and result.submitted
    assert (result.found["engine"], result.found["config"]) == ("simulated", {})
    assert result.submitted["valid"] and result.submitted["reason"] is None
    assert result.submitted["score"] == pytest.approx(result.found["score"], rel=0.5)
    dev, held_out = events_of(run, "measurement")
    assert (dev["seed"], held_out["seed"]) == (21, 1337)
    assert dev["request_set"] != held_out["request_set"]
    assert result.outcomes == {"complete": 1}
    assert events_of(run, "end")[0]["reason"] == "done"
    assert not list((ceiling_home / "sandboxes").iterdir())
    assert sum(result.split.values()) == pytest.approx(result.gpu_seconds, abs=0.01)


def test_regressor_finds_and_does_not_submit(model: Model, text: str, run: Path) -> None:
    result = run_agent(spec_for(model, "regressor", text=text), run)
    assert result.found and result.found["config"] and result.found["score"] > 0
    assert result.submitted and not result.submitted["valid"]
    assert result.submitted["speedup"] == 1.0
    assert result.submitted["score"] is None
    assert "before it was ready" in result.submitted["reason"]


def test_one_shot_scores_one_config(model: Model, text: str, run: Path) -> None:
    result = run_agent(spec_for(model, "one-shot", text=text), run)
    assert result.configs == 1
    assert result.submitted and result.submitted["config"] == result.found["config"] != {}  # type: ignore[index]


def test_greedy_submits_the_best_that_it_kept(
    model: Model, text: str, run: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CEILING_SIM_LANDSCAPE", "eager-dominates")
    result = run_agent(spec_for(model, "greedy", text=text, budget=16.0), run)
    trials = [trial for trial in events_of(run, "trial") if trial["origin"] == "agent"]
    assert len(trials) >= 2
    assert result.submitted and result.submitted["valid"]
    assert result.gpu_seconds <= 17.0
    tried = [(trial["config"], trial["score"]) for trial in trials if trial["state"] == "pruned"]
    kept: tuple[dict[str, Any], float] = ({}, 0.0)
    for config, score in tried:
        if score > kept[1] * 1.01:
            kept = (config, score)
    assert result.submitted["config"] == kept[0]


def test_the_budget_ends_an_agent_with_its_server(model: Model, text: str, run: Path, tmp_path: Path) -> None:
    agent = script(
        tmp_path / "agent.sh",
        "./serve show simulated '{}' > start_server.sh; ./serve; ./score --quick; sleep 1000",
    )
    result = run_agent(spec_for(model, "command", argv=agent, text=text, budget=6.0), run)
    (ended,) = [note for note in events_of(run, "note") if note["what"] == "agent-ended"]
    assert (ended["why"], ended["code"]) == ("budget", None)
    assert 6.0 <= result.gpu_seconds < 8.0
    assert result.found is None
    assert result.outcomes == {"pruned": 1}
    assert result.submitted and result.submitted["valid"]


def test_gpu_seconds_agree_with_a_stopwatch(
    model: Model, text: str, run: Path, tmp_path: Path, ceiling_home: Path
) -> None:
    agent = script(tmp_path / "agent.sh", "(setsid sleep 700 &); sleep 6")
    spec = spec_for(model, "command", argv=agent, text=text)
    driver = start(spec, run, home=ceiling_home)
    watched = psutil.Process(driver.pid)
    absent, seen = [time.monotonic()], list[float]()
    while driver.poll() is None and not (seen and absent[-1] - seen[-1] > 1.0):
        there = any(map(is_box, watched.children()))
        (seen if there else absent).append(time.monotonic())
        time.sleep(0.005)
    assert driver.wait() == 0
    before = max(moment for moment in absent if moment < seen[0])
    after = min(moment for moment in absent if moment > seen[-1])
    charged = run_agent(spec, run, resume=True).gpu_seconds
    assert 0.98 * (seen[-1] - seen[0]) < charged < 1.02 * (after - before)
    assert charged > 6.0


def is_box(process: psutil.Process) -> bool:
    """Whether a process is an agent's sandbox, and not the probe for what sandboxes can be made here."""
    try:
        return process.name() == "bwrap" and "--info-fd" in process.cmdline()
    except psutil.NoSuchProcess:
        return False


def notes(run: Path) -> list[dict[str, Any]]:
    """Notes so far."""
    return events_of(run, "note") if (run / ledger.FILE).exists() else []


def test_tools_answer_as_the_task_says(model: Model, text: str, run: Path, tmp_path: Path) -> None:
    agent = script(
        tmp_path / "agent.sh",
        r"""
        try() { echo "== $*"; "$@"; echo "-> $?"; }
        try ./start_server.sh; try ./score; try ./serve; try ./serve fly; try ./serve show nothing '{}'
        try ./serve show simulated '{"max-num-seqs": -1}'; try ./serve show simulated nonsense
        try ./serve status; try ./timer; try ./serve log; cat TASK.md; env
        """,
    )
    run_agent(spec_for(model, "command", argv=agent, text=text), run)
    said = (run / "logs" / "agent.log").read_text()
    answers = dict(part.split("\n", 1) for part in said.split("== ")[1:])
    assert "-> 2" in answers["./start_server.sh"]
    assert "nothing serves: run ./serve" in answers["./score"] and "-> 2" in answers["./score"]
    assert "still the stub" in answers["./serve"] and "-> 1" in answers["./serve"]
    assert "invalid choice: 'fly'" in answers["./serve fly"]
    assert "the engine is one of simulated" in answers["./serve show nothing {}"]
    assert "max-num-seqs=-1 is not in the space" in answers['./serve show simulated {"max-num-seqs": -1}']
    assert "not JSON" in answers["./serve show simulated nonsense"]
    assert '{"running": false}' in answers["./serve status"]
    assert '"budget": 60.0' in answers["./timer"]
    assert "still the stub" in answers["./serve log"]
    assert "1 / TTFT p50" in said and "1337" not in said
    (crashed,) = [trial for trial in events_of(run, "trial") if trial["origin"] == "agent"]
    assert crashed["state"] == "crashed"
    (asked, _) = events_of(run, "ask")
    assert asked["script"]["text"].startswith("#!/bin/bash")


def test_an_agent_gets_its_own_key_and_no_other(
    model: Model, text: str, run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", f"{tmp_path}:/usr/bin:/bin")
    monkeypatch.setenv("ANTHROPIC_API_KEY", "own-key")
    monkeypatch.setenv("OPENAI_API_KEY", "other-key")
    script(tmp_path / "claude", 'env; cat /proc/1/cmdline; echo; echo "$@"')
    run_agent(spec_for(model, "claude", text=text, llm="some-model"), run)
    said = (run / "logs" / "agent.log").read_text()
    assert "ANTHROPIC_API_KEY=own-key" in said
    assert said.count("own-key") == 1
    assert "other-key" not in said
    assert "--model some-model" in said and "TASK.md" in said


def test_an_agents_own_server_can_be_scored(model: Model, text: str, run: Path, tmp_path: Path) -> None:
    agent = script(
        tmp_path / "agent.sh",
        """
        ./serve show simulated '{}' > start_server.sh
        bash start_server.sh > server.log 2>&1 &
        until ./score --quick; do sleep 0.1; done
        """,
    )
    result = run_agent(spec_for(model, "command", argv=agent, text=text), run)
    (note,) = [note for note in notes(run) if note["what"] == "server-left"]
    assert is_free(note["port"])
    assert "pruned" in result.outcomes
    assert result.submitted and result.submitted["valid"]


def test_what_runs_can_be_scored_again_and_again(model: Model, text: str, run: Path, tmp_path: Path) -> None:
    agent = script(
        tmp_path / "agent.sh",
        "./serve show simulated '{}' > start_server.sh\n./serve\n./score --quick\n./score\n./score",
    )
    result = run_agent(spec_for(model, "command", argv=agent, text=text), run)
    measured = [event for event in events_of(run, "measurement") if event["seed"] != 1337]
    assert [event["fidelity"]["block"] for event in measured] == [0, 1, 2]
    assert [event["invalid_reasons"] for event in measured] == [[], [], []]
    assert result.outcomes == {"pruned": 1, "complete": 2}


def test_a_run_without_isolation_is_scored_alike(model: Model, text: str, run: Path) -> None:
    result = run_agent(spec_for(model, "default", text=text, sandbox=False), run)
    assert result.found and result.submitted and result.submitted["valid"]
    assert result.notes == {}


def test_without_bubblewrap_there_is_no_run(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-c", "from agents import sandbox; sandbox.require()"],
        env={"PATH": str(tmp_path)},
        cwd=Path(__file__).parents[2],
        capture_output=True,
        text=True,
        check=False,
    )
    last = done.stderr.strip().splitlines()[-1]
    assert "apt-get install bubblewrap" in last and "--unsafe-no-sandbox" in last


@pytest.mark.parametrize(
    ("more", "says"),
    [
        ({"agent": "nobody"}, "unknown agent nobody: one of default"),
        ({"agent": "command"}, "-- ./my-agent.sh"),
        ({"agent": "command", "argv": ("./no-such-agent",)}, "is not an executable"),
        ({"agent": "default", "budget": 0.0}, "above zero"),
        ({"agent": "default", "eval_seed": 21}, "must be another"),
        ({"agent": "opencode"}, "--llm"),
    ],
)
def test_bad_input_is_one_line(more: dict[str, Any], says: str, model: Model, run: Path) -> None:
    with pytest.raises(AgentError) as error:
        run_agent(spec_for(model, **more), run)
    assert says in str(error.value)
    assert "\n" not in str(error.value)
    assert not run.exists()


def test_a_spec_survives_json(model: Model) -> None:
    spec = spec_for(model, "command", argv=("./a", "b"), devices=(0, 1))
    assert AgentSpec.from_json(spec.to_json()) == spec
