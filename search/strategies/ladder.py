"""The fidelity ladder: a scenario in blocks of fresh requests, each large enough to keep its regime."""

from __future__ import annotations

from scenarios.scenario import FULL, Fidelity, Plan, Scenario
from search.strategies.strategy import Setting

LADDERS = ((0.125, 0.125, 0.25, 0.5), (0.25, 0.25, 0.5), (0.5, 0.5))
"""Shares of a scenario's requests, block by block; the finest whose first block keeps the regime is used."""

FEWEST = 5
"""Requests that a block needs at least."""

TURNOVERS = 0.5
"""Requests that a block's share must come to for each one in flight. The scorer sends at least one for each:
a smaller share would cost as much, and be a smaller part of the scenario in name only.
"""


def ladder(setting: Setting) -> tuple[Plan, ...]:
    """Plans on the dev seed, together as many requests as the whole scenario."""
    shares = next((each for each in LADDERS if keeps_regime(setting.scenario, each[0])), (1.0,))
    return tuple(
        plan(setting, setting.dev_seed, Fidelity(requests=share, block=block))
        for block, share in enumerate(shares)
    )


def keeps_regime(scenario: Scenario, share: float) -> bool:
    """Whether this share of each traffic's requests still fills the server as the scenario does."""
    return all(
        share * traffic.requests >= max(FEWEST, TURNOVERS * (traffic.concurrency or 1))
        for traffic in scenario.traffics
    )


def held_out(setting: Setting, block: int = 0) -> Plan:
    """The whole scenario on the eval seed; another block draws other requests."""
    return plan(setting, setting.eval_seed, Fidelity(block=block) if block else FULL)


def plan(setting: Setting, seed: int, fidelity: Fidelity) -> Plan:
    """A plan of the search's scenario."""
    return Plan(setting.scenario.letter, setting.profile, seed, fidelity, setting.text)
