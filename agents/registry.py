"""Agents by name: what is run for each, and which variables of the caller it may see."""

from __future__ import annotations

import os
import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from agents.spec import AgentError, AgentSpec
from agents.tree import INTERPRETER
from agents.workspace import SCRIPTED

PROMPT = "Read TASK.md in this directory and do what it asks, to the end. Nobody will answer questions."

NETWORK = ("HTTPS_PROXY", "HTTP_PROXY", "NO_PROXY", "https_proxy", "http_proxy", "no_proxy")


@dataclass(frozen=True)
class AgentEntry:
    """One agent.

    Attributes:
        argv: its command line; `{llm}` and `{prompt}` are filled in.
        resume: its command line where an earlier one was cut off; None starts it anew.
        keys: variables of the caller that it may see: its own provider's, and no other's. `{PROVIDER}` stands
            for the provider that the model's name begins with.
        llm: the model it takes by default; empty for one that takes none.
        scripted: a script that follows fixed rules: a reference point, no agent that thinks.
        note: one line for people.
    """

    name: str
    argv: tuple[str, ...]
    note: str
    resume: tuple[str, ...] | None = None
    keys: tuple[str, ...] = ()
    llm: str = ""
    scripted: bool = False

    @property
    def program(self) -> str | None:
        """What it runs; None where the caller names that."""
        return self.argv[0] if self.argv else None

    @property
    def here(self) -> bool:
        """Whether its program is on this machine."""
        return self.program is None or shutil.which(self.program) is not None


def _script(name: str, note: str) -> AgentEntry:
    argv = (str(INTERPRETER), "-E", "-s", str(SCRIPTED), name.replace("-", "_"))
    return AgentEntry(name, argv, note, scripted=True)


COMMAND = "command"
"""The agent that is whatever executable a person names."""

_ENTRIES = (
    _script("default", "script: submits the first engine's own defaults"),
    _script("one-shot", "script: submits one well-known config that is not the default"),
    _script("greedy", "script: changes one flag at a time and rolls back what does not help"),
    _script("regressor", "script: finds a good config, then submits a launcher that does not start"),
    AgentEntry(COMMAND, (), "any executable: ceiling agent --agent command ... -- ./my-agent.sh"),
    AgentEntry(
        "claude",
        ("claude", "--print", "--verbose", "--output-format", "stream-json", "--model", "{llm}",
         "--dangerously-skip-permissions", "{prompt}"),
        "Claude Code",
        resume=("claude", "--continue", "--print", "--verbose", "--output-format", "stream-json", "--model",
                "{llm}", "--dangerously-skip-permissions", "{prompt}"),
        keys=("ANTHROPIC_API_KEY", "ANTHROPIC_BASE_URL", *NETWORK),
        llm="sonnet",
    ),
    AgentEntry(
        "codex",
        ("codex", "exec", "--skip-git-repo-check", "--dangerously-bypass-approvals-and-sandbox", "--model",
         "{llm}", "{prompt}"),
        "Codex CLI",
        resume=("codex", "exec", "resume", "--last", "--skip-git-repo-check",
                "--dangerously-bypass-approvals-and-sandbox", "--model", "{llm}", "{prompt}"),
        keys=("OPENAI_API_KEY", "OPENAI_BASE_URL", "CODEX_API_KEY", *NETWORK),
        llm="gpt-5-codex",
    ),
    AgentEntry(
        "gemini",
        ("gemini", "--yolo", "--model", "{llm}", "--output-format", "stream-json", "--prompt", "{prompt}"),
        "Gemini CLI",
        resume=("gemini", "--yolo", "--resume", "latest", "--model", "{llm}", "--output-format",
                "stream-json", "--prompt", "{prompt}"),
        keys=("GEMINI_API_KEY", *NETWORK),
        llm="gemini-2.5-pro",
    ),
    AgentEntry(
        "opencode",
        ("opencode", "run", "--model", "{llm}", "--format", "json", "{prompt}"),
        "OpenCode; needs --llm PROVIDER/MODEL",
        resume=("opencode", "run", "--continue", "--model", "{llm}", "--format", "json", "{prompt}"),
        keys=("{PROVIDER}_API_KEY", *NETWORK),
    ),
)  # fmt: skip

_BY_NAME: Mapping[str, AgentEntry] = {entry.name: entry for entry in _ENTRIES}


def names() -> tuple[str, ...]:
    """Names of the agents, in the order in which to list them."""
    return tuple(_BY_NAME)


def entry(name: str) -> AgentEntry:
    """An agent by name. Raises AgentError, which lists the names."""
    if name not in _BY_NAME:
        raise AgentError(f"unknown agent {name}: one of {', '.join(_BY_NAME)}")
    return _BY_NAME[name]


def command(spec: AgentSpec, *, again: bool = False) -> tuple[str, ...]:
    """The command line of a run's agent; `again` continues one that was cut off.

    Raises AgentError when its program is not on this machine.
    """
    chosen = entry(spec.agent)
    template = chosen.resume if again and chosen.resume else chosen.argv
    if "{llm}" in template and not (spec.llm or chosen.llm):
        raise AgentError(f"{chosen.name} needs to be told its model: add --llm PROVIDER/MODEL")
    values = {"{llm}": spec.llm or chosen.llm, "{prompt}": PROMPT}
    argv = (*(values.get(token, token) for token in template), *spec.argv)
    if not argv:
        raise AgentError("--agent command needs an executable: end the line with -- ./my-agent.sh")
    program = shutil.which(argv[0])
    if program is None:
        raise AgentError(f"{argv[0]} is not an executable here: install it, or name another --agent")
    files = (str(Path(token).absolute()) if Path(token).is_file() else token for token in argv[1:])
    return (str(Path(program).absolute()), *(files if spec.agent == COMMAND else argv[1:]))


def variables(spec: AgentSpec) -> dict[str, str]:
    """The caller's variables that a run's agent may see."""
    provider = spec.llm.partition("/")[0].upper() if "/" in spec.llm else ""
    keys = [key.replace("{PROVIDER}", provider) for key in entry(spec.agent).keys]
    return {name: os.environ[name] for name in keys if name in os.environ}
