"""How likely a model itself finds given answers, token by token: the judge of what a server answered.

It runs inside the torch engine's own environment, as a script, and so imports nothing of Ceiling's. Each line
of the input is an item: `prompt` and `answer` (token ids) and `spans` (stretches [start, end) of the answer).
The first line of the output says how it was worked out; then there is one line an item with, for each token
of the spans in order, `logprob`, `gap` (nats to the likeliest token) and `rank` (0: the likeliest), under the
model's own weights and given all that stands before the token. Tokens that end an answer are left out of
account, as in a server that is told not to end it; where the checkpoint asks for a repetition penalty, which
some servers then apply, the better of both readings counts. An item with `generate` in place of answer and
spans gets the model's own greedy `answer` of so many tokens instead.
"""

from __future__ import annotations

import argparse
import ctypes
import json
import os
import signal
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

NICE = 10
"""A measurement that runs on this machine goes first."""
ROOM = 1.3
"""Memory that the pass may need, by the memory of the weights."""
PLENTY = 2 << 30

TOGETHER = 16384
"""Tokens, prompts and answers, of a batch of own answers."""

PR_SET_PDEATHSIG = 1


def device_and_dtype(weights: int, wanted: str) -> tuple[str, str]:
    """Where `weights` bytes of parameters in single precision fit: a free GPU first, halves if need be."""
    import torch

    if wanted != "cpu" and torch.cuda.is_available():
        free, _ = torch.cuda.mem_get_info()
        for dtype, share in (("float32", 1.0), ("bfloat16", 0.5)):
            if free > ROOM * share * weights + PLENTY:
                return "cuda", dtype
    page, pages = os.sysconf("SC_PAGE_SIZE"), os.sysconf("SC_AVPHYS_PAGES")
    free = max(page * pages, available())
    return "cpu", "float32" if free > ROOM * weights + PLENTY else "bfloat16"


def available() -> int:
    """Bytes of memory that Linux would give without swapping; 0 where it does not say."""
    try:
        lines = Path("/proc/meminfo").read_text().splitlines()
    except OSError:
        return 0
    known = dict(line.split(":", 1) for line in lines if ":" in line)
    return 1024 * int(known.get("MemAvailable", "0 kB").split()[0])


def load(path: str, wanted: str) -> tuple[Any, list[int]]:
    """The model, and the tokens that end an answer."""
    import torch
    from transformers import AutoConfig, AutoModelForCausalLM

    with torch.device("meta"):
        empty = AutoModelForCausalLM.from_config(AutoConfig.from_pretrained(path))
    size = 4 * sum(parameter.numel() for parameter in empty.parameters())
    device, dtype = device_and_dtype(size, wanted)
    model = AutoModelForCausalLM.from_pretrained(path, dtype=getattr(torch, dtype))
    return model.to(device).eval(), ending(path, model)


def ending(path: str, model: Any) -> list[int]:
    """Token ids that end an answer, by generation config and tokenizer."""
    from transformers import AutoTokenizer

    said = (model.generation_config.eos_token_id, AutoTokenizer.from_pretrained(path).eos_token_id)
    return sorted({one for ids in said for one in ([ids] if isinstance(ids, int) else ids or ())})


def places(answer: int, spans: Sequence[Sequence[int]]) -> list[int]:
    """Places in an answer of so many tokens that lie in a span."""
    return [place for start, end in spans for place in range(start, min(end, answer))]


def judged(model: Any, ends: Sequence[int], item: dict[str, Any]) -> dict[str, list[float]]:
    """Figures of one item: one forward pass up to the last token that is looked at."""
    import torch

    wanted = places(len(item["answer"]), item["spans"])
    if not wanted:
        return {"logprob": [], "gap": [], "rank": []}
    tokens = [*item["prompt"], *item["answer"][: wanted[-1] + 1]]
    before = [len(item["prompt"]) + place - 1 for place in wanted]
    device = model.device
    chosen = torch.tensor([tokens[place + 1] for place in before], device=device)
    with torch.inference_mode():
        out = model(
            torch.tensor([tokens[:-1]], device=device),
            logits_to_keep=torch.tensor(before, device=device),
            use_cache=False,
        )
        logits = out.logits[0].float()
        logits[:, list(ends)] = float("-inf")
        logprob, gap, rank = figures(logits, chosen)
        penalty = getattr(model.generation_config, "repetition_penalty", None) or 1.0
        if penalty != 1.0:
            other = figures(penalised(logits, tokens, before, penalty), chosen)
            better = other[1] < gap
            pairs = zip(other, (logprob, gap, rank), strict=True)
            logprob, gap, rank = (torch.where(better, one, plain) for one, plain in pairs)
    return {
        "logprob": [_finite(value) for value in logprob.tolist()],
        "gap": [_finite(value) for value in gap.tolist()],
        "rank": rank.tolist(),
    }


def figures(logits: Any, chosen: Any) -> tuple[Any, Any, Any]:
    """Of the chosen tokens, one a row of logits: logprob, gap and rank."""
    own = logits.gather(1, chosen[:, None])
    logprob = (own - logits.logsumexp(1, keepdim=True))[:, 0]
    gap = (logits.max(1, keepdim=True).values - own)[:, 0]
    return logprob, gap, (logits > own).sum(1)


def penalised(logits: Any, tokens: Sequence[int], before: Sequence[int], penalty: float) -> Any:
    """Logits as a server has them that takes the checkpoint's own repetition penalty for its default."""
    import torch

    changed = logits.clone()
    for row, place in enumerate(before):
        seen = torch.tensor(sorted(set(tokens[: place + 1])), device=logits.device)
        some = changed[row, seen]
        changed[row, seen] = torch.where(some > 0, some / penalty, some * penalty)
    return changed


def continued(
    model: Any, ends: Sequence[int], items: Mapping[int, dict[str, Any]]
) -> Iterator[tuple[int, list[int]]]:
    """The model's own greedy answers of `generate` tokens to items by place, batch by batch."""
    lengths = {place: (len(item["prompt"]), item["generate"]) for place, item in items.items()}
    for batch in batches(lengths):
        yield from zip(batch, _greedy(model, ends, [items[place] for place in batch]), strict=True)


def batches(lengths: Mapping[int, tuple[int, int]]) -> Iterator[list[int]]:
    """Places of items that are worked out together, from their tokens of prompt and answer.

    A batch has answers of one length and prompts of like lengths, and at most `TOGETHER` tokens, padding
    counted, unless one item has more.
    """
    batch: list[int] = []
    room = 0
    for place, (prompt, answer) in sorted(lengths.items(), key=lambda one: (one[1][1], -one[1][0])):
        if batch and (len(batch) == room or lengths[batch[0]][1] != answer):
            yield batch
            batch = []
        if not batch:
            room = max(1, TOGETHER // (prompt + answer))
        batch.append(place)
    if batch:
        yield batch


def _greedy(model: Any, ends: Sequence[int], items: Sequence[dict[str, Any]]) -> list[list[int]]:
    """Answers to items of one batch; a batch that is too large for the device is halved."""
    import torch
    from transformers import GenerationConfig

    count, width = items[0]["generate"], max(len(item["prompt"]) for item in items)
    padding = min(ends, default=0)
    padded = [[padding] * (width - len(item["prompt"])) + item["prompt"] for item in items]
    shown = [[0] * (width - len(item["prompt"])) + [1] * len(item["prompt"]) for item in items]
    model.generation_config = GenerationConfig(pad_token_id=padding)
    try:
        with torch.inference_mode():
            out = model.generate(
                torch.tensor(padded, device=model.device),
                attention_mask=torch.tensor(shown, device=model.device),
                do_sample=False,
                max_new_tokens=count,
                min_new_tokens=count,
                eos_token_id=list(ends) or None,
            )
    except torch.OutOfMemoryError:
        if len(items) == 1:
            raise
        half = len(items) // 2
        return _greedy(model, ends, items[:half]) + _greedy(model, ends, items[half:])
    answers: list[list[int]] = out[:, width:].tolist()
    return answers


def _finite(value: float) -> float:
    """Tokens that are left out of account have no likelihood; JSON has no infinity."""
    return round(max(-99.0, min(99.0, value)), 4)


def results(options: argparse.Namespace) -> Iterator[dict[str, Any]]:
    """How it is worked out, then the items' figures."""
    import torch
    import transformers

    if options.threads:
        torch.set_num_threads(options.threads)
    began = time.monotonic()
    model, ends = load(options.model, options.device)
    yield {
        "torch": torch.__version__,
        "transformers": transformers.__version__,
        "device": str(model.device.type),
        "dtype": str(model.dtype).removeprefix("torch."),
        "load_seconds": round(time.monotonic() - began, 2),
    }
    with Path(options.input).open(encoding="utf-8") as lines:
        items = [json.loads(line) for line in lines]
    own = {place: item for place, item in enumerate(items) if "generate" in item}
    answers = dict(continued(model, ends, own))
    for place, item in enumerate(items):
        yield {"answer": answers[place]} if place in own else judged(model, ends, item)


def parser() -> argparse.ArgumentParser:
    """The command line."""
    line = argparse.ArgumentParser(prog="torch_reference", description=(__doc__ or "").splitlines()[0])
    line.add_argument("--model", required=True, metavar="DIR", help="Hugging Face model directory")
    line.add_argument("--input", required=True, metavar="FILE", help="items as JSON lines")
    line.add_argument("--output", required=True, metavar="FILE", help="figures as JSON lines")
    line.add_argument("--device", default="auto", choices=["auto", "cpu"])
    line.add_argument("--threads", type=int, default=0, help="CPU threads (default: torch's own)")
    return line


def main() -> None:
    """Writes the output under its name only when it is whole; ends when whoever asked is gone."""
    options = parser().parse_args()
    os.nice(NICE)
    ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
    partial = Path(f"{options.output}.partial")
    with partial.open("w", encoding="utf-8") as file:
        for result in results(options):
            file.write(json.dumps(result) + "\n")
    partial.rename(options.output)


if __name__ == "__main__":
    main()
