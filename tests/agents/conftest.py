"""Places and specs for tests of agents."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from agents.sandbox import Sandbox, program_paths
from agents.spec import AgentSpec
from agents.tree import INTERPRETER, KEEPER
from engines.contract import Model
from tests.scenarios.plain_text import write_jsonl
from tests.tiny_model import make_tiny_model

needs_bwrap = pytest.mark.skipif(shutil.which("bwrap") is None, reason="apt-get install bubblewrap")

INSIDE = {"PATH": "/usr/bin:/bin", "HOME": "/home/agent"}


@pytest.fixture(scope="session")
def model(tmp_path_factory: pytest.TempPathFactory) -> Model:
    """A model directory without weights."""
    return Model(make_tiny_model(tmp_path_factory.mktemp("model")), "tiny", max_length=2048)


@pytest.fixture(scope="session")
def text(tmp_path_factory: pytest.TempPathFactory) -> str:
    """A text source that needs no download."""
    return write_jsonl(tmp_path_factory.mktemp("text") / "text.jsonl", documents=40)


@pytest.fixture
def place(tmp_path: Path) -> Path:
    """Host directory of a sandbox."""
    place = tmp_path / "place"
    for name in ("workspace", "home", "tmp"):
        (place / name).mkdir(parents=True)
    return place


@pytest.fixture
def sandbox(place: Path) -> Sandbox:
    """A sandbox that shows the interpreter."""
    return Sandbox(place, (*program_paths((str(INTERPRETER),), {}), KEEPER), ())


@pytest.fixture
def ceiling_home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """$CEILING_HOME of a test."""
    monkeypatch.setenv("CEILING_HOME", str(tmp_path / "ceiling-home"))
    yield tmp_path / "ceiling-home"


def spec_for(model: Model, agent: str, **more: object) -> AgentSpec:
    """A spec on the simulated engine at the smallest size."""
    fields: dict[str, object] = {"scenario": "A", "profile": "smoke", "budget": 60.0, **more}
    return AgentSpec(agent=agent, engines=("simulated",), model=model, **fields)  # type: ignore[arg-type]
