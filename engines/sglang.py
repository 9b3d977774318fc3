"""SGLang: its OpenAI server, on NVIDIA GPUs."""

from __future__ import annotations

import math
from collections.abc import Sequence

from engines import argv, guards
from engines.adapter import Adapter
from engines.contract import Capabilities, Config, Infeasible, Launch, Model
from engines.health import answers
from engines.host import Host, this_host
from engines.model_shape import ModelShape, shape_of
from engines.runtime import Runtime

MODULE = "sglang.launch_server"

QUIET = {"HF_HUB_OFFLINE": "1", "HF_HUB_DISABLE_TELEMETRY": "1", "DO_NOT_TRACK": "1"}

HEALTH_SECONDS = 1.9
"""SGLang's /health waits for a token of its own and looks once a second whether it has come."""


class SGLang(Adapter):
    """SGLang's adapter."""

    name = "sglang"
    real = True
    capabilities = Capabilities(
        force_length=True, usage=True, logprobs=True, reset_prefix_cache="/flush_cache"
    )

    def help(self, runtime: Runtime) -> Sequence[str]:
        """The server's own."""
        return runtime.launch(["-m", MODULE, "--help"], {}, gpus=this_host().kind == "cuda").argv

    def command(self, config: Config, model: Model, host: str, port: int) -> Launch:
        """`python -m sglang.launch_server ...`. Raises UnsupportedFlag."""
        runtime = self.runtime()
        rendered, variables = argv.render(config, self.flags(), f"{self.name} {runtime.version}")
        arguments = ["--model-path", str(model.path), "--served-model-name", model.name]
        arguments += ["--host", host, "--port", str(port)]
        if model.weights == "dummy":
            arguments += ["--load-format", "dummy"]
        if model.max_length is not None:
            arguments += ["--context-length", str(model.max_length)]
        return runtime.launch(
            ["-m", MODULE, *arguments, *rendered],
            {**QUIET, **variables},
            mounts=[model.path.absolute()],
            gpus=this_host().kind == "cuda",
        )

    def check(self, config: Config, model: Model, host: Host) -> None:
        """Static guards. Raises Infeasible."""
        if host.kind == "cpu":
            raise Infeasible("sglang needs a GPU: its CPU build is not a package; search vllm or torch here")
        guards.devices_there(self.devices(config), host)
        _check_speculation(config, model)
        _check_kernels(config)
        shape = shape_of(model)
        if shape is not None:
            guards.length_fits(shape, model.max_length, "context-length")
            guards.heads_divide(shape, int(config.get("tp-size", 1)), "tp-size")
            _check_memory(config, model, shape, host)

    def ready(self, url: str) -> bool:
        """GET /health answers 200 once the warm-up request has come back."""
        return answers(url, seconds=HEALTH_SECONDS)

    def devices(self, config: Config) -> int:
        """Tensor x pipeline x data parallel."""
        return math.prod(int(config.get(size, 1)) for size in ("tp-size", "pp-size", "dp-size"))

    def start_timeout(self, config: Config) -> float:
        """Seconds. Kernels are built and graphs captured for minutes at a first start."""
        return 900.0


def _check_speculation(config: Config, model: Model) -> None:
    if config.get("speculative-algorithm", "none") == "none":
        return
    if model.weights == "dummy":
        raise Infeasible("speculation with random weights measures nothing: leave it off for dummy weights")
    branches = int(config.get("speculative-ngram-max-bfs-breadth", 10))
    if config["speculative-algorithm"] == "NGRAM" and branches > 1:
        page, backend = int(config.get("page-size", 1)), config.get("attention-backend")
        if page > 1 and backend != "flashinfer":
            raise Infeasible(
                f"NGRAM with {branches} branches does not do page-size={page}: only "
                "attention-backend=flashinfer or speculative-ngram-max-bfs-breadth=1 does"
            )


def _check_kernels(config: Config) -> None:
    backend, numbers = config.get("attention-backend"), str(config.get("kv-cache-dtype", "auto"))
    if backend == "fa3" and numbers == "fp8_e5m2":
        raise Infeasible("attention-backend=fa3 does not do kv-cache-dtype=fp8_e5m2: take fp8_e4m3 or triton")
    if config.get("disable-cuda-graph") is True and config.get("enable-torch-compile") is True:
        raise Infeasible("enable-torch-compile works inside captured graphs: not with disable-cuda-graph")
    if config.get("enable-mixed-chunk") is True and config.get("chunked-prefill-size") == -1:
        raise Infeasible("enable-mixed-chunk needs chunked prefill: chunked-prefill-size=-1 switches it off")


def _check_memory(config: Config, model: Model, shape: ModelShape, host: Host) -> None:
    share = config.get("mem-fraction-static", "default")
    quantised = config.get("quantization", "none") != "none"
    eighth = str(config.get("kv-cache-dtype", "auto")).startswith("fp8")
    ranks = int(config.get("tp-size", 1)) * int(config.get("pp-size", 1))
    # Below SGLang's own share on every device, so that its default is never refused by mistake.
    part = 0.95 if share == "default" else float(share)
    guards.one_request_fits(
        shape.weight_bytes * (0.6 if quantised else 1.0),
        shape.kv_bytes(model.max_length or shape.max_length, 1 if eighth else None),
        ranks * part * min(device.memory for device in host.devices),
        "lower context-length, or raise mem-fraction-static or tp-size",
    )
