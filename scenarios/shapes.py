"""Published model shapes without weights: for speed alone, with random weights that the engine makes."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from scenarios.gguf_model import GgufModel, write_json

DECLARATION = "ceiling_weights"
"""Key of `config.json` that declares `dummy`: this directory never had weights."""

MISTRAL_7B: dict[str, Any] = {
    "architectures": ["MistralForCausalLM"],
    "model_type": "mistral",
    "hidden_size": 4096,
    "intermediate_size": 14336,
    "num_hidden_layers": 32,
    "num_attention_heads": 32,
    "num_key_value_heads": 8,
    "head_dim": 128,
    "max_position_embeddings": 32768,
    "rope_theta": 1000000.0,
    "sliding_window": None,
    "rms_norm_eps": 1e-05,
    "hidden_act": "silu",
    "vocab_size": 32768,
    "tie_word_embeddings": False,
    "torch_dtype": "bfloat16",
    "bos_token_id": 1,
    "eos_token_id": 2,
    "pad_token_id": 2,
}
"""Mistral-7B-Instruct-v0.3, as published (special ids: the tokenizer's below)."""

README = """# Mistral-7B shapes, no weights

`config.json` has the shapes of Mistral-7B-Instruct-v0.3. There are no weights: engines load random ones
(`--load-format dummy`). The tokenizer is NOT Mistral's: it is SmolLM2's, its merges cut so that
the vocabulary has 32768 entries. Good for speed; text, quality and speculation mean nothing here.
"""


def write_mistral_7b(directory: Path, tokenizer: GgufModel) -> None:
    """Shapes, tokenizer (cut to the vocabulary of the shapes) and a README that says so."""
    write_json(directory / "config.json", {**MISTRAL_7B, DECLARATION: "dummy"})
    special = {key: MISTRAL_7B[key] for key in ("bos_token_id", "eos_token_id", "pad_token_id")}
    write_json(directory / "generation_config.json", special)
    tokenizer.write_tokenizer(
        directory, MISTRAL_7B["vocab_size"], max_length=MISTRAL_7B["max_position_embeddings"]
    )
    (directory / "README.md").write_text(README, encoding="utf-8")
