"""What a judgement rests on besides the rows, and the shape of a check."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

import pandas as pd

from scenarios.authenticity.evidence import Text
from scenarios.bystanders import Bystanders
from scenarios.measurement import Reason
from scenarios.requests import Reduced
from scenarios.roofline import Roofline
from scenarios.scenario import Scenario, Traffic

LIMIT = 0.01
"""Share of requests that may fail, or be short or long, before the measurement is void."""


@dataclass(frozen=True)
class Facts:
    """One measurement's circumstances.

    Attributes:
        asked: requests by traffic that were to be sent.
        weights: with `dummy` weights text is noise, and the checks on it do not apply.
        template_tokens: tokens that all prompts begin with (chat template).
        loop_lag: by how much the client's event loop came late, p95 in seconds, of the worst stage.
        busy: share of its core that the busiest sender took.
        before, after: what the server said of itself; `after` None when it no longer answered.
        text: what is known of where the answers come from.
        quality: what a task's questions in the traffic came to (`Quality` as a dict), where one was mixed in.
        bystanders: what else ran on the server's machine, None where that is another one.
    """

    scenario: Scenario
    asked: Mapping[str, int]
    weights: Literal["real", "dummy"] = "real"
    template_tokens: int = 0
    loop_lag: float = 0.0
    busy: float = 0.0
    before: Mapping[str, Any] | None = None
    after: Mapping[str, Any] | None = None
    roofline: Roofline | None = None
    bystanders: Bystanders | None = None
    text: Text = field(default_factory=Text)
    quality: Mapping[str, Any] | None = None
    extra: Mapping[str, Any] = field(default_factory=dict)

    def traffic(self, name: str) -> Traffic:
        """A traffic by name."""
        return next(traffic for traffic in self.scenario.traffics if traffic.name == name)


@dataclass(frozen=True)
class Case:
    """Rows and facts, as every check gets them."""

    reduced: Reduced
    facts: Facts

    @property
    def scored(self) -> pd.DataFrame:
        """The scored requests."""
        return self.reduced.scored

    @property
    def whole(self) -> pd.DataFrame:
        """The scored requests that were answered in full."""
        scored = self.scored
        return scored[scored["good"]]

    @property
    def simulated(self) -> bool:
        """Whether the server says that it only plays one: then it has no device."""
        return (self.facts.before or {}).get("owners") == ["simulated"]

    @property
    def asked(self) -> int:
        """How many requests were to be scored."""
        return sum(self.facts.asked.values())


Check = Callable[[Case], Reason | None]


def seconds(value: float) -> str:
    """A duration for people."""
    return f"{value:.2f} s" if value >= 1 else f"{value * 1e3:.1f} ms"
