"""How an engine's program is found on this machine."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal


@dataclass(frozen=True)
class Runtime:
    """Where an engine's program is.

    Attributes:
        kind: `venv` (made by `ceiling engines install`), `python` (an interpreter and variables),
            `path` (a binary on PATH), `container`.
        program: the start of the argv: an interpreter, or a binary.
        env: variables that the program needs (a PYTHONPATH, say).
        version: the engine's version.
    """

    kind: Literal["venv", "python", "path", "container"]
    program: tuple[str, ...]
    version: str
    env: Mapping[str, str] = field(default_factory=dict)
