"""All requests of one measurement in the order of their keys: warm-up, rehearsal, scored, and the probe."""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import replace
from itertools import product
from typing import TYPE_CHECKING

from scenarios.load.entry import PROBE, Entry
from scenarios.load.plan import Send, Stage
from scenarios.load.rehearsed import PASSES, manner, rehearsal, rehearsed
from scenarios.rows import FRESH, REPEAT, SCORED, WARMUP

if TYPE_CHECKING:
    from scenarios.scenario import Scenario
    from scenarios.workload import Request, RequestSet

PROBES = 3
PROBE_TOKENS = 16
"""Answer length of a fresh probe: enough for a cadence, too short for holding back to pay."""
REPEAT_EVENTS = 32
"""A repeated request is read for so many events, then ended."""
MIDDLE = 0.5
AGAIN = (0.3, 0.7)
"""Where the prompts of the probe are turned, and those of each further one: no two begin alike."""


def entries(request_set: RequestSet, scenario: Scenario, probes: int = PROBES) -> list[Entry]:
    """Warm-up, rehearsal (all passes), scored and probe requests."""
    made = [Entry.of(request, WARMUP) for request in request_set.warmup]
    if scenario.rehearsal:
        made += rehearsal(request_set, scenario)
    made += [Entry.of(request, SCORED) for request in request_set.requests]
    made += _probe(request_set, probes)
    return [replace(entry, key=key) for key, entry in enumerate(made)]


def again(request_set: RequestSet, turn: int, key: int) -> list[Entry]:
    """Unseen prompts once more, alone on the server: those of `AGAIN[turn]`. `key` is the first one's."""
    made = _fresh(_chosen(request_set, PROBES), AGAIN[turn])
    return [replace(entry, key=key + place) for place, entry in enumerate(made)]


def stages(
    scenario: Scenario, all_entries: Sequence[Entry], places: Sequence[tuple[int, int]]
) -> list[Stage]:
    """The stretches of load, in order; an empty one is left out. `places`: (start, length) of each body."""
    widest = max((traffic.concurrency or 1) for traffic in scenario.traffics)
    sent = Counter(entry.traffic for entry in all_entries)
    made = [_stage(WARMUP, True, widest, all_entries, places)]
    for traffic, number in product(scenario.traffics, range(1, PASSES + 1)):
        name, together, most = rehearsed(traffic.name, number), *manner(traffic, sent[traffic.name])
        made.append(_stage(name, together, most, all_entries, places))
    made += [
        _stage(traffic.name, traffic.kind == "closed", traffic.concurrency, all_entries, places)
        for traffic in scenario.traffics
    ]
    made.append(_stage(PROBE, True, 1, all_entries, places))
    return [stage for stage in made if stage.sends]


def _stage(
    name: str, closed: bool, cap: int | None, all_entries: Sequence[Entry], places: Sequence[tuple[int, int]]
) -> Stage:
    sends = tuple(
        Send(number, int((entry.offset or 0.0) * 1e9), *places[number], entry.cut)
        for number, entry in enumerate(all_entries)
        if entry.traffic == name
    )
    return Stage(name, closed, 1 if closed and cap is None else cap, sends)


def _probe(request_set: RequestSet, probes: int) -> Iterator[Entry]:
    """Unseen prompts first: a server that goes on with an answer that was cut delays what comes after it."""
    chosen = _chosen(request_set, probes)
    yield from _fresh(chosen, MIDDLE)
    for request in chosen:
        yield replace(Entry.of(request, REPEAT), cut=REPEAT_EVENTS, repeats=request.index)


def _chosen(request_set: RequestSet, probes: int) -> list[Request]:
    count = min(probes, len(request_set.requests))
    return random.Random(request_set.digest).sample(request_set.requests, count)


def _fresh(chosen: Sequence[Request], at: float) -> Iterator[Entry]:
    for request in chosen:
        output = min(PROBE_TOKENS, request.output_tokens)
        yield replace(Entry.of(request, FRESH), prompt=turned(request.prompt, at), output=output)


def turned(prompt: str, at: float = MIDDLE) -> str:
    """A prompt as long and as natural that shares no prefix with it: what follows that share of it first."""
    place = int(len(prompt) * at)
    cut = prompt.find(" ", place)
    cut = cut if cut > 0 else place
    return f"{prompt[cut:].strip()} {prompt[:cut].strip()}"
