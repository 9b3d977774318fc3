"""Walks over a conditional space: one config drawn, all configs listed, a config as a vector."""

from __future__ import annotations

import json
import random
from collections.abc import Callable, Iterator, Sequence

import numpy as np
import numpy.typing as npt

from engines.contract import Config, Value
from engines.space import Parameter, Space


def key(config: Config) -> str:
    """One string a config, the same for equal configs; `True` and `1` stay apart."""
    return json.dumps(dict(config), sort_keys=True)


def varied(space: Space) -> tuple[Parameter, ...]:
    """The parameters with a choice left."""
    return tuple(parameter for parameter in space.free if len(parameter.choices) > 1)


def walk(space: Space, choose: Callable[[Parameter], Value]) -> dict[str, Value]:
    """A canonical config: `choose` is asked for every parameter that its parents' values make active."""
    values: dict[str, Value] = dict(space.pinned)
    for parameter in varied(space):
        if space.active(parameter.name, values):
            values[parameter.name] = choose(parameter)
    return space.canonical(values)


def draw(space: Space, rng: random.Random) -> dict[str, Value]:
    """A config, uniform over the choices of each active parameter."""
    return walk(space, lambda parameter: rng.choice(parameter.choices))


def every(space: Space) -> Iterator[dict[str, Value]]:
    """All canonical configs of a space, the default first; endless for practical purposes in a wide one."""
    yield from _branches(space, varied(space), dict(space.pinned))


def _branches(
    space: Space, rest: tuple[Parameter, ...], values: dict[str, Value]
) -> Iterator[dict[str, Value]]:
    if not rest:
        yield space.canonical(values)
        return
    first, others = rest[0], rest[1:]
    if not space.active(first.name, values):
        yield from _branches(space, others, values)
        return
    for value in sorted(first.choices, key=lambda choice: choice != first.default):
        yield from _branches(space, others, {**values, first.name: value})


class Encoder:
    """A config as a vector in [0, 1]^n: ordered by rank, others one-hot, inactive ones at their default."""

    def __init__(self, space: Space) -> None:
        self._parameters = varied(space)
        self.width = sum(_width(parameter) for parameter in self._parameters)

    def __call__(self, config: Config) -> npt.NDArray[np.float64]:
        """Shape (width,)."""
        if not self._parameters:
            return np.zeros(0)
        return np.concatenate(
            [_coordinates(each, config.get(each.name, each.default)) for each in self._parameters]
        )

    def matrix(self, configs: Sequence[Config]) -> npt.NDArray[np.float64]:
        """Shape (configs, width)."""
        return np.stack([self(config) for config in configs])


def _width(parameter: Parameter) -> int:
    return 1 if parameter.ordered or len(parameter.choices) == 2 else len(parameter.choices)


def _coordinates(parameter: Parameter, value: Value) -> npt.NDArray[np.float64]:
    rank = parameter.choices.index(value)
    if _width(parameter) == 1:
        return np.array([rank / (len(parameter.choices) - 1)])
    one_hot = np.zeros(len(parameter.choices))
    one_hot[rank] = 1.0
    return one_hot
