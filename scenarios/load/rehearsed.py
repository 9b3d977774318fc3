"""What a rehearsal sends: each traffic's lengths and schedule on the warm-up's text, pass by pass."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from itertools import product
from typing import TYPE_CHECKING

from scenarios.load.entry import Entry
from scenarios.rows import REHEARSAL

if TYPE_CHECKING:
    from scenarios.scenario import Scenario, Traffic
    from scenarios.workload import Request, RequestSet

PASSES = 5
"""Passes of the rehearsal, at most."""
REHEARSAL_TOKENS = 128
"""The longest answer of a pass, at most: in so many steps a server has read the prompts of all others too."""
REHEARSAL_SECONDS = 1.0
"""So much of a schedule is rehearsed."""
UNCAPPED = 256
"""Requests, at most, that stand for a traffic without a cap."""
REFILLS = 8
"""Requests, at most, that take the places of those that ended: prompts read beside answers."""
NUMBERED = 12
"""Characters of a prompt that make room for its number."""


def rehearsal(request_set: RequestSet, scenario: Scenario) -> Iterator[Entry]:
    """All passes of every traffic, numbered so that no two prompts begin alike."""
    return _numbered(one for traffic in scenario.traffics for one in _passes(request_set, traffic))


def rehearsed(load: str, number: int) -> str:
    """The stage that is a pass of a traffic's rehearsal, by the traffic's name and the pass's number."""
    return f"{REHEARSAL}-{load}-{number}"


def load_of(stage: str) -> str | None:
    """The traffic that a stage rehearses; None for any other stage. The inverse of `rehearsed`."""
    return stage.removeprefix(f"{REHEARSAL}-").rpartition("-")[0] if stage.startswith(REHEARSAL) else None


def manner(traffic: Traffic, sent: int) -> tuple[bool, int | None]:
    """Whether a pass of a traffic of so many requests sends them together, and the most in flight at once."""
    together = traffic.kind in ("closed", "burst")
    return together, min(traffic.concurrency or UNCAPPED, sent) if together else traffic.concurrency


def _passes(request_set: RequestSet, traffic: Traffic) -> Iterator[Entry]:
    """All passes of one traffic."""
    scored = [request for request in request_set.requests if request.traffic == traffic.name]
    together, most = manner(traffic, len(scored))
    shown = _together(scored, most or 0) if together else _scheduled(scored)
    for number, (place, (request, output)) in product(range(1, PASSES + 1), enumerate(shown)):
        yield replace(
            Entry.of(request, REHEARSAL),
            traffic=rehearsed(traffic.name, number),
            prompt=_as_long(request, request_set.warmup, place),
            output=output,
            offset=request.offset,
        )


def _together(scored: Sequence[Request], most: int) -> list[tuple[Request, int]]:
    """The first ones and the lengths of their answers.

    Who comes first has the longest answer: all are being answered at once before the first one ends, and then
    they end one after another. Those that take their places have the shortest.
    """
    shown = scored[: most + min(REFILLS, most - 1)]
    longest = min(REHEARSAL_TOKENS, max([most + 1, *(request.output_tokens for request in shown)]))
    return [(request, max(2, -(-longest * (most - place) // most))) for place, request in enumerate(shown)]


def _scheduled(scored: Sequence[Request]) -> list[tuple[Request, int]]:
    """Those of the first `REHEARSAL_SECONDS`, one of them at least, and the lengths of their answers."""
    until = min(((request.offset or 0.0) for request in scored), default=0.0) + REHEARSAL_SECONDS
    shown = [request for request in scored if (request.offset or 0.0) <= until][:UNCAPPED]
    return [(request, min(REHEARSAL_TOKENS, request.output_tokens)) for request in shown]


def _as_long(request: Request, warmup: Sequence[Request], place: int) -> str:
    """About as many tokens as the request has: a prompt of the warm-up and, where that ends, the next one."""
    whole = sum(len(warm.prompt) for warm in warmup) / sum(warm.input_tokens for warm in warmup)
    first, then = (warmup[(place + step) % len(warmup)].prompt for step in (0, 1))
    return f"{first} {then}"[: max(1, round(request.input_tokens * whole) - NUMBERED)]


def _numbered(made: Iterable[Entry]) -> Iterator[Entry]:
    """With a number ahead of each prompt, so that no two begin alike."""
    for number, one in enumerate(made, start=1):
        yield replace(one, prompt=f"{number}. {one.prompt}")
