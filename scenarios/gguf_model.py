"""A Llama in GGUF, written out as a bf16 directory in Hugging Face layout."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import gguf
import numpy as np
import numpy.typing as npt
from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers

_LAYER = {
    "attn_norm": "input_layernorm",
    "attn_q": "self_attn.q_proj",
    "attn_k": "self_attn.k_proj",
    "attn_v": "self_attn.v_proj",
    "attn_output": "self_attn.o_proj",
    "ffn_norm": "post_attention_layernorm",
    "ffn_gate": "mlp.gate_proj",
    "ffn_up": "mlp.up_proj",
    "ffn_down": "mlp.down_proj",
}
_TOP = {"token_embd": "model.embed_tokens", "output_norm": "model.norm", "output": "lm_head"}
_CONTROL = 3


class GgufModel:
    """A GGUF file of the `llama` architecture with a byte-level BPE tokenizer (`gpt2`).

    Raises ValueError for any other architecture or tokenizer.
    """

    def __init__(self, path: Path) -> None:
        self._reader = gguf.GGUFReader(path)
        kinds = self._meta("general.architecture"), self._meta("tokenizer.ggml.model")
        if kinds != ("llama", "gpt2"):
            raise ValueError(
                f"{path.name} is {kinds[0]} with a {kinds[1]} tokenizer; only llama with gpt2 reads"
            )
        self.vocabulary: list[str] = self._meta("tokenizer.ggml.tokens")
        self.merges: list[tuple[str, str]] = [
            (left, right) for left, right in (m.split(" ", 1) for m in self._meta("tokenizer.ggml.merges"))
        ]
        kinds_of_tokens = self._meta("tokenizer.ggml.token_type")
        self.special = [
            t for t, kind in zip(self.vocabulary, kinds_of_tokens, strict=True) if kind == _CONTROL
        ]

    def write(self, directory: Path) -> None:
        """All files of the Hugging Face layout."""
        write_json(directory / "config.json", self.config())
        self.write_tokenizer(directory, len(self.vocabulary), max_length=self._meta("llama.context_length"))
        special = {key: self._meta(f"tokenizer.ggml.{name}_token_id") for key, name in _SPECIAL_IDS.items()}
        write_json(directory / "generation_config.json", special)
        write_safetensors(directory / "model.safetensors", dict(self.tensors()))

    def config(self) -> dict[str, Any]:
        """`config.json` of transformers' Llama."""
        shape = {key: self._meta(f"llama.{name}") for key, name in _SHAPE.items()}
        names = {tensor.name for tensor in self._reader.tensors}
        return {
            "architectures": ["LlamaForCausalLM"],
            "model_type": "llama",
            **shape,
            "rms_norm_eps": _short(self._meta("llama.attention.layer_norm_rms_epsilon")),
            "vocab_size": len(self.vocabulary),
            "hidden_act": "silu",
            "attention_bias": False,
            "mlp_bias": False,
            "tie_word_embeddings": "output.weight" not in names,
            "torch_dtype": "bfloat16",
            **{key: self._meta(f"tokenizer.ggml.{name}_token_id") for key, name in _SPECIAL_IDS.items()},
        }

    def tensors(self) -> Iterator[tuple[str, npt.NDArray[np.uint16]]]:
        """Every weight under its transformers name, as bf16 bits.

        llama.cpp interleaves the two rotary halves of q and k in every head; that is undone here.
        """
        heads = {
            "attn_q": self._meta("llama.attention.head_count"),
            "attn_k": self._meta("llama.attention.head_count_kv"),
        }
        for tensor in self._reader.tensors:
            weights = gguf.quants.dequantize(tensor.data, tensor.tensor_type).astype(np.float32, copy=False)
            part = tensor.name.split(".")[-2]
            if part in heads:
                weights = _halves(weights, heads[part])
            yield _name(tensor.name), bfloat16(weights)

    def write_tokenizer(self, directory: Path, size: int, *, max_length: int) -> None:
        """The tokenizer's files, its vocabulary cut to the first `size` entries and the merges to match."""
        entries = self.vocabulary[:size]
        known = set(entries)
        merges = [(left, right) for left, right in self.merges if left + right in known]
        tokenizer = Tokenizer(models.BPE({t: i for i, t in enumerate(entries)}, merges))
        tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
            [pre_tokenizers.Digits(individual_digits=True), pre_tokenizers.ByteLevel(add_prefix_space=False)]
        )
        tokenizer.decoder = decoders.ByteLevel()
        tokenizer.add_special_tokens([AddedToken(t, special=True, normalized=False) for t in self.special])
        tokenizer.save(str(directory / "tokenizer.json"))
        write_json(directory / "tokenizer_config.json", self._tokenizer_config(max_length))
        write_json(directory / "special_tokens_map.json", self._named_tokens())

    def _tokenizer_config(self, max_length: int) -> dict[str, Any]:
        return {
            "tokenizer_class": "PreTrainedTokenizerFast",
            "model_max_length": max_length,
            "clean_up_tokenization_spaces": False,
            "add_prefix_space": False,
            **self._named_tokens(),
            "additional_special_tokens": self.special,
            "chat_template": self._meta("tokenizer.chat_template"),
        }

    def _named_tokens(self) -> dict[str, str]:
        ids = {**_SPECIAL_IDS, "unk_token_id": "unknown"}
        return {
            key.removesuffix("_id"): self.vocabulary[self._meta(f"tokenizer.ggml.{name}_token_id")]
            for key, name in ids.items()
        }

    def _meta(self, key: str) -> Any:
        field = self._reader.get_field(key)
        if field is None:
            raise ValueError(f"the GGUF file has no {key}")
        return field.contents()


_SPECIAL_IDS = {"bos_token_id": "bos", "eos_token_id": "eos", "pad_token_id": "padding"}
_SHAPE = {
    "hidden_size": "embedding_length",
    "intermediate_size": "feed_forward_length",
    "num_hidden_layers": "block_count",
    "num_attention_heads": "attention.head_count",
    "num_key_value_heads": "attention.head_count_kv",
    "max_position_embeddings": "context_length",
    "rope_theta": "rope.freq_base",
}


def bfloat16(weights: npt.NDArray[np.float32]) -> npt.NDArray[np.uint16]:
    """Bits of the nearest bfloat16, ties to even; finite input only."""
    bits = np.ascontiguousarray(weights, dtype=np.float32).view(np.uint32)
    rounded = (bits + np.uint32(0x7FFF) + ((bits >> np.uint32(16)) & np.uint32(1))) >> np.uint32(16)
    return rounded.astype(np.uint16)


def write_safetensors(path: Path, tensors: Mapping[str, npt.NDArray[np.uint16]]) -> None:
    """bf16 tensors in safetensors format: length of the header, the header as JSON, the data.

    Written by hand: numpy has no bfloat16, so that the library's own numpy writer cannot.
    """
    header: dict[str, Any] = {"__metadata__": {"format": "pt"}}
    end = 0
    for name, bits in tensors.items():
        header[name] = {"dtype": "BF16", "shape": bits.shape, "data_offsets": [end, end + bits.nbytes]}
        end += bits.nbytes
    text = json.dumps(header, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)
    with path.open("wb") as file:
        file.write(len(text).to_bytes(8, "little") + text)
        for bits in tensors.values():
            file.write(bits.astype("<u2", copy=False).data)


def write_json(path: Path, data: Any) -> None:
    """`data` as indented JSON."""
    path.write_text(json.dumps(data, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")


def _halves(weights: npt.NDArray[np.float32], heads: int) -> npt.NDArray[np.float32]:
    rows, columns = weights.shape
    pairs = weights.reshape(heads, rows // heads // 2, 2, columns)
    return pairs.swapaxes(1, 2).reshape(rows, columns)


def _name(name: str) -> str:
    parts = name.split(".")
    if parts[0] == "blk":
        return f"model.layers.{parts[1]}.{_LAYER[parts[2]]}.{parts[3]}"
    return f"{_TOP[parts[0]]}.{parts[1]}"


def _short(number: float) -> float:
    return float(f"{number:.7g}")
