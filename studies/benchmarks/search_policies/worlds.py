"""Worlds by name: the simulated engine's landscapes, and files of recorded trials."""

from __future__ import annotations

from functools import cache
from pathlib import Path

from engines.simulated.settings import LANDSCAPES
from scenarios import profiles
from studies.benchmarks.search_policies.recorded import RecordedWorld
from studies.benchmarks.search_policies.world import SimulatedWorld, World
from studies.errors import BadInput

RACED = ("eager-dominates", "fidelity-disagrees", "crashy", "default-best")
"""The landscapes of a race, unless others are named."""


@cache
def world(name: str, setting: str) -> World:
    """The world of a landscape's name, or of a file of recorded trials; `setting` reads `gpu-short/C`.

    Raises BadInput, ScenarioError.
    """
    wanted, _, letter = setting.rpartition("/")
    profile = profiles.profile(wanted)
    shape = profiles.scenario(profile, letter)
    if name in LANDSCAPES:
        return SimulatedWorld(name, profile, shape)
    path = Path(name)
    if path.exists():
        return RecordedWorld.load(path, profile, shape)
    raise BadInput(f"no landscape {name!r}: one of {', '.join(LANDSCAPES)}, or a table or runs of trials")
