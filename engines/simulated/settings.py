"""The simulated server's command line: an engine's flags, and the parameters of the simulation itself."""

from __future__ import annotations

import argparse
import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

PREFIX = "CEILING_SIM_"
"""A parameter of the simulation can also be a variable: CEILING_SIM_NOISE_SEED for `--noise-seed`."""

LANDSCAPES = ("default", "eager-dominates", "fidelity-disagrees", "crashy", "default-best")


@dataclass(frozen=True)
class Settings:
    """What a search may vary: flags of the server, at their defaults."""

    max_num_seqs: int = 64
    max_num_batched_tokens: int = 2048
    gpu_memory_utilization: float = 0.9
    block_size: int = 16
    enable_chunked_prefill: bool = True
    enable_prefix_caching: bool = True
    enforce_eager: bool = False
    cudagraph_mode: str = "FULL_AND_PIECEWISE"
    async_scheduling: bool = False
    attention_backend: str = "FLASH_ATTN"
    kv_cache_dtype: str = "auto"
    quantization: str = "none"
    speculative_method: str = "none"
    num_speculative_tokens: int = 3
    prompt_lookup_max: int = 3
    tensor_parallel_size: int = 1


@dataclass(frozen=True)
class Fixed:
    """Exact timing for every request whatever the load: seconds, and tokens of each chunk but the first."""

    ttft: float
    tpot: float
    chunk: int = 1

    @classmethod
    def parse(cls, text: str) -> Fixed:
        """Read `ttft=0.05,tpot=0.01,chunk=3`. Raises ValueError."""
        try:
            parts = dict(part.split("=", 1) for part in text.split(","))
            chunk = int(parts.pop("chunk", "1"))
            fixed = cls(ttft=float(parts.pop("ttft")), tpot=float(parts.pop("tpot")), chunk=chunk)
        except (KeyError, ValueError) as error:
            raise ValueError(f"fixed timing reads ttft=0.05,tpot=0.01,chunk=3, not {text!r}") from error
        if parts or fixed.chunk < 1 or fixed.ttft < 0 or fixed.tpot < 0:
            raise ValueError(f"fixed timing reads ttft=0.05,tpot=0.01,chunk=3, not {text!r}")
        return fixed


@dataclass(frozen=True)
class Simulation:
    """What no search may vary: parameters of the simulation.

    Attributes:
        speed: every modelled duration is divided by it.
        start_seconds: start-up time of the default config; other configs in proportion.
        compile_seconds: by how much longer a step takes whose number of tokens (rounded up to a power of
            four) has not occurred yet.
        landscape: which shape the performance over the space has.
        noise: scale of the noise, 0 for none.
        noise_seed: seeds the noise of this start, together with the settings; None draws one.
        fixed: exact timing in place of the model.
        usage: whether usage is reported when asked for.
        looping: share of answers that fall into repeating themselves.
        aging_requests: requests after which the `fidelity-disagrees` landscape has turned over.
        die_after: requests after which the process dies, None for never.
        truth: file that receives a line of JSON a request.
        memory_gib: device memory, None for one sized for the model.
    """

    speed: float = 1.0
    start_seconds: float = 0.0
    compile_seconds: float = 0.0
    landscape: str = "default"
    noise: float = 1.0
    noise_seed: int | None = None
    fixed: Fixed | None = None
    usage: bool = True
    looping: float = 0.0
    aging_requests: int = 40
    die_after: int | None = None
    truth: Path | None = None
    memory_gib: float | None = None


@dataclass(frozen=True)
class Options:
    """Everything on the command line."""

    host: str
    port: int
    model: Path
    served_model_name: str
    max_model_len: int | None
    settings: Settings
    simulation: Simulation


def parse(argv: Sequence[str]) -> Options:
    """Read a command line; a wrong one prints usage and exits with 2, as argparse does."""
    given = vars(parser().parse_args(argv))
    settings = Settings(**{name: given[name] for name in Settings.__dataclass_fields__})
    simulation = Simulation(**{name: given[name] for name in Simulation.__dataclass_fields__})
    return Options(
        host=given["host"],
        port=given["port"],
        model=given["model"],
        served_model_name=given["served_model_name"] or str(given["model"]),
        max_model_len=given["max_model_len"],
        settings=settings,
        simulation=simulation,
    )


@cache
def flags() -> frozenset[str]:
    """Names of all flags without dashes, the `no-` forms of switches included."""
    return frozenset(
        option.removeprefix("--")
        for action in parser()._actions
        for option in action.option_strings
        if option.startswith("--") and option != "--help"
    )


def parser() -> argparse.ArgumentParser:
    """The parser; defaults of the simulation's own parameters come from CEILING_SIM_* variables."""
    made = argparse.ArgumentParser(prog="simulated", allow_abbrev=False, description=__doc__)
    made.add_argument("--host", default="127.0.0.1")
    made.add_argument("--port", type=int, default=8000)
    made.add_argument("--model", type=Path, required=True)
    made.add_argument("--served-model-name")
    made.add_argument("--max-model-len", type=_positive)
    _add_settings(made)
    _add_simulation(made)
    return made


def _add_settings(made: argparse.ArgumentParser) -> None:
    group = made.add_argument_group("engine")
    group.add_argument("--max-num-seqs", type=_positive, default=Settings.max_num_seqs)
    group.add_argument("--max-num-batched-tokens", type=_positive, default=Settings.max_num_batched_tokens)
    group.add_argument("--gpu-memory-utilization", type=_share, default=Settings.gpu_memory_utilization)
    group.add_argument("--block-size", type=int, choices=(16, 32, 64), default=Settings.block_size)
    for name in ("enable_chunked_prefill", "enable_prefix_caching", "enforce_eager", "async_scheduling"):
        flag = "--" + name.replace("_", "-")
        group.add_argument(flag, action=argparse.BooleanOptionalAction, default=getattr(Settings, name))
    for name, choices in _CHOICES.items():
        flag = "--" + name.replace("_", "-")
        group.add_argument(flag, choices=choices, default=getattr(Settings, name))
    group.add_argument("--num-speculative-tokens", type=_positive, default=Settings.num_speculative_tokens)
    group.add_argument("--prompt-lookup-max", type=_positive, default=Settings.prompt_lookup_max)
    group.add_argument("--tensor-parallel-size", type=_positive, default=Settings.tensor_parallel_size)


def _add_simulation(made: argparse.ArgumentParser) -> None:
    group = made.add_argument_group("simulation")
    for flag, kind in _SIMULATION.items():
        fallback = getattr(Simulation, flag.replace("-", "_"))
        group.add_argument(f"--{flag}", type=kind, default=os.environ.get(_variable(flag), fallback))
    usage = os.environ.get(_variable("usage"), "1") != "0"
    group.add_argument("--usage", action=argparse.BooleanOptionalAction, default=usage)


def _variable(flag: str) -> str:
    return PREFIX + flag.replace("-", "_").upper()


def _positive(text: str) -> int:
    value = int(text)
    if value < 1:
        raise argparse.ArgumentTypeError(f"{text} is not a positive integer")
    return value


def _landscape(text: str) -> str:
    if text not in LANDSCAPES:
        raise argparse.ArgumentTypeError(f"no landscape {text!r}: one of {', '.join(LANDSCAPES)}")
    return text


def _fixed(text: str) -> Fixed:
    try:
        return Fixed.parse(text)
    except ValueError as error:
        raise argparse.ArgumentTypeError(str(error)) from error


def _share(text: str) -> float:
    value = float(text)
    if not 0 < value <= 1:
        raise argparse.ArgumentTypeError(f"{text} is not in (0, 1]")
    return value


_CHOICES: dict[str, tuple[str, ...]] = {
    "cudagraph_mode": ("PIECEWISE", "FULL_AND_PIECEWISE"),
    "attention_backend": ("FLASH_ATTN", "FLASHINFER", "TRITON_ATTN"),
    "kv_cache_dtype": ("auto", "fp8"),
    "quantization": ("none", "fp8"),
    "speculative_method": ("none", "ngram"),
}

_SIMULATION: dict[str, Callable[[str], Any]] = {
    "speed": float,
    "start-seconds": float,
    "compile-seconds": float,
    "noise": float,
    "noise-seed": int,
    "landscape": _landscape,
    "fixed": _fixed,
    "looping": float,
    "aging-requests": int,
    "die-after": int,
    "truth": Path,
    "memory-gib": float,
}
