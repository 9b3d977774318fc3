"""`start_server.sh`: written for a config, read back, and started under the supervision of any engine."""

from __future__ import annotations

import json
import os
import re
import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import httpx

from agents.sandbox import Box
from agents.snapshot import digest, read_plain
from engines.contract import Capabilities, Config, CrashClass, Engine, Launch, Model
from engines.host import Host
from engines.runtime import Runtime
from engines.space import Space

LOGIN = "agent"
"""Whom a box takes its programs to be run by."""

FILE = "start_server.sh"
NAME = "launcher"
HINT = re.compile(r"^# CEILING_CONFIG (\{.*\})\s*$", re.MULTILINE)
HINT_LENGTH = 1 << 14
"""Characters of that line beyond which it is not read: parsing takes memory and time of the harness's."""
PATH = (
    "/usr/local/cuda/bin",
    *("/usr/local/bin", "/usr/bin", "/bin"),
    *("/usr/local/sbin", "/usr/sbin", "/sbin"),
)
_PORT = 61987
"""Stands for $PORT in a rendered command line."""


@dataclass(frozen=True)
class Script:
    """A `start_server.sh` as it was at one moment.

    `engine` and `config` are what its CEILING_CONFIG line says, `launcher` and the script's hash without one.
    """

    text: str
    sha256: str
    engine: str
    config: Config


def read_script(workspace: Path) -> Script:
    """The launcher of a workspace; an empty text where it is not a plain file."""
    data = read_plain(workspace / FILE) or b""
    text = data.decode(errors="replace")
    engine, config = _hint(text, digest(data))
    return Script(text, digest(data), engine, config)


def _hint(text: str, sha256: str) -> tuple[str, Config]:
    """What it says of itself, where a ledger can hold that; an agent may write anything there."""
    found = HINT.search(text)
    try:
        said = json.loads(found.group(1)) if found and len(found.group(1)) <= HINT_LENGTH else {}
        json.dumps(said, allow_nan=False, ensure_ascii=False).encode()
    except (ValueError, RecursionError):
        said = {}
    engine, config = said.get("engine"), said.get("config")
    if isinstance(engine, str) and isinstance(config, dict) and all(map(_plain, config.values())):
        return engine, config
    return NAME, {"script": sha256[:12]}


def _plain(value: object) -> bool:
    return isinstance(value, (str, bool, int, float))


def write_script(engine: Engine, config: Config, model: Model) -> str:
    """A ready-made `start_server.sh` for a config. Raises UnsupportedFlag, EngineNotInstalled."""
    launch = engine.command(config, model, "127.0.0.1", _PORT)
    said = json.dumps({"engine": engine.name, "config": dict(config)})
    exports = [f"export {name}={_quoted(value)}" for name, value in launch.env.items()]
    folder = Path(launch.argv[0]).parent
    if folder.is_absolute():
        exports.append(f'export PATH={_quoted(str(folder))}:"$PATH"')
    line = " ".join(map(_quoted, launch.argv))
    return "\n".join(["#!/bin/bash", f"# CEILING_CONFIG {said}", *exports, f"exec {line}", ""])


def _quoted(token: str) -> str:
    return '"$PORT"'.join(shlex.quote(part) if part else "" for part in token.split(str(_PORT))) or "''"


class Launcher:
    """Starts a workspace's `start_server.sh` in a box; the parts of an engine that a supervised start needs.

    Args:
        box: where it runs.
        env: the launcher's variables, but for HOST and PORT.
        limit: seconds in which it must be ready.
        devices: how many it holds.
        real: False in a run that has simulated engines only.
    """

    def __init__(
        self, box: Box, env: Mapping[str, str], limit: float, devices: int, *, real: bool = True
    ) -> None:
        self.name = NAME
        self.capabilities = Capabilities(force_length=True, usage=True, logprobs=False)
        self.default_config: Config = {}
        self.real = real
        self._box = box
        self._env = env
        self._limit = limit
        self._devices = devices

    def command(self, config: Config, model: Model, host: str, port: int) -> Launch:
        """The box's command line, with the port in the launcher's environment."""
        env = {**self._env, "HOST": host, "PORT": str(port)}
        return Launch(tuple(self._box.argv(["/bin/bash", f"./{FILE}"], env)))

    def ready(self, url: str) -> bool:
        """Whether `/v1/models` answers."""
        try:
            return httpx.get(f"{url}/v1/models", timeout=2.0, trust_env=False).is_success
        except httpx.HTTPError:
            return False

    def runtime(self) -> Runtime:
        """A shell."""
        return Runtime("path", ("/bin/bash",), "")

    def space(self, host: Host) -> Space:
        """Nothing to vary: the script decides."""
        return Space(NAME, ())

    def flags(self) -> frozenset[str]:
        """None."""
        return frozenset()

    def check(self, config: Config, model: Model, host: Host) -> None:
        """Nothing is refused beforehand."""

    def devices(self, config: Config) -> int:
        """All that the agent holds."""
        return self._devices

    def crash(self, tail: str) -> CrashClass:
        """Out of memory is told apart; the rest depends on whatever the script starts."""
        words = ("out of memory", "outofmemory", "no available memory")
        return CrashClass.OUT_OF_MEMORY if any(w in tail.lower() for w in words) else CrashClass.UNKNOWN

    def start_timeout(self, config: Config) -> float:
        """The limit given."""
        return self._limit


def environment(
    model: Model, cuda: Mapping[str, str], box: Box, extra_path: Sequence[str] = ()
) -> dict[str, str]:
    """The clean environment of a launcher and of an agent: an allow-list, nothing of the caller's.

    `cuda` holds what makes the devices visible; without it no GPU is.
    """
    return {
        "PATH": ":".join([*extra_path, *PATH]),
        "HOME": str(box.home),
        "TMPDIR": str(box.temporary),
        "USER": LOGIN,
        "LOGNAME": LOGIN,
        "LANG": "C.UTF-8",
        "MODEL_PATH": str(model.path),
        "SERVED_MODEL_NAME": model.name,
        "CUDA_VISIBLE_DEVICES": "",
        **machine(),
        **cuda,
    }


def machine() -> dict[str, str]:
    """The caller's variables that say where this machine's drivers and libraries are."""
    return {
        name: value
        for name, value in os.environ.items()
        if name in ("LD_LIBRARY_PATH", "TZ") or name.startswith(("CUDA_", "NVIDIA_", "NCCL_"))
    }
