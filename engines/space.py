"""Conditional, typed spaces of configs, read from a small declarative file an engine release."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property

from engines.contract import Config, Value


class SpaceError(ValueError):
    """A space, or a config against its space, is wrong. The message is one line."""


@dataclass(frozen=True)
class Parameter:
    """One flag and the values that a search may give it.

    Attributes:
        name: the flag without dashes, or `env.NAME`.
        choices: the values, in order where `ordered`.
        ordered: whether neighbouring choices are alike (planners then treat the index as a number).
        default: the engine's own default on this device, which is among `choices`. A config leaves a flag
            at its default out, so that the engine decides as if nobody had asked.
        when: parameter name -> values under which this one is active.
        devices: device kinds that can do it.
        note: one line for people: what it does.
    """

    name: str
    choices: tuple[Value, ...]
    default: Value
    ordered: bool = False
    when: Mapping[str, tuple[Value, ...]] = field(default_factory=dict)
    devices: tuple[str, ...] = ("cuda", "cpu")
    note: str = ""

    def __post_init__(self) -> None:
        if not self.holds(self.default):
            raise SpaceError(f"{self.name}: default {self.default!r} is not among its choices")

    def holds(self, value: Value) -> bool:
        """Whether a value is among the choices; True is no 1 and False no 0, for they render differently."""
        return any(
            value == choice and isinstance(value, bool) == isinstance(choice, bool) for choice in self.choices
        )


@dataclass(frozen=True)
class Space:
    """Parameters of one engine, parents before children.

    `left_out` says what this version or device cannot do, and why; `pinned` values are no planner's to vary;
    `experts` are configs that people who tune this engine by hand try first.
    """

    engine: str
    parameters: tuple[Parameter, ...]
    left_out: Mapping[str, str] = field(default_factory=dict)
    pinned: Config = field(default_factory=dict)
    experts: tuple[Config, ...] = ()

    def __post_init__(self) -> None:
        seen: set[str] = set()
        for parameter in self.parameters:
            for parent in parameter.when:
                if parent not in seen:
                    raise SpaceError(f"{parameter.name}: its condition {parent!r} is not defined before it")
            if parameter.name in seen:
                raise SpaceError(f"{parameter.name}: defined twice")
            seen.add(parameter.name)

    def __iter__(self) -> Iterator[Parameter]:
        return iter(self.parameters)

    def __getitem__(self, name: str) -> Parameter:
        parameter = self._by_name.get(name)
        if parameter is None:
            raise SpaceError(f"{self.engine} has no parameter {name!r}: one of {', '.join(self.names)}")
        return parameter

    @cached_property
    def _by_name(self) -> Mapping[str, Parameter]:
        return {parameter.name: parameter for parameter in self.parameters}

    @cached_property
    def free(self) -> tuple[Parameter, ...]:
        """The parameters that a planner may vary."""
        return tuple(parameter for parameter in self.parameters if parameter.name not in self.pinned)

    @property
    def names(self) -> tuple[str, ...]:
        """Names of the parameters, in order."""
        return tuple(parameter.name for parameter in self.parameters)

    def active(self, name: str, values: Config) -> bool:
        """Whether a parameter takes part, given the values of its parents (absent = default)."""
        for parent, allowed in self[name].when.items():
            if values.get(parent, self[parent].default) not in allowed or not self.active(parent, values):
                return False
        return True

    def canonical(self, values: Config) -> dict[str, Value]:
        """The config with pinned values, without inactive flags and without flags at their default.

        Raises SpaceError for a name or a value that the space does not hold.
        """
        values = {**values, **self.pinned}
        self._check(values)
        return {
            parameter.name: values[parameter.name]
            for parameter in self.parameters
            if parameter.name in values
            and values[parameter.name] != parameter.default
            and self.active(parameter.name, values)
        }

    def filled(self, config: Config) -> dict[str, Value]:
        """A canonical config with the defaults of all active parameters written out."""
        return {
            parameter.name: config.get(parameter.name, parameter.default)
            for parameter in self.parameters
            if self.active(parameter.name, config)
        }

    def fixed(self, values: Config) -> Space:
        """The space with some parameters pinned to one value, which then no planner varies."""
        self._check(values)
        return replace(self, pinned={**self.pinned, **values})

    def _check(self, values: Config) -> None:
        for name, value in values.items():
            if not self[name].holds(value):
                choices = ", ".join(map(str, self[name].choices))
                raise SpaceError(f"{name}={value} is not in the space: one of {choices}")
