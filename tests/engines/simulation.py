"""Runs the simulated engine's scheduler without a server or a clock."""

from __future__ import annotations

from engines.simulated.performance import Costs, step_seconds
from engines.simulated.scheduler import Scheduler, Sequence
from engines.simulated.settings import Settings


def seconds(settings: Settings, costs: Costs, sequences: list[Sequence], capacity: int = 10**6) -> float:
    """Time in which a scheduler finishes these sequences, all there from the beginning."""
    scheduler = Scheduler(settings, capacity)
    for sequence in sequences:
        scheduler.submit(sequence)
    total = 0.0
    while step := scheduler.plan():
        total += step_seconds(costs, step.work)
        scheduler.finish(step)
    assert all(sequence.produced == sequence.target for sequence in sequences)
    return total


def burst(count: int, prompt: int = 100, target: int = 50) -> list[Sequence]:
    return [Sequence(prompt, target) for _ in range(count)]
