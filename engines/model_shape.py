"""The sizes of a model, from its config.json, as far as static guards need them."""

from __future__ import annotations

import json
from dataclasses import dataclass, replace
from typing import Any

from engines.contract import Model

_BYTES = {"float32": 4, "float16": 2, "bfloat16": 2, "float8_e4m3fn": 1}


@dataclass(frozen=True)
class ModelShape:
    """Counts, and sizes in bytes; `max_length` in tokens is the model's own limit.

    `parameters` counts all, `active` those of the layers that a token passes (of several experts, the chosen
    ones), `head` those of the output head; `window` is how many tokens back attention looks, None for all.
    """

    layers: int
    heads: int
    kv_heads: int
    head_dim: int
    max_length: int
    dtype_bytes: int
    weight_bytes: int
    parameters: int = 0
    active: int = 0
    head: int = 0
    window: int | None = None

    def kv_bytes(self, tokens: int, element: float | None = None) -> float:
        """Bytes of KV cache for so many tokens, over all layers; `element` is the bytes of one number."""
        element = self.dtype_bytes if element is None else element
        return 2 * self.layers * self.kv_heads * self.head_dim * element * tokens


def shape_of(model: Model) -> ModelShape | None:
    """The shape of a decoder-only model; None where config.json is absent or of another kind."""
    try:
        whole = json.loads((model.path / "config.json").read_text())
        config = whole.get("text_config", whole)
        heads = int(config["num_attention_heads"])
        dtype = str(config.get("dtype") or config.get("torch_dtype") or whole.get("torch_dtype") or "float32")
        shape = ModelShape(
            layers=int(config["num_hidden_layers"]),
            heads=heads,
            kv_heads=int(config.get("num_key_value_heads") or heads),
            head_dim=int(config.get("head_dim") or config["hidden_size"] // heads),
            max_length=int(config["max_position_embeddings"]),
            dtype_bytes=_BYTES.get(dtype, 2),
            weight_bytes=0,
        )
        return _weighed(shape, model, config)
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return None


def _weighed(shape: ModelShape, model: Model, config: dict[str, Any]) -> ModelShape:
    files = [*model.path.glob("*.safetensors")] or [*model.path.glob("*.bin")]
    on_disk = sum(file.stat().st_size for file in files)
    counts = (config.get(name) for name in ("num_local_experts", "num_experts", "n_routed_experts"))
    experts = int(next(filter(None, counts), 1))
    chosen = int(config.get("num_experts_per_tok") or 1) if experts > 1 else 1
    head = int(config["vocab_size"]) * int(config["hidden_size"])
    embeddings = head * (1 if config.get("tie_word_embeddings") else 2)
    parameters = embeddings + _layers(shape, config, experts)
    return replace(
        shape,
        weight_bytes=on_disk if on_disk and model.weights == "real" else parameters * shape.dtype_bytes,
        parameters=parameters,
        active=_layers(shape, config, chosen),
        head=head,
        window=_window(config),
    )


def _layers(shape: ModelShape, config: dict[str, Any], experts: int) -> int:
    """Parameters of a decoder's layers with gated feed-forward parts: `experts` of them, and shared ones."""
    hidden, ffn = int(config["hidden_size"]), int(config["intermediate_size"])
    width = int(config.get("moe_intermediate_size") or ffn)
    shared = int(config.get("shared_expert_intermediate_size") or 0)
    shared += width * int(config.get("n_shared_experts") or 0)
    attention = hidden * shape.head_dim * (2 * shape.heads + 2 * shape.kv_heads)
    return shape.layers * (attention + 3 * hidden * (width * experts + shared))


def _window(config: dict[str, Any]) -> int | None:
    window = config.get("sliding_window") if config.get("use_sliding_window", True) else None
    return int(window) if window else None
