"""The performance model: pure functions from settings and a model's shape to seconds and tokens.

The device is imaginary and sized for its model: it reads the bf16 weights once in W = 4.5 ms, as an H100 does
a 7B model, and computes a prompt token in P = 40 us. Everything else follows from the model's shape. Seconds:

    bandwidth   = weight bytes / W
    step        = (base + sequence x decodes + kv x context tokens + prefill x prompt tokens
                   + pair x (prompt token, context token) pairs + prefill x drafted tokens) x noise
    base        = W x (quantization fp8: 0.55) + overhead
    overhead    = 0.8 ms full graphs | 1.6 ms piecewise | 5 ms eager, less half under async scheduling,
                  + 0.1 us x max_num_seqs (padding) + 0.6 ms where several devices talk to one another
    sequence    = 50 us a decoding sequence: sampling, detokenising, sending
    kv          = KV bytes a token / bandwidth x (fp8 KV: 0.55) x backend x block size (32: 0.98, 64: 0.96)
    prefill     = P x (quantization fp8: 0.7) x backend
    pair        = prefill x (4 x layers x width) / (2 x parameters): attention's FLOPs against the weights'
    backend     = FLASH_ATTN 1 and 1 (kv and prefill) | FLASHINFER 0.9 and 1.02 | TRITON_ATTN 1.1 and 1.15

Tensor parallelism over n devices divides W, kv, prefill and pair by n^0.9. Memory of the device, unless
given: 4 GiB or 5.5 times the weights, whichever is more. What is left for the KV cache, in tokens:

    (memory x utilisation x n - weights - activations) / (KV bytes a token x (fp8 KV: 0.5))
    activations = 48 bytes x width x max_num_batched_tokens + 256 KiB x max_num_seqs

Start-up, as a share of the default config's: 0.25 imports + 0.1 weights (fp8: 0.2) + profiling 0.1
+ compile 0.3 and graphs 0.25 x (max_num_seqs / 64)^0.5 (piecewise only: half), both spared by eager mode.

Shapes (layers, heads, KV heads, bytes of the weights) come from the model's config.json; width is heads x
head size. W and P are those of published 7B figures on an H100; the rest are round numbers of that order.
Landscapes multiply terms (see `engines.simulated.landscape`). Noise is log-normal: 1.5 % a start, 2 % a step.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import sqrt

from engines.model_shape import ModelShape
from engines.simulated import landscape as landscapes
from engines.simulated.settings import Settings

WEIGHTS_SECONDS = 4.5e-3
PROMPT_TOKEN_SECONDS = 40e-6
START_NOISE = 0.015
STEP_NOISE = 0.02
GIB = 1024**3


@dataclass(frozen=True)
class Costs:
    """Terms of a step, in seconds each. See the module's docstring."""

    base: float
    sequence: float
    kv: float
    prefill: float
    pair: float


@dataclass(frozen=True)
class Work:
    """What one step does.

    Attributes:
        decodes: sequences that decode.
        context: KV tokens that they read, all together.
        prompt: prompt tokens computed.
        pairs: (prompt token, earlier token) pairs attended to.
        drafts: drafted tokens verified.
    """

    decodes: int = 0
    context: int = 0
    prompt: int = 0
    pairs: int = 0
    drafts: int = 0


def step_seconds(costs: Costs, work: Work) -> float:
    """Length of a step before noise."""
    return (
        costs.base
        + costs.sequence * work.decodes
        + costs.kv * work.context
        + costs.prefill * (work.prompt + work.drafts)
        + costs.pair * work.pairs
    )


def prompt_pairs(start: int, end: int) -> int:
    """Pairs attended to when tokens start..end of a prompt are computed (causal)."""
    return (end * (end + 1) - start * (start + 1)) // 2


def costs(settings: Settings, shape: ModelShape, landscape: str = "default") -> Costs:
    """Costs of these settings on the imaginary device."""
    factors = landscapes.factors(landscape, settings)
    settings = landscapes.effective(landscape, settings)
    spread = settings.tensor_parallel_size**0.9
    weights = WEIGHTS_SECONDS / spread * (0.55 if settings.quantization == "fp8" else 1.0)
    kv_speed, prompt_speed = _BACKENDS[settings.attention_backend]
    dtype = 0.55 if settings.kv_cache_dtype == "fp8" else 1.0
    kv = WEIGHTS_SECONDS * shape.kv_bytes(1) / shape.weight_bytes / spread
    kv *= dtype * kv_speed * _BLOCKS[settings.block_size]
    prefill = PROMPT_TOKEN_SECONDS / spread * prompt_speed * (0.7 if settings.quantization == "fp8" else 1.0)
    parameters = shape.weight_bytes / shape.dtype_bytes
    return Costs(
        base=(weights + overhead(settings)) * factors.base,
        sequence=50e-6 * factors.sequence,
        kv=kv * factors.kv,
        prefill=prefill * factors.prefill,
        pair=prefill * factors.prefill * 2 * shape.layers * _width(shape) / parameters,
    )


def overhead(settings: Settings) -> float:
    """Seconds of a step that go to launching it rather than to the device's work."""
    launch = 5e-3 if settings.enforce_eager else _GRAPHS[settings.cudagraph_mode]
    launch *= 0.5 if settings.async_scheduling else 1.0
    talk = 0.6e-3 if settings.tensor_parallel_size > 1 else 0.0
    return launch + 0.1e-6 * settings.max_num_seqs + talk


def device_memory(shape: ModelShape, gib: float | None = None) -> float:
    """Bytes of one device: as given, or sized for the model."""
    return gib * GIB if gib is not None else max(4.0 * GIB, 5.5 * shape.weight_bytes)


def kv_capacity(settings: Settings, shape: ModelShape, memory: float) -> int:
    """Tokens that the KV cache holds; negative where the weights alone do not fit. Whole blocks."""
    token = shape.kv_bytes(1) * (0.5 if settings.kv_cache_dtype == "fp8" else 1.0)
    weights = shape.weight_bytes * (0.5 if settings.quantization == "fp8" else 1.0)
    activations = 48 * _width(shape) * settings.max_num_batched_tokens + 2**18 * settings.max_num_seqs
    budget = memory * settings.gpu_memory_utilization * settings.tensor_parallel_size
    return int((budget - weights - activations) / token) // settings.block_size * settings.block_size


def start_share(settings: Settings) -> float:
    """Start-up time as a share of the default config's; 1.0 for the default."""
    share = 0.35 + (0.2 if settings.quantization == "fp8" else 0.1)
    if settings.enforce_eager:
        return share
    graphs = 0.25 if settings.cudagraph_mode == "FULL_AND_PIECEWISE" else 0.125
    return share + 0.3 + graphs * sqrt(settings.max_num_seqs / Settings.max_num_seqs)


def _width(shape: ModelShape) -> int:
    return shape.heads * shape.head_dim


_GRAPHS = {"FULL_AND_PIECEWISE": 0.8e-3, "PIECEWISE": 1.6e-3}
_BACKENDS = {"FLASH_ATTN": (1.0, 1.0), "FLASHINFER": (0.9, 1.02), "TRITON_ATTN": (1.1, 1.15)}
_BLOCKS = {16: 1.0, 32: 0.98, 64: 0.96}
