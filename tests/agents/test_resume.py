"""A driver killed with SIGKILL, at any point, and resumed."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from agents import AgentError, run_agent
from engines.contract import Model
from engines.orphans import RUN_ID, survivors
from scenarios import ledger
from tests.agents.conftest import needs_bwrap, spec_for
from tests.agents.driver import events, kill_when, start

pytestmark = needs_bwrap

AGENT = """#!/bin/bash
if [ ! -f before ]; then
    touch before
    ./serve show simulated '{}' > start_server.sh
    ./serve
    ./score --quick
    sleep 1000
fi
echo "going on" > after
"""


@pytest.fixture
def agent(tmp_path: Path) -> tuple[str, ...]:
    """An agent that hangs the first time and ends at once when it finds its own traces."""
    path = tmp_path / "agent.sh"
    path.write_text(AGENT)
    path.chmod(0o755)
    return (str(path),)


def gone(run: Path) -> bool:
    """Whether no process of the run is left."""
    run_id = ledger.header(events(run))["id"]
    return not survivors(lambda variables: variables.get(RUN_ID) == run_id)


def test_an_agent_cut_off_goes_on_in_its_workspace(
    model: Model, text: str, agent: tuple[str, ...], tmp_path: Path, ceiling_home: Path
) -> None:
    run = tmp_path / "run"
    spec = spec_for(model, "command", argv=agent, text=text)
    kill_when(start(spec, run, home=ceiling_home), run, {"event": "trial", "state": "pruned"})
    charged = ledger.gpu_seconds(events(run))
    result = run_agent(spec, run, resume=True)
    assert gone(run)
    assert result.trials == 1
    assert result.submitted and result.submitted["valid"]
    assert result.gpu_seconds > charged
    seen = Counter(e["what"] for e in events(run) if e["event"] == "note")
    assert (seen["agent-started"], seen["agent-ended"]) == (2, 1)
    assert run_agent(spec, run, resume=True) == result
    with pytest.raises(AgentError, match="belongs to another run"):
        run_agent(replace(spec, scenario="B"), run, resume=True)


def test_an_agent_that_was_over_is_not_started_again(
    model: Model, text: str, tmp_path: Path, ceiling_home: Path
) -> None:
    run = tmp_path / "run"
    spec = spec_for(model, "default", text=text)
    driver = start(spec, run, home=ceiling_home)
    kill_when(driver, run, {"event": "phase", "trial": 1, "phase": "measuring"})
    charged = ledger.gpu_seconds(events(run))
    result = run_agent(spec, run, resume=True)
    assert gone(run)
    assert result.gpu_seconds == charged
    assert result.submitted and result.submitted["valid"]
    finals: list[dict[str, Any]] = [e for e in events(run) if e.get("origin") == "final"]
    assert [(e["event"], e["attempt"]) for e in finals] == [("ask", 0), ("ask", 1), ("trial", 1)]
    assert sum(e.get("what") == "agent-started" for e in events(run)) == 1
