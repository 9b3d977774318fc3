"""The adapter of the simulated engine: always installed, started by the harness's own interpreter."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import Any

from engines import argv, guards
from engines.contract import Capabilities, Config, CrashClass, Infeasible, Launch, Model
from engines.crash_log import classify
from engines.health import answers
from engines.host import Host
from engines.model_shape import ModelShape, shape_of
from engines.runtime import Runtime
from engines.simulated import crashes, settings
from engines.simulated.settings import Settings
from engines.space import Space
from engines.space_file import written

VERSION = "1"
MODULE = "engines.simulated.server"


class Simulated:
    """An engine whose speed is a function of its config, for tests, dry runs and research on searches.

    Parameters of the simulation itself (landscape, speed, noise seed ...) are no part of the space. They are
    variables of the harness, CEILING_SIM_LANDSCAPE and so on, that `command` hands to the server; see
    `engines.simulated.settings.Simulation`.
    """

    name = "simulated"
    real = False
    capabilities = Capabilities(
        force_length=True, usage=True, logprobs=False, reset_prefix_cache="/reset_prefix_cache"
    )

    def __init__(self) -> None:
        self.default_config: Config = {}

    def runtime(self) -> Runtime:
        """The interpreter that runs this."""
        root = str(Path(__file__).parents[2])
        return Runtime("python", (sys.executable,), VERSION, {"PYTHONPATH": root})

    def space(self, host: Host) -> Space:
        """The space, with as many tensor-parallel ranks as the host has devices."""
        return written(self.name, VERSION).space(host, VERSION, dict.fromkeys(self.flags(), ()))

    def flags(self) -> frozenset[str]:
        """Flags that the server lists."""
        return settings.flags()

    def command(self, config: Config, model: Model, host: str, port: int) -> Launch:
        """`python -m engines.simulated.server ...`. Raises UnsupportedFlag."""
        runtime = self.runtime()
        rendered, variables = argv.render(config, self.flags(), self.name)
        arguments = ["--model", str(model.path.absolute()), "--served-model-name", model.name]
        arguments += ["--host", host, "--port", str(port)]
        if model.max_length is not None:
            arguments += ["--max-model-len", str(model.max_length)]
        own = {name: value for name, value in os.environ.items() if name.startswith(settings.PREFIX)}
        return Launch(
            (*runtime.program, "-m", MODULE, *arguments, *rendered), {**runtime.env, **own, **variables}
        )

    def check(self, config: Config, model: Model, host: Host) -> None:
        """Static guards: flags that contradict one another or the model. Raises Infeasible."""
        guards.devices_there(self.devices(config), host)
        shape = shape_of(model)
        if shape is None:
            raise Infeasible(f"{model.path / 'config.json'} is not there, or is no decoder's")
        guards.length_fits(shape, model.max_length, "max-model-len")
        reason = crashes.incompatible(_settings(config), shape, _length(model, shape))
        if reason is not None:
            raise Infeasible(reason)

    def ready(self, url: str) -> bool:
        """The server listens only once its start-up is over."""
        return answers(url)

    def devices(self, config: Config) -> int:
        """Tensor-parallel ranks."""
        return int(config.get("tensor-parallel-size", 1))

    def crash(self, tail: str) -> CrashClass:
        """Class of a death from the tail of the log."""
        return classify(tail)

    def start_timeout(self, config: Config) -> float:
        """Seconds: as long as the simulated start-up could take, and half a minute for the interpreter."""
        told = {**os.environ, **{key.removeprefix(argv.ENV): str(value) for key, value in config.items()}}
        return 30.0 + 4.0 * float(told.get(f"{settings.PREFIX}START_SECONDS", 0.0))


def _settings(config: Config) -> Settings:
    """The settings of a config; variables and parameters of the simulation are left out."""
    names = {name.replace("_", "-"): name for name in Settings.__dataclass_fields__}
    given: dict[str, Any] = {names[flag]: value for flag, value in config.items() if flag in names}
    return Settings(**given)


def _length(model: Model, shape: ModelShape) -> int:
    return model.max_length or shape.max_length
