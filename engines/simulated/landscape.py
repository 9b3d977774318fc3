"""Landscapes: shapes that performance over the space can have, for research on searches.

`default` changes nothing: the optimum follows from the performance model.
`eager-dominates`: captured graphs are a burden here, so `enforce-eager` decides everything else.
`fidelity-disagrees`: some configs start fast and slow down as the server ages, others the reverse, so that
    few requests and many rank them differently.
`crashy`: about 40 % of configs drawn uniformly do not start, in regions that a model of feasibility can
    learn.
`default-best`: every flag away from its default costs time and gains nothing.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, fields, replace

from engines.simulated.settings import Settings


@dataclass(frozen=True)
class Factors:
    """Multipliers on terms of the performance model; 1 leaves a term alone."""

    base: float = 1.0
    sequence: float = 1.0
    kv: float = 1.0
    prefill: float = 1.0


def factors(landscape: str, settings: Settings) -> Factors:
    """What a landscape does to the costs of these settings."""
    return _FACTORS.get(landscape, _neutral)(settings)


def effective(landscape: str, settings: Settings) -> Settings:
    """The settings as the costs see them: `default-best` takes every gain away.

    `max_num_seqs` and the token budget stay, since they bound what runs at once and thus can only lose.
    """
    if landscape != "default-best":
        return settings
    return replace(
        Settings(),
        max_num_seqs=min(settings.max_num_seqs, Settings.max_num_seqs),
        max_num_batched_tokens=min(settings.max_num_batched_tokens, Settings.max_num_batched_tokens),
        enable_prefix_caching=settings.enable_prefix_caching,
        tensor_parallel_size=settings.tensor_parallel_size,
    )


def aging(landscape: str, settings: Settings, served: int, turnover: int) -> float:
    """Multiplier on the length of a step after `served` requests; the swing is over after `turnover`."""
    if landscape != "fidelity-disagrees":
        return 1.0
    age = min(1.0, served / turnover)
    young, old = _YOUNG_AND_OLD[settings.attention_backend]
    if settings.block_size > Settings.block_size:
        young, old = young * 0.92, old * 1.12
    return young + (old - young) * age


def _neutral(_: Settings) -> Factors:
    return Factors()


def _eager_dominates(settings: Settings) -> Factors:
    return Factors() if settings.enforce_eager else Factors(base=4.0, sequence=1.6, kv=1.6, prefill=1.6)


def _default_best(settings: Settings) -> Factors:
    changed = sum(getattr(settings, field.name) != field.default for field in fields(Settings))
    cost = 1.0 + 0.06 * changed
    return Factors(base=cost, sequence=cost, kv=cost, prefill=cost)


_FACTORS: dict[str, Callable[[Settings], Factors]] = {
    "eager-dominates": _eager_dominates,
    "default-best": _default_best,
}

_YOUNG_AND_OLD = {"FLASH_ATTN": (1.0, 1.0), "FLASHINFER": (0.8, 1.4), "TRITON_ATTN": (1.25, 0.75)}
