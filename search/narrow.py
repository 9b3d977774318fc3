"""Leaves out of a space what the engine's static guards refuse in every config for this model and host."""

from __future__ import annotations

import random
from dataclasses import replace

from engines.contract import Engine, Infeasible, Model, Value
from engines.host import Host
from engines.space import Parameter, Space

DRAWS = 40
"""Configs drawn with a choice before it counts as refused in all."""


def narrowed(space: Space, engine: Engine, model: Model, host: Host) -> Space:
    """The space without choices that no drawn config can carry; `left_out` gains the guard's own words.

    Speculation with random weights, say: a planner would else propose it for ever, each time to be refused.
    """
    made = space
    for parameter in space.free:
        if not all(set(made[parent].choices) & set(allowed) for parent, allowed in parameter.when.items()):
            continue
        refused = {
            choice: why
            for choice in parameter.choices
            if choice != parameter.default
            and (why := _refusal(space, parameter, choice, engine, model, host))
        }
        made = _without(made, parameter, refused)
    return made


def _refusal(
    space: Space, parameter: Parameter, choice: Value, engine: Engine, model: Model, host: Host
) -> str | None:
    """What the guard says where it refuses every draw, None where one passes."""
    draw = random.Random(f"{parameter.name}={choice}")
    why = None
    for _ in range(DRAWS):
        values = {each.name: draw.choice(each.choices) for each in space.free}
        values |= {parent: draw.choice(allowed) for parent, allowed in _parents(space, parameter)}
        try:
            engine.check(space.canonical({**values, parameter.name: choice}), model, host)
        except Infeasible as error:
            why = str(error)
        else:
            return None
    return why


def _parents(space: Space, parameter: Parameter) -> list[tuple[str, tuple[Value, ...]]]:
    above = [pair for parent in parameter.when for pair in _parents(space, space[parent])]
    return [*above, *parameter.when.items()]


def _without(space: Space, parameter: Parameter, refused: dict[Value, str]) -> Space:
    if not refused:
        return space
    kept = tuple(choice for choice in parameter.choices if choice not in refused)
    named = ", ".join(map(str, refused))
    left_out = {**space.left_out, f"{parameter.name}={named}": next(iter(refused.values()))}
    smaller = replace(
        space,
        left_out=left_out,
        parameters=tuple(
            replace(each, choices=kept) if each.name == parameter.name else each for each in space.parameters
        ),
    )
    return smaller if len(kept) > 1 else smaller.fixed({parameter.name: parameter.default})
