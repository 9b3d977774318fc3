"""One run of a study: a method on one scenario, at one budget, with one seed pair."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from studies.durations import short


@dataclass(frozen=True)
class Cell:
    """Everything that tells one run of a study from another.

    Attributes:
        method: a planner's or an agent's name.
        strategy: how a search spends its budget; None is its own default.
        model: a directory, or a name that `ceiling models fetch` knows.
        budget: GPU-seconds.
        seeds: (dev, eval).
        quality: task whose questions end the prompts of the final measurements; None: none.
    """

    kind: Literal["search", "agent"]
    method: str
    strategy: str | None
    engines: tuple[str, ...]
    scenario: str
    profile: str
    model: str
    text: str | None
    budget: float
    devices: int
    seeds: tuple[int, int]
    repeat: int
    quality: str | None = None

    @property
    def name(self) -> str:
        """Its directory's name below the study's."""
        parts = [
            Path(self.profile).stem,
            self.scenario,
            "+".join(self.engines),
            f"agent-{self.method}" if self.kind == "agent" else self.method,
            *([self.strategy] if self.strategy else []),
            short(self.budget),
            *([f"{self.devices}x"] if self.devices > 1 else []),
            f"s{self.seeds[0]}",
            *([f"r{self.repeat}"] if self.repeat > 1 else []),
            *([self.quality.partition(":")[0]] if self.quality else []),
        ]
        return "-".join(parts)
