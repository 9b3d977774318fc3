"""Worlds: what a config is worth, how long it takes to start and to measure, and how it fails."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import Protocol

from engines.contract import Config
from engines.host import Device, Host
from engines.simulated.engine import VERSION
from engines.simulated.settings import Settings, Simulation
from engines.space import Space
from engines.space_file import written
from scenarios.scenario import FULL, Fidelity, Profile, Scenario
from studies.benchmarks.search_policies.serving import Figures, Serving

ENGINE = "simulated"

START_SECONDS = 90.0
"""Of the default config: vLLM on an H100 takes 64 s with warm caches, and 25 s more to compile anew."""

STOP_SECONDS = 5.0


@dataclass(frozen=True)
class Start:
    """A start: wall seconds, and the crash that ended it, if one did."""

    seconds: float
    crash: str | None = None


class World(Protocol):
    """Answers for trials without running them, and knows what no search does: the truth."""

    name: str
    scenario: Scenario
    profile: Profile
    spaces: Mapping[str, Space]
    restarts: Mapping[str, float]
    """Engine -> share of a config's first start that its next one takes; 1 where it is not told."""

    def refusal(self, engine: str, config: Config) -> str | None:
        """Why the static guards refuse a config; None where they let it pass."""
        ...

    def start(self, engine: str, config: Config) -> Start:
        """What launching it takes the first time."""
        ...

    def figures(self, engine: str, config: Config, fidelity: Fidelity, served: int) -> Figures:
        """A scoring without noise of a server that has answered `served` requests before."""
        ...

    def truth(self, engine: str, config: Config) -> float:
        """The whole scenario's score on a fresh server, without noise."""
        ...


class SimulatedWorld:
    """The simulated engine's performance model with one of its landscapes."""

    def __init__(self, landscape: str, profile: Profile, scenario: Scenario) -> None:
        self.name = landscape
        self.scenario = scenario
        self.profile = profile
        self.spaces: Mapping[str, Space] = {ENGINE: _space()}
        self.restarts: Mapping[str, float] = {}

    def refusal(self, engine: str, config: Config) -> str | None:
        """What the adapter's guards say."""
        return self._serving(config).refusal

    def start(self, engine: str, config: Config) -> Start:
        """As long as the performance model says, cut short by a crash."""
        serving = self._serving(config)
        seconds = START_SECONDS * serving.start_share
        if serving.crash is None:
            return Start(seconds)
        return Start(seconds * serving.crash.when, serving.crash.error)

    def figures(self, engine: str, config: Config, fidelity: Fidelity, served: int) -> Figures:
        """From the closed form of the performance model."""
        return self._serving(config).figures(self.scenario, fidelity, served)

    def truth(self, engine: str, config: Config) -> float:
        """The full scenario on a fresh server."""
        return self.figures(engine, config, FULL, 0).score

    def _serving(self, config: Config) -> Serving:
        longest = self.profile.max_length or 32768
        return _serving(self.name, tuple(sorted(config.items())), longest)


@lru_cache(maxsize=4096)
def _serving(landscape: str, flags: tuple[tuple[str, object], ...], max_length: int) -> Serving:
    given = {flag.replace("-", "_"): value for flag, value in flags}
    return Serving(Settings(**given), landscape, Simulation.aging_requests, max_length)  # type: ignore[arg-type]


def _space() -> Space:
    device = Device(0, "cuda", "imaginary", 80 << 30)
    return written(ENGINE, VERSION).space(Host((device,), 16, 128 << 30))
