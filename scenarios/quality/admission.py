"""Whether a task's questions can ride in a run's final measurements, told before anything is spent."""

from __future__ import annotations

from collections.abc import Sequence

from engines.contract import Engine, Model
from engines.reference import ENGINE
from engines.runtime import find
from scenarios import models
from scenarios.quality import mix
from scenarios.quality.gate import LEVEL, at_least
from scenarios.quality.tasks import TaskError, items, kind
from scenarios.scenario import Plan

FEWEST = next(count for count in range(1, 100) if at_least(count, count) < LEVEL)
"""Questions with which a server that loses them all is voided."""


def admit(task: str, plan: Plan, model: Model, engines: Sequence[Engine] = ()) -> None:
    """Check that the task can be asked of servers of these engines, and its answers judged.

    Raises TaskError, EngineNotInstalled (the torch engine gives the model's own answers), ModelError, and as
    `workload.build` does, each in one line that names the fix.
    """
    items(task)
    name = kind(task)
    if model.weights == "dummy":
        raise TaskError(f"random weights answer no question: leave --quality {name} out for {model.name}")
    for engine in engines:
        if not engine.real:
            raise TaskError(
                f"the text of {engine.name} comes from no model: leave --quality {name} out, or name a real "
                "engine"
            )
    find(ENGINE)
    models.check_weights(model)
    _, questions = mix.asked(plan, model, task)
    if len(questions) < FEWEST:
        raise TaskError(
            f"scenario {plan.scenario} of profile {plan.profile} has room for {len(questions)} questions of "
            f"{name}, and {FEWEST} are the fewest that can void anything: use another scenario or profile"
        )
