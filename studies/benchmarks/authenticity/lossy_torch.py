"""Greedy answers of a model made worse in known ways. A script for the torch engine's own interpreter.

The input has one JSON list of prompt tokens a line; the output one line a variant and prompt: `variant`,
`index`, `answer` (token ids, of exactly the length asked). Weights are rounded to nearest, symmetrically,
and computed with in the dtype named; the KV cache is rounded as it is written.
"""

from __future__ import annotations

import argparse
import copy
import json
import os
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

BATCH = 12

Change = Callable[[Any], None]


def rounded(values: Any, bits: int, group: int = 0) -> Any:
    """Symmetric integers of so many bits, one scale a row, or a group of so many values in it."""
    shape = values.shape
    if group:
        values = values.reshape(*shape[:-1], shape[-1] // group, group)
    top = 2 ** (bits - 1) - 1
    scale = values.abs().amax(-1, keepdim=True).clamp(min=1e-8) / top
    return ((values / scale).round().clamp(-top, top) * scale).reshape(shape)


def eighth(values: Any, scaled: bool = True) -> Any:
    """FP8 (e4m3), with one scale a row or none."""
    import torch

    scale = values.abs().amax(-1, keepdim=True).clamp(min=1e-8) / 448 if scaled else torch.ones(1)
    scale = scale.to(values.dtype)
    return (values / scale).clamp(-448, 448).to(torch.float8_e4m3fn).to(values.dtype) * scale


def weights(how: Callable[[Any], Any]) -> Change:
    """Every linear layer's weights go through `how`; the head, which is the embedding, is kept."""
    import torch

    def change(model: Any) -> None:
        for name, module in model.named_modules():
            if isinstance(module, torch.nn.Linear) and "lm_head" not in name:
                module.weight.data = how(module.weight.data)

    return change


def noisy(share: float) -> Change:
    """Noise of that share of each matrix's spread: a model trained to something else."""
    import torch

    def how(values: Any) -> Any:
        return values + share * values.std() * torch.randn_like(values)

    return weights(how)


def without(layers: int) -> Change:
    """So many layers in the middle left out: a smaller model of the same family."""
    import torch

    def change(model: Any) -> None:
        kept = list(model.model.layers)
        start = (len(kept) - layers) // 2
        kept = kept[:start] + kept[start + layers :]
        for place, layer in enumerate(kept):
            layer.self_attn.layer_idx = place
        model.model.layers = torch.nn.ModuleList(kept)
        model.config.num_hidden_layers = len(kept)

    return change


def halves(model: Any) -> None:
    """All arithmetic in bfloat16."""
    import torch

    model.to(torch.bfloat16)


def cache(how: Callable[[Any], Any] | None, config: Any) -> Any:
    """A KV cache whose entries go through `how` when they are written."""
    from transformers import DynamicCache

    class Rounded(DynamicCache):  # type: ignore[misc]
        def update(self, keys: Any, values: Any, layer: int, *rest: Any, **named: Any) -> Any:
            return super().update(
                how(keys) if how else keys, how(values) if how else values, layer, *rest, **named
            )

    return Rounded(config=config)


Variant = tuple[tuple[Change, ...], Callable[[Any], Any] | None]
"""What is done to the model, in order, and to what goes into the KV cache."""


def variants() -> dict[str, Variant]:
    """By name."""
    int8, fp8 = weights(lambda w: rounded(w, 8)), weights(eighth)
    kv8 = lambda v: rounded(v, 8)  # noqa: E731
    kvf8 = lambda v: eighth(v, scaled=False)  # noqa: E731
    return {
        "exact": ((), None),
        "bf16": ((halves,), None),
        "int8 weights": ((int8,), None),
        "fp8 weights": ((fp8,), None),
        "int8 kv": ((), kv8),
        "fp8 kv": ((), kvf8),
        "bf16, int8 weights, int8 kv": ((int8, halves), kv8),
        "bf16, fp8 weights, fp8 kv": ((fp8, halves), kvf8),
        "int4 weights, groups of 32": ((weights(lambda w: rounded(w, 4, 32)),), None),
        "int4 weights": ((weights(lambda w: rounded(w, 4)),), None),
        "int3 weights, groups of 32": ((weights(lambda w: rounded(w, 3, 32)),), None),
        "int3 weights": ((weights(lambda w: rounded(w, 3)),), None),
        "int4 kv": ((), lambda v: rounded(v, 4)),
        "int3 kv": ((), lambda v: rounded(v, 3)),
        "2 of 30 layers left out": ((without(2),), None),
        "8 of 30 layers left out": ((without(8),), None),
        "weights with 5 % noise": ((noisy(0.05),), None),
        "weights with 20 % noise": ((noisy(0.2),), None),
    }


def batches(prompts: Sequence[Sequence[int]]) -> Iterator[list[int]]:
    """Places of prompts, of like lengths together."""
    ordered = sorted(range(len(prompts)), key=lambda place: len(prompts[place]))
    for start in range(0, len(ordered), BATCH):
        yield ordered[start : start + BATCH]


def answers(
    model: Any, prompts: Sequence[Sequence[int]], count: int, how: Any, ends: list[int]
) -> list[list[int]]:
    """Greedy continuations of exactly `count` tokens."""
    import torch

    made: list[list[int]] = [[] for _ in prompts]
    for batch in batches(prompts):
        longest = max(len(prompts[place]) for place in batch)
        rows = [[ends[0]] * (longest - len(prompts[place])) + list(prompts[place]) for place in batch]
        mask = [[0] * (longest - len(prompts[place])) + [1] * len(prompts[place]) for place in batch]
        with torch.inference_mode():
            out = model.generate(
                torch.tensor(rows),
                attention_mask=torch.tensor(mask),
                do_sample=False,
                max_new_tokens=count,
                min_new_tokens=count,
                past_key_values=cache(how, model.config),
                pad_token_id=ends[0],
                eos_token_id=ends,
            )
        for place, row in zip(batch, out[:, longest:].tolist(), strict=True):
            made[place] = row
    return made


def parser() -> argparse.ArgumentParser:
    """The command line."""
    line = argparse.ArgumentParser(prog="lossy_torch", description=(__doc__ or "").splitlines()[0])
    line.add_argument("--model", required=True, metavar="DIR")
    line.add_argument("--input", required=True, metavar="FILE")
    line.add_argument("--output", required=True, metavar="FILE")
    line.add_argument("--tokens", type=int, required=True)
    line.add_argument("--threads", type=int, default=1)
    line.add_argument("--only", default="", help="variants by name, with semicolons (default: all)")
    return line


def main() -> None:
    """Every variant in turn; one line on stderr each."""
    options = parser().parse_args()
    os.nice(10)
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer

    torch.set_num_threads(options.threads)
    prompts = [json.loads(line) for line in Path(options.input).read_text().splitlines()]
    whole = AutoModelForCausalLM.from_pretrained(options.model, dtype=torch.float32).eval()
    ends = sorted(
        {
            AutoTokenizer.from_pretrained(options.model).eos_token_id,
            *_list(whole.generation_config.eos_token_id),
        }
    )
    chosen = [name for name in options.only.split(";") if name] or list(variants())
    with Path(options.output).open("w") as file:
        for name in chosen:
            began = time.monotonic()
            torch.manual_seed(0)
            model = copy.deepcopy(whole)
            changes, how = variants()[name]
            for change in changes:
                change(model)
            for index, answer in enumerate(answers(model, prompts, options.tokens, how, ends)):
                file.write(json.dumps({"variant": name, "index": index, "answer": answer}) + "\n")
            print(f"{name}: {time.monotonic() - began:.0f} s", file=sys.stderr, flush=True)


def _list(value: Any) -> list[int]:
    return [value] if isinstance(value, int) else list(value or ())


if __name__ == "__main__":
    main()
