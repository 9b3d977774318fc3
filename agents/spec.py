"""What an agent run is asked to do, and what comes of it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Literal, Self

from engines.contract import Model
from scenarios.scenario import Fidelity

Variant = Literal["default", "iterate"]

QUICK_REQUESTS = 0.25
QUICK_OUTPUT = 0.5


class AgentError(Exception):
    """An agent run cannot be done as asked. The message is one line that names the fix."""


@dataclass(frozen=True)
class AgentSpec:
    """Everything that an agent run needs; json-able, and the same on resume.

    Attributes:
        agent: a registered name, or `command` with the executable in `argv`.
        argv: what to run (`command`), or arguments to add to a registered agent's own.
        budget: GPU-seconds, from the agent's launch to the confirmed end of its process tree.
        seed: the dev seed, which `./score` uses.
        eval_seed: the held-out seed, which only final scoring uses.
        devices: indices of the devices that the agent holds.
        llm: model that the agent itself thinks with, for agents that take one.
        variant: wording of the task: `iterate` asks for propose, measure, compare, roll back.
        sandbox: False runs the agent without isolation.
        baseline: whether the torch baseline is scored first (or taken from what is kept).
        quality: task whose questions end the prompts of final scoring (scenarios/quality).
    """

    agent: str
    engines: tuple[str, ...]
    scenario: str
    profile: str
    model: Model
    budget: float
    argv: tuple[str, ...] = ()
    seed: int = 21
    eval_seed: int = 1337
    devices: tuple[int, ...] = (0,)
    text: str = "sotu"
    llm: str = ""
    variant: Variant = "default"
    sandbox: bool = True
    baseline: bool = True
    quality: str | None = None

    def __post_init__(self) -> None:
        if self.budget <= 0:
            raise AgentError("the budget must be above zero: say --budget 30m, for instance")
        if self.seed == self.eval_seed:
            raise AgentError(f"dev and eval seed are both {self.seed}: the eval seed must be another one")
        if not self.engines:
            raise AgentError("no engine is named: say --engine vllm, for instance")

    def to_json(self) -> dict[str, Any]:
        """A plain dict for the ledger."""
        data = asdict(self)
        return {**data, "model": {**data["model"], "path": str(self.model.path)}}

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Self:
        """The inverse of `to_json`."""
        model = Model(**{**data["model"], "path": Path(data["model"]["path"])})
        lists = {name: tuple(data[name]) for name in ("engines", "argv", "devices")}
        return cls(**{**data, **lists, "model": model})

    @property
    def method(self) -> str:
        """How tables call it: `agent:greedy`."""
        name = Path(self.argv[0]).stem if self.agent == "command" and self.argv else self.agent
        return f"agent:{name}"

    @property
    def quick(self) -> Fidelity:
        """What `./score --quick` runs: fewer requests, and in A and B shorter answers; the regime is kept."""
        return Fidelity(requests=QUICK_REQUESTS, output=QUICK_OUTPUT if self.scenario in ("A", "B") else 1.0)


@dataclass(frozen=True)
class AgentResult:
    """The `result` event of an agent run.

    Attributes:
        found: best valid full measurement during the run (dev seed); None where there is none.
        submitted: final scoring on the held-out seed: `score`, `valid`, `reason`, `speedup` (1.0 where
            it does not count; None without a torch baseline).
        gpu_seconds: from the agent's launch to the confirmed end of its process tree, all segments.
        split: GPU-seconds by what they went to: `start`, `measure`, `stop`, `idle`.
        outcomes: the agent's trials by state.
        configs: distinct launchers that were started or scored.
        notes: what the agent tried that the sandbox did not let through, by kind.
    """

    run: Path
    baseline: Mapping[str, Any] | None
    default: Mapping[str, Any] | None
    found: Mapping[str, Any] | None
    submitted: Mapping[str, Any] | None
    gpu_seconds: float
    split: Mapping[str, float]
    trials: int
    outcomes: Mapping[str, int]
    configs: int = 0
    notes: Mapping[str, int] = field(default_factory=dict)

    def to_json(self) -> dict[str, Any]:
        """The event's fields."""
        data = asdict(self)
        del data["run"]
        return data
