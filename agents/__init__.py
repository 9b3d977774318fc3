"""Floor 2: arrive at a server by a coding agent, under the same budget and scorer as search."""

from typing import TYPE_CHECKING

from agents.spec import AgentError, AgentResult, AgentSpec

if TYPE_CHECKING:
    from agents.run import run_agent

__all__ = ["AgentError", "AgentResult", "AgentSpec", "run_agent"]


def __getattr__(name: str) -> object:
    """Import the run only when it is asked for: it loads the whole floor below."""
    if name == "run_agent":
        from agents.run import run_agent

        return run_agent
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
