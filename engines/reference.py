"""How likely the base model itself finds given answers, worked out by the torch engine's interpreter."""

from __future__ import annotations

import hashlib
import json
import subprocess
import tempfile
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from engines.contract import EngineError, Launch
from engines.environment import device_variables, server_environment
from engines.host import Device
from engines.runtime import Runtime, find, home

ENGINE = "torch"
SCRIPT = Path(__file__).with_name("torch_reference.py")
"""For the torch engine's own interpreter; it imports nothing of ours."""

QUIET = {"HF_HUB_OFFLINE": "1", "HF_HUB_DISABLE_TELEMETRY": "1", "OMP_WAIT_POLICY": "PASSIVE"}
LIMIT = 900.0


class ReferenceFailed(EngineError):
    """The reference could not be worked out. The message is one line."""


@dataclass(frozen=True)
class Item:
    """An answer and what it answers, in token ids; `spans` are the stretches of it that are looked at."""

    prompt: tuple[int, ...]
    answer: tuple[int, ...]
    spans: tuple[tuple[int, int], ...]


@dataclass(frozen=True)
class Figures:
    """Of each token of an item's spans: `logprob`, `gap` (nats to the likeliest), `rank` (0: likeliest)."""

    logprob: tuple[float, ...]
    gap: tuple[float, ...]
    rank: tuple[int, ...]


@dataclass(frozen=True)
class Reference:
    """The figures of all items in order; `how` is the arithmetic: versions, device, dtype.

    `seconds` is what it took now: 0 where it was kept from before.
    """

    items: tuple[Figures, ...]
    how: Mapping[str, Any]
    seconds: float


def reference(
    model: Path, digest: str, items: Sequence[Item], *, devices: Sequence[Device] = (), limit: float = LIMIT
) -> Reference:
    """What the model of a directory makes of the items. `digest` tells its weights from others.

    Runs niced, on one of `devices` that has room, else on the CPU. The same items are worked out once and
    kept under `home()/cache`. Raises EngineNotInstalled without the torch engine, ReferenceFailed where it
    fails.
    """
    told = "".join(json.dumps(asdict(item)) + "\n" for item in items)
    (how, *lines), seconds = _answered(model, digest, told, devices, limit)
    figures = tuple(Figures(**{name: tuple(values) for name, values in line.items()}) for line in lines)
    return Reference(figures, how, seconds)


def greedy(
    model: Path,
    digest: str,
    prompts: Sequence[Sequence[int]],
    length: int,
    *,
    devices: Sequence[Device] = (),
    limit: float = LIMIT,
) -> tuple[tuple[int, ...], ...]:
    """The model's own answers of `length` tokens to prompts, in token ids; kept and raising as above.

    No token that ends an answer is among them.
    """
    told = "".join(json.dumps({"prompt": list(one), "generate": length}) + "\n" for one in prompts)
    (_, *lines), _ = _answered(model, digest, told, devices, limit)
    return tuple(tuple(line["answer"]) for line in lines)


def _answered(
    model: Path, digest: str, told: str, devices: Sequence[Device], limit: float
) -> tuple[list[dict[str, Any]], float]:
    """What the script writes for these items, and the seconds that it took now."""
    runtime = find(ENGINE)
    key = hashlib.sha256(f"{digest}\0{runtime.version}\0{told}".encode()).hexdigest()[:32]
    kept = home() / "cache" / "reference" / f"{key}.jsonl"
    began = time.monotonic()
    fresh = not kept.is_file()
    if fresh:
        _worked_out(runtime, model, told, kept, tuple(devices), limit)
    try:
        lines = [json.loads(line) for line in kept.read_text(encoding="utf-8").splitlines()]
    except (OSError, ValueError) as error:
        raise ReferenceFailed(f"{kept} does not read ({error}): remove it") from error
    return lines, round(time.monotonic() - began, 2) if fresh else 0.0


def _worked_out(
    runtime: Runtime, model: Path, told: str, kept: Path, devices: tuple[Device, ...], limit: float
) -> None:
    with tempfile.TemporaryDirectory(prefix="ceiling-reference-") as place:
        source, log, made = (Path(place) / name for name in ("items.jsonl", "log", "made.jsonl"))
        source.write_text(told, encoding="utf-8")
        argv = [*runtime.program, str(SCRIPT), "--model", str(model), "--input", str(source)]
        argv += ["--output", str(made), "--device", "auto" if devices else "cpu"]
        variables = {**runtime.env, **QUIET, **({} if devices else {"CUDA_VISIBLE_DEVICES": ""})}
        _run(Launch(tuple(argv), variables), devices, log, limit)
        kept.parent.mkdir(parents=True, exist_ok=True)
        partial = kept.with_suffix(".partial")
        partial.write_bytes(made.read_bytes())
        partial.rename(kept)


def _run(launch: Launch, devices: tuple[Device, ...], log: Path, limit: float) -> None:
    with log.open("wb") as output:
        try:
            done = subprocess.run(
                launch.argv,
                env={**server_environment(launch, (), {}), **device_variables(devices)},
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                timeout=limit,
                check=False,
            )
        except subprocess.TimeoutExpired as error:
            raise ReferenceFailed(f"the reference model was not done after {limit:.0f} s") from error
        except OSError as error:
            raise ReferenceFailed(f"{launch.argv[0]} does not run: {error}") from error
    if done.returncode:
        said = log.read_text(encoding="utf-8", errors="replace").strip().splitlines()
        raise ReferenceFailed(f"the reference model ended with {done.returncode}: {' '.join(said[-1:])}")
