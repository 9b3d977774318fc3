"""Which settings do not start, how far they get, and what they leave in the log."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from engines.model_shape import ModelShape
from engines.simulated import performance
from engines.simulated.settings import Settings


@dataclass(frozen=True)
class Crash:
    """A start that fails.

    Attributes:
        when: share of the start-up time after which it does.
        error: the last line of the log, as the engine's exception reads.
    """

    when: float
    error: str


def incompatible(settings: Settings, shape: ModelShape, max_length: int) -> str | None:
    """Why the settings contradict one another or the model, found before the device is touched."""
    return next(_contradictions(settings, shape, max_length), None)


def crash(
    settings: Settings, shape: ModelShape, max_length: int, memory: float, landscape: str = "default"
) -> Crash | None:
    """How a start with these settings fails; None where it succeeds. `memory` in bytes of one device."""
    reason = incompatible(settings, shape, max_length)
    if reason is not None:
        return Crash(0.1, f"ValueError: {reason}")
    if settings.kv_cache_dtype == "fp8" and settings.attention_backend == "FLASH_ATTN":
        return Crash(
            0.3,
            "ValueError: Selected backend FLASH_ATTN is not valid for this configuration."
            " Reason: ['kv_cache_dtype not supported']",
        )
    if performance.kv_capacity(settings, shape, memory) < max_length:
        return Crash(0.6, no_room(settings, shape, max_length, memory))
    if _overcommitted(settings) or (landscape == "crashy" and _fragile(settings)):
        return Crash(0.8, _out_of_memory(settings, memory))
    return None


def no_room(settings: Settings, shape: ModelShape, max_length: int, memory: float) -> str:
    """The complaint about a KV cache that cannot hold one request."""
    token = shape.kv_bytes(1) * (0.5 if settings.kv_cache_dtype == "fp8" else 1.0)
    available = max(0, performance.kv_capacity(settings, shape, memory)) * token / performance.GIB
    return (
        f"ValueError: To serve at least one request with the model's max seq len ({max_length}),"
        f" {max_length * token / performance.GIB:.2f} GiB KV cache is needed, which is larger than the"
        f" available KV cache memory ({available:.2f} GiB). Try increasing `gpu_memory_utilization` or"
        " decreasing `max_model_len` when initializing the engine."
    )


def _contradictions(settings: Settings, shape: ModelShape, max_length: int) -> Iterator[str]:
    budget, size = settings.max_num_batched_tokens, settings.tensor_parallel_size
    if budget < settings.max_num_seqs:
        yield (
            f"max_num_batched_tokens ({budget}) must be greater than or equal to"
            f" max_num_seqs ({settings.max_num_seqs})."
        )
    if not settings.enable_chunked_prefill and budget < max_length:
        yield (
            f"max_num_batched_tokens ({budget}) is smaller than max_model_len ({max_length}) and chunked"
            " prefill is off. Please increase max_num_batched_tokens or decrease max_model_len."
        )
    if shape.heads % size:
        yield (
            f"Total number of attention heads ({shape.heads}) must be divisible by"
            f" tensor parallel size ({size})."
        )
    if settings.speculative_method == "ngram" and settings.async_scheduling:
        yield "async scheduling is incompatible with ngram speculative decoding."


def _overcommitted(settings: Settings) -> bool:
    """Graphs, samplers and activations live outside the utilisation's share of memory."""
    extra = 0.02 * settings.max_num_seqs / 256 + 0.02 * settings.max_num_batched_tokens / 8192
    extra += 0.0 if settings.enforce_eager else 0.02
    return settings.gpu_memory_utilization + extra > 1.0


def _fragile(settings: Settings) -> bool:
    """Regions that only the `crashy` landscape loses."""
    return (
        (settings.quantization == "fp8" and settings.attention_backend == "TRITON_ATTN")
        or (settings.gpu_memory_utilization >= 0.95 and settings.max_num_seqs >= 256)
        or (settings.gpu_memory_utilization >= 0.95 and settings.max_num_batched_tokens >= 8192)
    )


def _out_of_memory(settings: Settings, memory: float) -> str:
    total = memory / performance.GIB
    wanted = 0.02 * total * max(1.0, settings.max_num_seqs / 256)
    free = max(0.0, (1.0 - settings.gpu_memory_utilization) * total * 0.35)
    return (
        f"torch.OutOfMemoryError: CUDA out of memory. Tried to allocate {wanted + free:.2f} GiB. GPU 0 has a"
        f" total capacity of {total:.2f} GiB of which {free:.2f} GiB is free. Process has"
        f" {total - free:.2f} GiB memory in use."
    )
