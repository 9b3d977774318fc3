"""Make a bundle: a directory of parts, a manifest with checksums, and the script that unpacks it."""

from __future__ import annotations

import json
import shutil
import tempfile
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from scenarios import cache, shapes
from scenarios.provenance import commit
from studies.bundle import unpack
from studies.bundle.parts import PartWriter
from studies.bundle.wheels import Target, download, harness_wheel, requirements
from studies.errors import BadInput

FORMAT = 1
HARNESS = "harness"
MANIFEST, SUMS = "manifest.json", "SHA256SUMS"
LAYERS = ("*.safetensors", "*.bin", "*.pt", "*.gguf", "*.pth", "*.onnx", "*.h5", "*.msgpack")
"""Files of weights, which a bundle of shapes leaves out."""


@dataclass(frozen=True)
class Bundle:
    """What to pack.

    Attributes:
        pins: requirement files by environment (engines, `harness`).
        models: directories; with `shapes_only` without their weights, marked for random ones.
        texts: sources that lie in the cache.
        overlays: by environment, a directory whose files are laid over it once it is installed.
        pip_args: further arguments of `pip download`.
    """

    engines: tuple[str, ...]
    target: Target
    part_size: int
    pins: Mapping[str, Path] = field(default_factory=dict)
    models: tuple[Path, ...] = ()
    shapes_only: bool = False
    texts: tuple[str, ...] = ()
    overlays: Mapping[str, Path] = field(default_factory=dict)
    harness: bool = True
    pip_args: tuple[str, ...] = ()

    @property
    def environments(self) -> tuple[str, ...]:
        """Names of the environments on the other host."""
        return (*([HARNESS] if self.harness else []), *self.engines)


def pack(bundle: Bundle, place: Path, echo: Callable[[str], None]) -> dict[str, Any]:
    """Make the bundle in `place`, a new directory; returns its manifest. Raises BadInput."""
    if place.exists() and any(place.iterdir()):
        raise BadInput(f"{place} is not empty: name a new directory")
    for option, named in (("--pins", bundle.pins), ("--overlay", bundle.overlays)):
        unknown = set(named) - set(bundle.environments)
        if unknown:
            raise BadInput(f"{option} {min(unknown)}=...: add --engine {min(unknown)}")
    for name, directory in bundle.overlays.items():
        if not any(_below(directory, "")):
            raise BadInput(f"--overlay {name}={directory}: no file is there")
    parts = place / "parts"
    parts.mkdir(parents=True, exist_ok=True)
    writer = PartWriter(parts, bundle.part_size)
    try:
        with tempfile.TemporaryDirectory(prefix=".wheels-", dir=place) as scratch:
            for path, name in _files(bundle, Path(scratch), echo):
                writer.add(path, name)
    except BaseException:
        writer.close()
        shutil.rmtree(parts)
        raise
    writer.close()
    manifest = _manifest(bundle, writer)
    (place / MANIFEST).write_text(json.dumps(manifest, indent=1) + "\n")
    (place / SUMS).write_text("".join(f"{one['sha256']}  parts/{one['name']}\n" for one in writer.parts))
    shutil.copyfile(unpack.__file__, place / "unpack.py")
    return manifest


def _files(bundle: Bundle, scratch: Path, echo: Callable[[str], None]) -> Iterator[tuple[Path, str]]:
    """Every file, and its path once unpacked."""
    pins = {name: bundle.pins.get(name) for name in bundle.environments}
    wanted = {name: requirements(name, file, bundle.target) for name, file in pins.items()}
    for name, asked in wanted.items():
        echo(f"downloading wheels for {name} (Python {bundle.target.python}, {bundle.target.arch})")
        into = scratch / name
        download(name, asked, bundle.target, into, bundle.pip_args)
        if name == HARNESS:
            harness_wheel(into, commit()["commit"])
        yield from ((file, f"wheels/{name}/{file.name}") for file in sorted(into.glob("*.whl")))
    for name, directory in bundle.overlays.items():
        yield from _below(directory, f"overlays/{name}")
    for model in bundle.models:
        echo(f"packing {model.name}" + (", shapes only" if bundle.shapes_only else ""))
        yield from _model(model, scratch / "model", shapes_only=bundle.shapes_only)
    for text in bundle.texts:
        yield from _below(cache.home() / "texts" / text, f"cache/texts/{text}")


def _model(model: Path, scratch: Path, *, shapes_only: bool) -> Iterator[tuple[Path, str]]:
    inside = f"cache/models/{model.name}"
    for file, name in _below(model, inside):
        if not shapes_only:
            yield file, name
        elif name == f"{inside}/config.json":
            marked = scratch / model.name / "config.json"
            marked.parent.mkdir(parents=True)
            config = json.loads(file.read_text(encoding="utf-8"))
            marked.write_text(json.dumps({**config, shapes.DECLARATION: "dummy"}, indent=2) + "\n")
            yield marked, name
        elif not any(file.match(pattern) for pattern in LAYERS):
            yield file, name


def _below(directory: Path, inside: str) -> Iterator[tuple[Path, str]]:
    for file in sorted(directory.rglob("*")):
        if file.is_file():
            yield file, f"{inside}/{file.relative_to(directory).as_posix()}"


def _manifest(bundle: Bundle, writer: PartWriter) -> dict[str, Any]:
    first = bundle.engines[:1] if "torch" not in bundle.engines else ()
    return {
        "format": FORMAT,
        "python": bundle.target.python,
        "arch": bundle.target.arch,
        "harness": commit() if bundle.harness else None,
        "environments": list(bundle.environments),
        "engines": list(bundle.engines),
        "stands_for": dict(zip(("torch",), first, strict=False)),
        "models": [model.name for model in bundle.models],
        "part_size": bundle.part_size,
        "parts": writer.parts,
        "blobs": writer.blobs,
        "files": writer.files,
    }
