"""vLLM: the OpenAI server of a GPU build or of the CPU build."""

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
from engines.warm import Warm

MODULE = "vllm.entrypoints.openai.api_server"
"""Run as a module: the `vllm` command of the CPU build looks for a distribution that is not there."""

QUIET = {"HF_HUB_OFFLINE": "1", "VLLM_NO_USAGE_STATS": "1", "DO_NOT_TRACK": "1"}
"""Variables of every launch: no hub, no usage statistics."""

LOOKUP = {"num_speculative_tokens": 3, "prompt_lookup_max": 4, "prompt_lookup_min": 2}
"""What n-gram speculation gets where a config says nothing: vLLM requires the first, and derives either of
the others from its neighbour, which would make one default depend on another. The space states the same."""

CPU_CACHE_GIB = 2
"""KV cache of the CPU build unless one request needs more. vLLM's own is 0.92 of all memory, and it refuses
to start when less is free, so that nothing else could run on the machine."""

CPU_COMPILE = {"VLLM_USE_AOT_COMPILE": "0"}
"""The CPU build cannot load the ahead-of-time artefact that it saves (0.32.0 with torch 2.13.0) and compiles
anew at every start; torch's own compile cache, which this leaves in charge, halves later starts."""

_SPECULATION = "speculative-config"

_CPU_IMPORTS = ("vllm.v1.engine.async_llm", "vllm.v1.engine.core", "vllm.v1.executor.multiproc_executor")
_CUDA_IMPORTS = (
    *_CPU_IMPORTS,
    "vllm.v1.executor.uniproc_executor",
    "vllm.v1.worker.gpu_worker",
    "vllm.v1.worker.gpu_model_runner",
    "vllm.v1.attention.backends.flash_attn",
    "vllm.model_executor.model_loader.default_loader",
)
_LATE = frozenset(
    {
        "VLLM_CPU_KVCACHE_SPACE",
        "VLLM_CPU_OMP_THREADS_BIND",
        "VLLM_CPU_ATTN_SPLIT_KV",
        "VLLM_USE_V2_MODEL_RUNNER",
    }
)
"""Read from the environment when a config is made or a worker starts, not at import."""


class Vllm(Adapter):
    """vLLM's adapter."""

    name = "vllm"
    real = True
    capabilities = Capabilities(force_length=True, usage=True, logprobs=True)
    restart_share = 0.5
    """Its compile cache: on an H200 configs took 43 to 61 s at first and 20 to 25 s from then on."""

    @property
    def warm(self) -> Warm:
        """Its imports. On a GPU its engine processes are forked, as vLLM does when used as a library.

        The server spawns them unless told otherwise, and the CPU build always: those import for themselves.
        """
        if this_host().kind == "cpu":
            return Warm(MODULE, _CPU_IMPORTS, _LATE)
        return Warm(MODULE, _CUDA_IMPORTS, _LATE, {"VLLM_WORKER_MULTIPROC_METHOD": "fork"})

    def help(self, runtime: Runtime) -> Sequence[str]:
        """`--help=all`: a plain `--help` lists groups."""
        return runtime.launch(["-m", MODULE, "--help=all"], {}, gpus=this_host().kind == "cuda").argv

    def command(self, config: Config, model: Model, host: str, port: int) -> Launch:
        """`python -m vllm.entrypoints.openai.api_server ...`. Raises UnsupportedFlag."""
        runtime = self.runtime()
        who = f"{self.name} {runtime.version}"
        rendered, variables = argv.render(_with_lookup(config), self.flags(), who)
        arguments = ["--model", str(model.path), "--served-model-name", model.name]
        arguments += ["--host", host, "--port", str(port)]
        if model.weights == "dummy":
            arguments += ["--load-format", "dummy"]
        if model.max_length is not None:
            arguments += ["--max-model-len", str(model.max_length)]
        return runtime.launch(
            ["-m", MODULE, *arguments, *rendered],
            {**QUIET, **_cpu_variables(config, model), **variables},
            mounts=[model.path.absolute()],
            gpus=this_host().kind == "cuda",
        )

    def check(self, config: Config, model: Model, host: Host) -> None:
        """Static guards. Raises Infeasible."""
        guards.devices_there(self.devices(config), host)
        shape = shape_of(model)
        _check_batches(config, model, shape)
        _check_speculation(config, model)
        _check_cache_numbers(config)
        _check_blocks(config, host)
        if shape is not None:
            guards.length_fits(shape, model.max_length, "max-model-len")
            guards.heads_divide(shape, int(config.get("tensor-parallel-size", 1)), "tensor-parallel-size")
            _check_memory(config, model, shape, host)

    def ready(self, url: str) -> bool:
        """GET /health answers 200 once the engine behind the API is up."""
        return answers(url)

    def devices(self, config: Config) -> int:
        """Tensor x pipeline x data parallel."""
        sizes = ("tensor-parallel-size", "pipeline-parallel-size", "data-parallel-size")
        return math.prod(int(config.get(size, 1)) for size in sizes)

    def start_timeout(self, config: Config) -> float:
        """Seconds. A first start on a GPU builds kernels for minutes; a large model loads for minutes."""
        return 900.0


def _with_lookup(config: Config) -> Config:
    """With every part of n-gram speculation written out, or none of it where speculation is off."""
    method = config.get(f"{_SPECULATION}.method", "none")
    if method == "none":
        return {name: value for name, value in config.items() if not name.startswith(f"{_SPECULATION}.")}
    if method not in ("ngram", "ngram_gpu"):
        return config
    return {**{f"{_SPECULATION}.{key}": value for key, value in LOOKUP.items()}, **config}


def _cpu_variables(config: Config, model: Model) -> dict[str, str]:
    if this_host().kind != "cpu":
        return {}
    if "kv-cache-memory-bytes" in config or "gpu-memory-utilization" in config:
        return CPU_COMPILE
    return {**CPU_COMPILE, "VLLM_CPU_KVCACHE_SPACE": str(_cpu_cache_gib(model, shape_of(model)))}


def _cpu_cache_gib(model: Model, shape: ModelShape | None) -> int:
    if shape is None:
        return CPU_CACHE_GIB
    one_request = shape.kv_bytes(model.max_length or shape.max_length)
    return max(CPU_CACHE_GIB, math.ceil(1.1 * one_request / guards.GIB))


def _check_batches(config: Config, model: Model, shape: ModelShape | None) -> None:
    length = model.max_length or (shape.max_length if shape else math.inf)
    threshold = int(config.get("long-prefill-token-threshold", 0))
    if threshold > length:
        raise Infeasible(f"long-prefill-token-threshold={threshold} is above the context of {length}")
    tokens, sequences = config.get("max-num-batched-tokens"), config.get("max-num-seqs")
    if tokens is None:
        return
    if sequences is not None and int(tokens) < int(sequences):
        raise Infeasible(f"max-num-batched-tokens={tokens} is below max-num-seqs={sequences}")
    if config.get("enable-chunked-prefill") is False and int(tokens) < length < math.inf:
        raise Infeasible(
            f"max-num-batched-tokens={tokens} is below the context of {length}: without chunked prefill "
            "a whole prompt must fit in one step"
        )


def _check_speculation(config: Config, model: Model) -> None:
    if config.get(f"{_SPECULATION}.method", "none") == "none":
        return
    if model.weights == "dummy":
        raise Infeasible("speculation with random weights measures nothing: leave it off for dummy weights")
    filled = _with_lookup(config)
    shortest = filled.get(f"{_SPECULATION}.prompt_lookup_min", 1)
    longest = filled.get(f"{_SPECULATION}.prompt_lookup_max", math.inf)
    if float(shortest) > float(longest):
        raise Infeasible(f"prompt_lookup_min={shortest} is above prompt_lookup_max={longest}")


def _check_cache_numbers(config: Config) -> None:
    numbers, backend = str(config.get("kv-cache-dtype", "auto")), config.get("attention-backend")
    supported = {
        "FLASH_ATTN": ("auto", "fp8", "fp8_e4m3", "float16", "bfloat16"),
        "FLASHINFER": ("auto", "fp8", "fp8_e4m3", "fp8_e5m2", "float16", "bfloat16", "nvfp4"),
    }.get(str(backend))
    triton_cannot = backend == "TRITON_ATTN" and numbers == "fp8_e5m2"
    if triton_cannot or (supported is not None and numbers not in supported):
        raise Infeasible(f"attention-backend={backend} does not do kv-cache-dtype={numbers}")


def _check_blocks(config: Config, host: Host) -> None:
    if "block-size" not in config:
        return
    block, unit = int(config["block-size"]), 32 if host.kind == "cpu" else 16
    if block % unit:
        raise Infeasible(f"block-size={block} is no multiple of {unit}, which the attention kernels need")
    if config.get("attention-backend") == "FLASHINFER" and block > 64:
        raise Infeasible(f"attention-backend=FLASHINFER does not do block-size={block}: 64 at most")


def _check_memory(config: Config, model: Model, shape: ModelShape, host: Host) -> None:
    length = model.max_length or shape.max_length
    quantised = config.get("quantization", "none") != "none"
    weights = shape.weight_bytes * (0.6 if quantised else 1.0)
    eighth = str(config.get("kv-cache-dtype", "auto")).startswith(("fp8", "int8"))
    kv = shape.kv_bytes(length, 1 if eighth else None)
    if host.kind == "cpu":
        room = float(host.memory)
        kv = max(kv, _cpu_cache_gib(model, shape) * guards.GIB)
        guards.one_request_fits(weights, kv, room, "lower max-model-len or take a smaller model")
        return
    ranks = int(config.get("tensor-parallel-size", 1)) * int(config.get("pipeline-parallel-size", 1))
    share = float(config.get("gpu-memory-utilization", 0.92))
    room = ranks * share * min(device.memory for device in host.devices)
    remedy = "lower max-model-len, or raise gpu-memory-utilization or tensor-parallel-size"
    guards.one_request_fits(weights, kv, room, remedy)
