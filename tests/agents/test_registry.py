"""Agents by name: their command lines, and which of the caller's variables they see."""

from __future__ import annotations

from pathlib import Path

import pytest

from agents import registry
from agents.registry import PROMPT
from engines.contract import Model
from tests.agents.conftest import spec_for

PROVIDERS = ("ANTHROPIC", "OPENAI", "GEMINI", "PROVIDER")


@pytest.fixture
def programs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Stand-ins for the agents' programs, on PATH."""
    for name in ("claude", "codex", "gemini", "opencode"):
        (tmp_path / name).write_text("#!/bin/sh\n")
        (tmp_path / name).chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path), prepend=":")
    return tmp_path


@pytest.mark.parametrize("name", ["claude", "codex", "gemini", "opencode"])
def test_a_coding_agent_is_told_its_model_and_its_task(name: str, model: Model, programs: Path) -> None:
    argv = registry.command(spec_for(model, name, llm="provider/some-model"))
    assert argv[0] == str(programs / name)
    assert argv[argv.index("--model") + 1] == "provider/some-model"
    assert argv[-1] == PROMPT
    assert not any("{" in token for token in argv)


def test_a_coding_agent_that_was_cut_off_goes_on(model: Model, programs: Path) -> None:
    spec = spec_for(model, "claude", argv=("--max-turns", "99"))
    assert "--continue" not in registry.command(spec)
    again = registry.command(spec, again=True)
    assert "--continue" in again and again[-2:] == ("--max-turns", "99")


@pytest.mark.parametrize("name", registry.names())
def test_an_agent_sees_no_other_providers_key(
    name: str, model: Model, monkeypatch: pytest.MonkeyPatch
) -> None:
    for provider in PROVIDERS:
        monkeypatch.setenv(f"{provider}_API_KEY", "secret")
    monkeypatch.setenv("SOMETHING_ELSE", "secret")
    spec = spec_for(model, name, llm="provider/some-model")
    seen = [key for key, value in registry.variables(spec).items() if value == "secret"]
    assert len(seen) == (0 if registry.entry(name).scripted or name == "command" else 1)


def test_files_of_a_command_are_named_in_full(
    model: Model, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "agent.py").write_text("")
    monkeypatch.chdir(tmp_path)
    argv = registry.command(spec_for(model, "command", argv=("python3", "agent.py", "--fast")))
    assert argv[1:] == (str(tmp_path / "agent.py"), "--fast")
    assert Path(argv[0]).is_absolute()
