"""All requests of one measurement in the order of their keys: warm-up, rehearsal, scored, and the probe."""

from __future__ import annotations

import json
import random
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import product
from typing import TYPE_CHECKING

from scenarios.load.plan import Send, Stage
from scenarios.rows import FRESH, REHEARSAL, REPEAT, SCORED, WARMUP

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
"""Requests at once, at most, that stand for a traffic without a cap."""
AT_ONCE = ("closed", "burst")
"""Kinds of traffic that are rehearsed by as many requests as are in flight at most, all sent together."""
REFILLS = 8
"""Requests, at most, that then take the places of those that ended: prompts read beside answers."""
NUMBERED = 6
"""Words of a prompt that make room for its number."""
PROBE = "probe"
"""The stage after the run."""
PROBES = 3
PROBE_TOKENS = 16
"""Answer length of a fresh probe: enough for a cadence, too short for holding back to pay."""
REPEAT_EVENTS = 32
"""A repeated request is read for so many events, then ended."""
MIDDLE = 0.5
AGAIN = (0.3, 0.7)
"""Where the prompts of the probe are turned, and those of each further one: no two begin alike."""


@dataclass(frozen=True)
class Entry:
    """One request as it is sent: `output` tokens are asked, `cut` events are read (0 = all)."""

    key: int
    index: int
    role: str
    traffic: str
    prompt: str
    input_tokens: int
    output: int
    offset: float | None
    seed: int
    cut: int = 0
    repeats: int | None = None

    def body(self, served_model: str, salt: str, *, forced: bool = True) -> bytes:
        """The JSON body: greedy, streamed, with usage; of forced length, or `output` tokens at most.

        `salt` (new for each measurement) keeps engines that know `cache_salt` from answering out of what an
        earlier measurement left in their prefix cache.
        """
        return json.dumps(
            {
                "model": served_model,
                "messages": [{"role": "user", "content": self.prompt}],
                "stream": True,
                "stream_options": {"include_usage": True},
                "max_tokens": self.output,
                **({"min_tokens": self.output, "ignore_eos": True} if forced else {}),
                "temperature": 0,
                "seed": self.seed,
                "cache_salt": salt,
            },
            ensure_ascii=False,
        ).encode("utf-8", "replace")


def entries(request_set: RequestSet, scenario: Scenario, probes: int = PROBES) -> list[Entry]:
    """Warm-up, rehearsal (all passes), scored and probe requests."""
    made = [_entry(request, WARMUP) for request in request_set.warmup]
    if scenario.rehearsal:
        made += _numbered(one for traffic in scenario.traffics for one in _rehearsal(request_set, traffic))
    made += [_entry(request, SCORED) for request in request_set.requests]
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
        at_once = traffic.kind in AT_ONCE
        width = _width(traffic, sent[traffic.name]) if at_once else traffic.concurrency
        made.append(_stage(rehearsed(traffic.name, number), at_once, width, all_entries, places))
    made += [
        _stage(traffic.name, traffic.kind == "closed", traffic.concurrency, all_entries, places)
        for traffic in scenario.traffics
    ]
    made.append(_stage(PROBE, True, 1, all_entries, places))
    return [stage for stage in made if stage.sends]


def rehearsed(load: str, number: int) -> str:
    """The stage that is a pass of a traffic's rehearsal, by the traffic's name and the pass's number."""
    return f"{REHEARSAL}-{load}-{number}"


def load_of(stage: str) -> str | None:
    """The traffic that a stage rehearses; None for any other stage. The inverse of `rehearsed`."""
    return stage.removeprefix(f"{REHEARSAL}-").rpartition("-")[0] if stage.startswith(REHEARSAL) else None


def _stage(
    name: str, closed: bool, cap: int | None, all_entries: Sequence[Entry], places: Sequence[tuple[int, int]]
) -> Stage:
    sends = tuple(
        Send(number, int((entry.offset or 0.0) * 1e9), *places[number], entry.cut)
        for number, entry in enumerate(all_entries)
        if entry.traffic == name
    )
    return Stage(name, closed, 1 if closed and cap is None else cap, sends)


def _entry(request: Request, role: str) -> Entry:
    return Entry(
        key=-1,
        index=request.index,
        role=role,
        traffic={SCORED: request.traffic, WARMUP: WARMUP}.get(role, PROBE),
        prompt=request.prompt,
        input_tokens=request.input_tokens,
        output=request.output_tokens,
        offset=request.offset if role == SCORED else None,
        seed=request.seed,
    )


def _rehearsal(request_set: RequestSet, traffic: Traffic) -> Iterator[Entry]:
    """All passes of one traffic: the lengths and the schedule of its first requests on the warm-up's text.

    Where all are sent together, who comes first has the longest answer: all are being answered at once before
    the first one ends, and then they end one after another. Those that come then have the shortest.
    """
    scored = [request for request in request_set.requests if request.traffic == traffic.name]
    width = _width(traffic, len(scored))
    shown = scored[: width + min(REFILLS, width - 1)] if traffic.kind in AT_ONCE else _begun(scored)
    longest = min(REHEARSAL_TOKENS, max([width + 1, *(request.output_tokens for request in shown)]))
    for number, (place, request) in product(range(1, PASSES + 1), enumerate(shown)):
        warm = request_set.warmup[place % len(request_set.warmup)]
        graded = max(2, -(-longest * (width - place) // width))
        yield replace(
            _entry(warm, REHEARSAL),
            traffic=rehearsed(traffic.name, number),
            prompt=_as_long(warm, request),
            output=graded if traffic.kind in AT_ONCE else min(REHEARSAL_TOKENS, request.output_tokens),
            offset=request.offset,
        )


def _width(traffic: Traffic, sent: int) -> int:
    """How many of so many requests of a traffic are in flight at most."""
    return min(traffic.concurrency or UNCAPPED, sent)


def _begun(scored: Sequence[Request]) -> list[Request]:
    """Those that a schedule sends in its first `REHEARSAL_SECONDS`, its first one at least."""
    until = min(((request.offset or 0.0) for request in scored), default=0.0) + REHEARSAL_SECONDS
    return [request for request in scored if (request.offset or 0.0) <= until][:UNCAPPED]


def _as_long(warm: Request, request: Request) -> str:
    """The warm-up's prompt with its end cut off: as long as the request's, and less by a number's length."""
    words = warm.prompt.split(" ")
    share = min(1.0, request.input_tokens / warm.input_tokens)
    return " ".join(words[: int(len(words) * share) - NUMBERED]) or warm.prompt


def _numbered(made: Iterable[Entry]) -> Iterator[Entry]:
    """With a number ahead of each prompt, so that no two begin alike."""
    for number, entry in enumerate(made, start=1):
        yield replace(entry, prompt=f"{number}. {entry.prompt}")


def _probe(request_set: RequestSet, probes: int) -> Iterator[Entry]:
    """Unseen prompts first: a server that goes on with an answer that was cut delays what comes after it."""
    chosen = _chosen(request_set, probes)
    yield from _fresh(chosen, MIDDLE)
    for request in chosen:
        yield replace(_entry(request, REPEAT), cut=REPEAT_EVENTS, repeats=request.index)


def _chosen(request_set: RequestSet, probes: int) -> list[Request]:
    count = min(probes, len(request_set.requests))
    return random.Random(request_set.digest).sample(request_set.requests, count)


def _fresh(chosen: Sequence[Request], at: float) -> Iterator[Entry]:
    for request in chosen:
        output = min(PROBE_TOKENS, request.output_tokens)
        yield replace(_entry(request, FRESH), prompt=turned(request.prompt, at), output=output)


def turned(prompt: str, at: float = MIDDLE) -> str:
    """A prompt as long and as natural that shares no prefix with it: what follows that share of it first."""
    place = int(len(prompt) * at)
    cut = prompt.find(" ", place)
    cut = cut if cut > 0 else place
    return f"{prompt[cut:].strip()} {prompt[:cut].strip()}"
