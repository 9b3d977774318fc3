"""TGI: `text-generation-launcher`, found on PATH or in a container.

Written against the published argument list of the launcher. TGI cannot force an output's length over HTTP:
it takes neither `ignore_eos` nor `min_tokens`, which its capabilities say.
"""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from pathlib import Path

from engines import argv, guards
from engines.adapter import Adapter
from engines.contract import Capabilities, Config, CrashClass, Infeasible, Launch, Model
from engines.crash_log import classify
from engines.health import answers
from engines.host import Host, this_host
from engines.model_shape import ModelShape, shape_of
from engines.runtime import Runtime

QUIET = {"HF_HUB_OFFLINE": "1", "USAGE_STATS": "off", "DO_NOT_TRACK": "1"}

_SIGNS = (
    (CrashClass.UNSUPPORTED_FLAG, r"error: unexpected argument|error: invalid value"),
    (CrashClass.INCOMPATIBLE_FLAGS, r"ArgumentValidation\("),
    (CrashClass.OUT_OF_MEMORY, r"Not enough memory to handle|NotEnoughMemory|OutOfMemory"),
)


class TGI(Adapter):
    """TGI's adapter."""

    name = "tgi"
    real = True
    capabilities = Capabilities(force_length=False, usage=True, logprobs=True, names_model=False)

    def help(self, runtime: Runtime) -> Sequence[str]:
        """The launcher's own."""
        return runtime.launch(["--help"], {}).argv

    def command(self, config: Config, model: Model, host: str, port: int) -> Launch:
        """`text-generation-launcher ...`. Raises UnsupportedFlag, and Infeasible for random weights."""
        _check_weights(model)
        runtime = self.runtime()
        rendered, variables = argv.render(config, self.flags(), f"{self.name} {runtime.version}")
        socket = Path(tempfile.gettempdir()) / f"ceiling-tgi-{port}"
        arguments = ["--model-id", str(model.path), "--hostname", host, "--port", str(port)]
        arguments += ["--shard-uds-path", str(socket)]
        if "num-shard" not in config:
            # Without it the launcher takes every GPU that it sees.
            arguments += ["--num-shard", "1"]
        if model.max_length is not None:
            # The launcher refuses inputs longer than one prefill.
            longest = min(
                model.max_length - 1, _number(config, "max-batch-prefill-tokens") or model.max_length
            )
            arguments += ["--max-total-tokens", str(model.max_length)]
            arguments += ["--max-input-tokens", str(longest)]
        gpus = this_host().kind == "cuda"
        return runtime.launch(
            [*arguments, *rendered], {**QUIET, **variables}, mounts=[model.path.absolute()], gpus=gpus
        )

    def check(self, config: Config, model: Model, host: Host) -> None:
        """Static guards. Raises Infeasible."""
        _check_weights(model)
        guards.devices_there(self.devices(config), host)
        _check_batches(config, model)
        if config.get("dtype", "default") != "default" and config.get("quantize", "none") != "none":
            raise Infeasible("dtype cannot be used with quantize: leave one of them out")
        shape = shape_of(model)
        if shape is not None:
            guards.length_fits(shape, model.max_length, "max-total-tokens")
            guards.heads_divide(shape, int(config.get("num-shard", 1)), "num-shard")
            _check_memory(config, model, shape, host)

    def ready(self, url: str) -> bool:
        """GET /health answers 200 once the shards answer the router."""
        return answers(url, seconds=1.9)

    def devices(self, config: Config) -> int:
        """Shards."""
        return int(config.get("num-shard", 1))

    def crash(self, tail: str) -> CrashClass:
        """Class of a death from the tail of the log."""
        return classify(tail, _SIGNS)

    def start_timeout(self, config: Config) -> float:
        """Seconds. The launcher warms up and measures its batch limits before it answers."""
        return 900.0


def _check_weights(model: Model) -> None:
    if model.weights == "dummy":
        raise Infeasible("tgi has no random weights: give it a model directory with real ones")


def _number(config: Config, flag: str) -> int | None:
    value = config.get(flag, "default")
    return None if value == "default" else int(value)


def _check_batches(config: Config, model: Model) -> None:
    prefill = _number(config, "max-batch-prefill-tokens")
    total = _number(config, "max-batch-total-tokens")
    if prefill is not None and total is not None and prefill > total:
        raise Infeasible(f"max-batch-prefill-tokens={prefill} is above max-batch-total-tokens={total}")
    if total is not None and model.max_length is not None and total < model.max_length:
        raise Infeasible(f"max-batch-total-tokens={total} is below one request of {model.max_length}")


def _check_memory(config: Config, model: Model, shape: ModelShape, host: Host) -> None:
    share = float(config.get("cuda-memory-fraction", 1.0))
    method = str(config.get("quantize", "none"))
    factor = {"none": 1.0, "bitsandbytes-nf4": 0.35, "bitsandbytes-fp4": 0.35}.get(method, 0.6)
    eighth = str(config.get("kv-cache-dtype", "default")).startswith("fp8")
    guards.one_request_fits(
        shape.weight_bytes * factor,
        shape.kv_bytes(model.max_length or shape.max_length, 1 if eighth else None),
        int(config.get("num-shard", 1)) * share * min(device.memory for device in host.devices),
        "lower max-total-tokens, or raise cuda-memory-fraction or num-shard",
    )
