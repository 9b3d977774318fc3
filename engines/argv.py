"""Turns a config into the arguments and variables of a launch."""

from __future__ import annotations

import difflib
import json
from collections.abc import Collection
from typing import Any

from engines.contract import Config, UnsupportedFlag, Value

UNSET = ("none", "default")
"""Values that leave a flag out: `none` switches a feature off, `default` lets the engine choose a value."""

ENV = "env."


def render(config: Config, listed: Collection[str], engine: str) -> tuple[list[str], dict[str, str]]:
    """Arguments and variables, in the config's order.

    `flag.key` gathers into one JSON object per flag, as in `--speculative-config '{"method": "ngram"}'`.
    False becomes `--no-flag` where the CLI lists that, and nothing where the flag is a bare switch.

    Raises:
        UnsupportedFlag: a flag is not among `listed`, the flags of the installed version.
    """
    arguments: list[str] = []
    variables: dict[str, str] = {}
    objects: dict[str, dict[str, Any]] = {}
    for name, value in config.items():
        if value in UNSET and isinstance(value, str):
            continue
        if name.startswith(ENV):
            variables[name.removeprefix(ENV)] = _word(value)
            continue
        flag, *keys = name.split(".")
        if flag not in listed:
            raise UnsupportedFlag(_unsupported(flag, listed, engine))
        if keys:
            _put(objects.setdefault(flag, {}), keys, value)
        else:
            arguments += _flag(flag, value, listed)
    for flag, content in objects.items():
        arguments += [f"--{flag}", json.dumps(content)]
    return arguments, variables


def _flag(flag: str, value: Value, listed: Collection[str]) -> list[str]:
    if value is True:
        return [f"--{flag}"]
    if value is False:
        return [f"--no-{flag}"] if f"no-{flag}" in listed else []
    return [f"--{flag}", str(value)]


def _word(value: Value) -> str:
    return str(int(value)) if isinstance(value, bool) else str(value)


def _put(content: dict[str, Any], keys: list[str], value: Value) -> None:
    for key in keys[:-1]:
        content = content.setdefault(key, {})
    content[keys[-1]] = value


def _unsupported(flag: str, listed: Collection[str], engine: str) -> str:
    near = difflib.get_close_matches(flag, listed, n=1)
    hint = f"; did you mean --{near[0]}?" if near else ""
    return f"{engine} does not list --{flag}{hint}"
