"""Engines by name: the built-in ones, and those that other distributions add as `ceiling.engines`."""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache
from importlib.metadata import EntryPoint, entry_points
from pkgutil import resolve_name

from engines.contract import Engine, UnknownEngine

GROUP = "ceiling.engines"
"""Entry point group; an entry's object is called without arguments and gives an Engine."""

BUILT_IN: Mapping[str, str] = {
    "torch": "engines.torch_engine:Torch",
    "vllm": "engines.vllm:Vllm",
    "sglang": "engines.sglang:SGLang",
    "tgi": "engines.tgi:TGI",
    "simulated": "engines.simulated.engine:Simulated",
}
"""Name -> where its class is; imported when asked for, so that listing engines costs nothing."""


def names() -> tuple[str, ...]:
    """Names of all engines, built-in ones first."""
    return (*BUILT_IN, *sorted(set(_added()) - set(BUILT_IN)))


@cache
def engine(name: str) -> Engine:
    """The engine of that name, one object a process. Raises UnknownEngine, which names the known ones."""
    if name in BUILT_IN:
        made = resolve_name(BUILT_IN[name])()
    elif name in _added():
        made = _made(_added()[name])
    else:
        raise UnknownEngine(f"no engine {name!r}: one of {', '.join(names())}")
    if not isinstance(made, Engine):
        raise UnknownEngine(f"{name}: {type(made).__qualname__} does not provide what an engine must")
    return made


def _made(entry: EntryPoint) -> object:
    try:
        return entry.load()()
    except (ImportError, AttributeError) as error:
        raise UnknownEngine(
            f"engine {entry.name!r} does not load from {entry.value}: {error}; reinstall {_owner(entry)}"
        ) from error


def _owner(entry: EntryPoint) -> str:
    return entry.dist.name if entry.dist is not None else "its package"


def _added() -> dict[str, EntryPoint]:
    return {entry.name: entry for entry in entry_points(group=GROUP)}
