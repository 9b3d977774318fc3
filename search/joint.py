"""Several engines' spaces as one: the engine is the root choice, each engine's flags are its children.

A joint space is an ordinary `Space`, so that every planner searches it as it searches one engine's. Flags are
named `<engine>/<flag>`; the first engine's untouched default is `{}`, as in every space.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

from engines.contract import Config, Value
from engines.space import Parameter, Space

ENGINE = "engine"


def joint(spaces: Mapping[str, Space]) -> Space:
    """The space over all of them; of a single engine too, so that nothing above needs to tell them apart."""
    names = tuple(spaces)
    root = Parameter(ENGINE, names, names[0])
    children = [_child(engine, each) for engine, space in spaces.items() for each in space.parameters]
    pinned = {_name(e, flag): value for e, space in spaces.items() for flag, value in space.pinned.items()}
    return Space("+".join(names), (root, *children), pinned=pinned)


def merged(space: Space, engine: str, config: Config) -> dict[str, Value]:
    """An engine's config in the joint space, canonical."""
    return space.canonical({ENGINE: engine, **{_name(engine, flag): value for flag, value in config.items()}})


def split(space: Space, config: Config) -> tuple[str, dict[str, Value]]:
    """The inverse of `merged`."""
    engine = str(config.get(ENGINE, space[ENGINE].default))
    prefix = _name(engine, "")
    return engine, {flag.removeprefix(prefix): value for flag, value in config.items() if flag != ENGINE}


def _child(engine: str, parameter: Parameter) -> Parameter:
    when = {_name(engine, parent): allowed for parent, allowed in parameter.when.items()}
    return replace(parameter, name=_name(engine, parameter.name), when={ENGINE: (engine,), **when})


def _name(engine: str, flag: str) -> str:
    return f"{engine}/{flag}"
