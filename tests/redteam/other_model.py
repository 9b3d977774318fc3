"""Another model of the same family and tokenizer: some of the layers of the one at hand are left out."""

from __future__ import annotations

import json
import re
import shutil
from pathlib import Path

import numpy as np
import safetensors

from scenarios.gguf_model import write_safetensors

LAYER = re.compile(r"(model\.layers\.)(\d+)(\..*)")


def without_layers(source: Path, target: Path, layers: int) -> Path:
    """Write a model directory like `source` without so many of its middle layers (all in bfloat16)."""
    shutil.copytree(source, target, ignore=shutil.ignore_patterns("*.safetensors"))
    config = json.loads((source / "config.json").read_text())
    kept = config["num_hidden_layers"] - layers
    start = kept // 2
    tensors = {}
    for name, tensor in safetensors.deserialize((source / "model.safetensors").read_bytes()):
        found = LAYER.fullmatch(name)
        place = int(found[2]) if found else -1
        if start <= place < start + layers:
            continue
        new = f"{found[1]}{place - layers if place >= start else place}{found[3]}" if found else name
        tensors[new] = np.frombuffer(tensor["data"], dtype=np.uint16).reshape(tensor["shape"])
    write_safetensors(target / "model.safetensors", tensors)
    (target / "config.json").write_text(json.dumps({**config, "num_hidden_layers": kept}))
    return target
