"""Flags that a person takes out of the planner's hands: `--fix` within a space, `--set` beyond it."""

from __future__ import annotations

import difflib
import json
from collections.abc import Mapping
from dataclasses import replace

from engines.argv import ENV
from engines.contract import Engine, Model, Value
from engines.ports import LOOPBACK
from engines.space import Parameter, Space, SpaceError

LEFT_OUT = "default"
"""What `--fix FLAG` stands for, and the other choice of a flag that only `--set` knows."""

_PORT = 8000

Pins = Mapping[str, Value]


def fixed(spaces: Mapping[str, Space], pins: Pins) -> dict[str, Space]:
    """The spaces with flags pinned to one of their choices; `default` is the engine's own.

    A flag reads `flag` (every engine whose space has it) or `engine/flag`. Raises SpaceError.
    """
    made = dict(spaces)
    for flag, value in pins.items():
        name, targets = _targets(flag, spaces, [each for each in spaces if _bare(flag) in spaces[each].names])
        if not targets:
            raise SpaceError(_unknown(flag, spaces))
        for target in targets:
            made[target] = made[target].fixed({name: _choice(made[target], name, value)})
    return made


def forced(
    spaces: Mapping[str, Space], pins: Pins, engines: Mapping[str, Engine], model: Model
) -> dict[str, Space]:
    """The spaces with flags that every trial gets, whatever the space offers.

    A flag reads `flag` (every engine that lists it) or `engine/flag`. Raises SpaceError: nothing lists it, or
    it is one that the launch sets itself.
    """
    made = dict(spaces)
    for flag, value in pins.items():
        name, targets = _targets(
            flag, spaces, [each for each in spaces if _lists(engines[each], _bare(flag))]
        )
        if not targets or not all(_lists(engines[target], name) for target in targets):
            raise SpaceError(_unlisted(flag, targets or list(spaces), engines))
        for target in targets:
            if name in _own(engines[target], model):
                raise SpaceError(f"--set {flag}: every launch of {target} sets --{name} itself; leave it out")
            made[target] = _forced(made[target], name, value)
    return made


def _targets(flag: str, spaces: Mapping[str, Space], everywhere: list[str]) -> tuple[str, list[str]]:
    engine, slash, name = flag.rpartition("/")
    if slash and engine not in spaces:
        raise SpaceError(f"{flag}: {engine} is not searched; name one of {', '.join(spaces)}")
    return name, [engine] if slash else everywhere


def _bare(flag: str) -> str:
    return flag.rpartition("/")[2]


def _forced(space: Space, name: str, value: Value) -> Space:
    if name not in space.names:
        typed = _plain(value)
        extra = Parameter(name, (LEFT_OUT, typed), LEFT_OUT, note="set by hand")
        return replace(space, parameters=(*space.parameters, extra)).fixed({name: typed})
    typed = _choice(space, name, value)
    if not space[name].holds(typed):
        typed = _like(space[name], value)
        widened = replace(space[name], choices=(*space[name].choices, typed))
        parameters = tuple(widened if each.name == name else each for each in space.parameters)
        space = replace(space, parameters=parameters)
    return space.fixed({name: typed})


def _choice(space: Space, name: str, value: Value) -> Value:
    """The choice that a value typed at a shell stands for."""
    parameter = space[name]
    written = {str(choice).lower(): choice for choice in parameter.choices}
    if str(value) == LEFT_OUT and LEFT_OUT not in written:
        return parameter.default
    return value if value in parameter.choices else written.get(str(value).lower(), value)


def _like(parameter: Parameter, value: Value) -> Value:
    """A value of the choices' own type; where they are words, a word."""
    typed = _plain(value)
    words = all(isinstance(choice, str) for choice in parameter.choices)
    numbers = all(isinstance(choice, int | float) for choice in parameter.choices)
    if numbers and isinstance(typed, str):
        raise SpaceError(f"--set {parameter.name}={value}: it takes a number, such as {parameter.default}")
    return str(value) if words else typed


def _plain(value: Value) -> Value:
    """A number or a truth value where it reads as one."""
    try:
        read = json.loads(str(value).lower())
    except ValueError:
        return value
    return read if isinstance(read, bool | int | float) else value


def _lists(engine: Engine, name: str) -> bool:
    return name.startswith(ENV) or name.split(".")[0] in engine.flags()


def _own(engine: Engine, model: Model) -> frozenset[str]:
    """Flags of a launch without any config."""
    argv = engine.command({}, model, LOOPBACK, _PORT).argv
    return frozenset(word.removeprefix("--") for word in argv if word.startswith("--"))


def _unknown(flag: str, spaces: Mapping[str, Space]) -> str:
    known = sorted({name for space in spaces.values() for name in space.names})
    return (
        f"no flag {_bare(flag)!r} in the space of {', '.join(spaces)}: one of {', '.join(known)}; "
        "or give it to every launch with --set"
    )


def _unlisted(flag: str, targets: list[str], engines: Mapping[str, Engine]) -> str:
    name = _bare(flag)
    listed = sorted({each for target in targets for each in engines[target].flags()})
    near = difflib.get_close_matches(name.split(".")[0], listed, n=1)
    hint = f": did you mean {near[0]}?" if near else f": see the engine's own --help, or write {ENV}NAME"
    return f"--set {flag}: {' and '.join(targets)} as installed list no --{name.split('.')[0]}{hint}"
