"""What every engine adapter provides, and the words that the upper floors use for it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Literal, Protocol, runtime_checkable

if TYPE_CHECKING:
    from engines.host import Host
    from engines.runtime import Runtime
    from engines.space import Space

Value = bool | int | float | str
"""A flag's value. True is a bare switch (`--enforce-eager`), False its `--no-` form."""

Config = Mapping[str, Value]
"""Flags of one server as the engine's CLI spells them, without dashes; `env.NAME` sets a variable.

Only what differs from the engine's own defaults is present: `{}` is the untouched default launch.
"""


class EngineError(Exception):
    """Base of everything this floor raises. The message is one line that names the fix."""


class UnknownEngine(EngineError):
    """No engine of that name is registered."""


class EngineNotInstalled(EngineError):
    """The engine's program is not on this machine; the message names the command that mends it."""


class UnsupportedFlag(EngineError):
    """The installed version's own CLI does not list a flag of the config."""


class Infeasible(EngineError):
    """A static guard refuses the config before anything is launched."""


class CrashClass(StrEnum):
    """Why a server died, read from the tail of its log."""

    OUT_OF_MEMORY = "out-of-memory"
    UNSUPPORTED_FLAG = "unsupported-flag"
    INCOMPATIBLE_FLAGS = "incompatible-flags"
    PORT = "port"
    START_TIMEOUT = "start-timeout"
    DIED = "died-after-ready"
    TEARDOWN = "teardown"
    UNKNOWN = "unknown"


class ServerCrashed(EngineError):
    """A server did not become ready, or died afterwards.

    Attributes:
        crash: its class.
        tail: the last lines of its log.
    """

    def __init__(self, crash: CrashClass, detail: str, tail: str = "") -> None:
        super().__init__(detail)
        self.crash = crash
        self.detail = detail
        self.tail = tail

    def __reduce__(self) -> tuple[type[ServerCrashed], tuple[CrashClass, str, str]]:
        return type(self), (self.crash, self.detail, self.tail)


@dataclass(frozen=True)
class Model:
    """A model directory in Hugging Face layout, as an engine is asked to serve it.

    `max_length` is the context that the profile needs (tokens); None leaves the model's own.
    `weights="dummy"` loads random weights: good for speed, useless for text.
    """

    path: Path
    name: str
    max_length: int | None = None
    weights: Literal["real", "dummy"] = "real"


@dataclass(frozen=True)
class Launch:
    """A command line and the variables to add to a clean environment.

    `container` is the tool's binary where argv starts a container that the tool's own end does not end.
    """

    argv: tuple[str, ...]
    env: Mapping[str, str] = field(default_factory=dict)
    container: str | None = None


@dataclass(frozen=True)
class Capabilities:
    """What an engine's HTTP interface can do.

    `reset_prefix_cache` is the path to POST to, None where there is none. `names_model` is False where the
    model is served under its path, whatever name it has.
    """

    force_length: bool
    usage: bool
    logprobs: bool
    reset_prefix_cache: str | None = None
    names_model: bool = True


@runtime_checkable
class Engine(Protocol):
    """One engine. Third parties add one by the entry point group `ceiling.engines`.

    What is optional: `warm` (engines/warm.py), and `restart_share`, the share of a config's first start that
    its next one takes, where an engine keeps what it compiles.
    """

    name: str
    capabilities: Capabilities
    default_config: Config
    real: bool
    """False for the simulated engine: its scores are never reported as a measurement of an engine."""

    def runtime(self) -> Runtime:
        """How its program is found. Raises EngineNotInstalled."""
        ...

    def space(self, host: Host) -> Space:
        """The space of the installed version, less what this host's device cannot do."""
        ...

    def flags(self) -> frozenset[str]:
        """Flags that the installed version's own CLI lists (asked once a version, then cached)."""
        ...

    def command(self, config: Config, model: Model, host: str, port: int) -> Launch:
        """Argv and environment of a server. Raises UnsupportedFlag before any GPU time is spent."""
        ...

    def check(self, config: Config, model: Model, host: Host) -> None:
        """Static guards. Raises Infeasible at no cost."""
        ...

    def ready(self, url: str) -> bool:
        """Whether the server at `url` answers as ready now. Never blocks over two seconds."""
        ...

    def devices(self, config: Config) -> int:
        """Devices that a server of this config holds (tensor parallel x data parallel)."""
        ...

    def crash(self, tail: str) -> CrashClass:
        """Class of a death from the tail of the log."""
        ...

    def start_timeout(self, config: Config) -> float:
        """Seconds after which a start counts as hung."""
        ...


def restart_share(engine: Engine) -> float:
    """Share of a config's first start that its next one takes; 1 where the engine does not say."""
    return float(getattr(engine, "restart_share", 1.0))
