"""torch: the naive PyTorch server, which is the baseline that every speedup is a ratio to."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from engines import argv, guards
from engines.adapter import Adapter
from engines.contract import Capabilities, Config, Launch, Model
from engines.health import answers
from engines.host import Host
from engines.model_shape import shape_of
from engines.runtime import Runtime

SERVER = Path(__file__).with_name("torch_server.py")
"""A script for the engine's own interpreter; it imports nothing of ours."""

QUIET = {"HF_HUB_OFFLINE": "1", "HF_HUB_DISABLE_TELEMETRY": "1", "DO_NOT_TRACK": "1"}


class Torch(Adapter):
    """The adapter of the naive PyTorch server."""

    name = "torch"
    real = True
    capabilities = Capabilities(force_length=True, usage=True, logprobs=False)

    def help(self, runtime: Runtime) -> Sequence[str]:
        """The server's own."""
        return [*runtime.program, str(SERVER), "--help"]

    def command(self, config: Config, model: Model, host: str, port: int) -> Launch:
        """`python torch_server.py ...`. Raises UnsupportedFlag."""
        runtime = self.runtime()
        rendered, variables = argv.render(config, self.flags(), self.name)
        arguments = ["--model", str(model.path), "--served-model-name", model.name]
        arguments += ["--host", host, "--port", str(port)]
        if model.weights == "dummy":
            arguments.append("--dummy-weights")
        if model.max_length is not None:
            arguments += ["--max-model-len", str(model.max_length)]
        return Launch(
            (*runtime.program, str(SERVER), *arguments, *rendered), {**runtime.env, **QUIET, **variables}
        )

    def check(self, config: Config, model: Model, host: Host) -> None:
        """Static guards. Raises Infeasible."""
        shape = shape_of(model)
        if shape is None:
            return
        guards.length_fits(shape, model.max_length, "max-model-len")
        factor = 4 / shape.dtype_bytes if config.get("dtype") == "float32" else 1.0
        kv = factor * shape.kv_bytes(model.max_length or shape.max_length)
        room = float(host.devices[0].memory)
        guards.one_request_fits(factor * shape.weight_bytes, kv, room, "lower max-model-len")

    def ready(self, url: str) -> bool:
        """The server listens only once its model is loaded."""
        return answers(url)

    def devices(self, config: Config) -> int:
        """Always one."""
        return 1

    def start_timeout(self, config: Config) -> float:
        """Seconds: imports and one load of the checkpoint."""
        return 600.0
