"""Models: fetched into the cache, opened from a directory, told apart by a digest."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from pathlib import Path
from typing import Literal

from engines.contract import Model
from scenarios import cache, shapes, smollm2
from scenarios.gguf_model import GgufModel

CONVERTER = 2
"""Raised when what `fetch` writes changes, so that older cached directories are made anew."""

_WEIGHTS = ("*.safetensors", "*.bin", "*.pt", "*.gguf")
_EDGE = 1 << 20


class ModelError(Exception):
    """A model cannot be had or opened. The message is one line that names the fix."""


def names() -> tuple[str, ...]:
    """What `fetch` knows."""
    return tuple(_FETCHERS)


def fetch(name: str, echo: Callable[[str], None] = print) -> Path:
    """The directory of a known model, in Hugging Face layout, from the cache or fetched into it.

    `smollm2-135m` is real (its weights were once 4-bit); `mistral-7b-shapes` has no weights.
    Raises ModelError.
    """
    if name not in _FETCHERS:
        raise ModelError(f"unknown model {name}: fetch one of {', '.join(_FETCHERS)}, or pass --model DIR")
    try:
        return cache.once(
            cache.home() / "models" / name, f"{name} {CONVERTER}", lambda path: _FETCHERS[name](path, echo)
        )
    except (smollm2.FetchError, ValueError) as error:
        raise ModelError(str(error)) from error
    except OSError as error:
        raise ModelError(
            f"cannot write {name} ({error}): free some space, or set CEILING_CACHE to a directory with 500 MB"
        ) from error


def open_model(
    path: Path | str,
    *,
    name: str | None = None,
    max_length: int | None = None,
    weights: Literal["real", "dummy"] = "real",
) -> Model:
    """A model directory, checked for what the harness reads: config and tokenizer.

    A directory whose config declares that it has shapes only is opened with dummy weights. A model whose own
    context is below `max_length` keeps its own: whether a scenario fits is then up to its requests.
    Raises ModelError: no directory, no config.json, no tokenizer.json.
    """
    directory = Path(path).expanduser().resolve()
    if not directory.is_dir():
        raise ModelError(
            f"{path} is not a directory: pass --model DIR, or run `ceiling models fetch smollm2-135m`"
        )
    config = _config(directory)
    if not (directory / "tokenizer.json").is_file():
        raise ModelError(
            f"{path} has no tokenizer.json: copy the model's tokenizer files (tokenizer.json, "
            "tokenizer_config.json) into it"
        )
    dummy = weights == "dummy" or config.get(shapes.DECLARATION) == "dummy"
    own = config.get("max_position_embeddings")
    limit = min(max_length, own) if max_length is not None and isinstance(own, int) else max_length
    return Model(directory, name or directory.name, limit, "dummy" if dummy else "real")


def check_weights(model: Model) -> None:
    """Raises ModelError when an engine would find no weights to load."""
    if model.weights == "real" and not _weight_files(model.path):
        raise ModelError(
            f"{model.path} has no weights (*.safetensors or *.bin): download them, or ask for dummy weights"
        )


def digest(path: Path | str) -> str:
    """A stable id of a model directory (16 hex digits), cheap for any size.

    Of config, tokenizer and chat template whole; of weight files name, size, first and last MB.
    """
    directory = Path(path)
    total = hashlib.sha256()
    for name in ("config.json", "tokenizer.json", "tokenizer_config.json", "chat_template.jinja"):
        file = directory / name
        total.update(f"{name}\0".encode() + (file.read_bytes() if file.is_file() else b""))
    for file in _weight_files(directory):
        total.update(f"{file.name}\0{file.stat().st_size}\0".encode())
        with file.open("rb") as data:
            total.update(data.read(_EDGE))
            data.seek(max(0, file.stat().st_size - _EDGE))
            total.update(data.read())
    return total.hexdigest()[:16]


def _config(directory: Path) -> dict[str, object]:
    path = directory / "config.json"
    if not path.is_file():
        raise ModelError(f"{directory} has no config.json: name a model directory in Hugging Face layout")
    try:
        config = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise ModelError(f"{path} is not JSON ({error}): copy the model's files again") from error
    if not isinstance(config, dict):
        raise ModelError(f"{path} is not a JSON object: copy the model's files again")
    return config


def _weight_files(directory: Path) -> list[Path]:
    return sorted({file for pattern in _WEIGHTS for file in directory.glob(pattern)})


def _smollm2(directory: Path, echo: Callable[[str], None]) -> None:
    source = GgufModel(smollm2.gguf_file(echo))
    echo("converting to a bf16 Hugging Face directory (269 MB)")
    source.write(directory)


def _mistral_7b_shapes(directory: Path, echo: Callable[[str], None]) -> None:
    shapes.write_mistral_7b(directory, GgufModel(smollm2.gguf_file(echo)))


_FETCHERS: dict[str, Callable[[Path, Callable[[str], None]], None]] = {
    "smollm2-135m": _smollm2,
    "mistral-7b-shapes": _mistral_7b_shapes,
}
