"""The requests of a measurement, decided by plan and model alone: natural text, exact lengths, a schedule."""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Iterable, Iterator
from dataclasses import asdict, dataclass
from functools import lru_cache
from itertools import chain, islice

import numpy as np
import numpy.typing as npt

from engines.contract import Model
from scenarios import arrivals, profiles, tokenizer
from scenarios.corpus import Corpus, corpus
from scenarios.scenario import Fidelity, Plan, Scenario, ScenarioError, Traffic
from scenarios.texts import TextError
from scenarios.tokenizer import Tokenizer

WARMUP = "warmup"
"""The traffic that warm-up requests name."""

WARMUP_OUTPUT = 64
"""Tokens that a warm-up request asks for at most."""

PREFIX = 24
"""No two prompts of one seed and scenario begin with the same this many tokens."""

_SLACK = 64
_END = 16
"""Tokens at the end of a prompt of which one may be left out, where no cut has the exact length."""
_EDGES = "\ufffd \n\t\r"
_SEEDS = 103


@dataclass(frozen=True)
class Request:
    """One request.

    Attributes:
        index: place among the scored requests (or among the warm-up), from 0.
        traffic: name of its traffic; `warmup` for warm-up.
        prompt: the one user message.
        input_tokens: tokens of the whole prompt, chat template included.
        output_tokens: tokens to be asked for, no more and no fewer.
        offset: intended send time, seconds from the start of its traffic; None in a closed loop.
        seed: sampling seed to send.
    """

    index: int
    traffic: str
    prompt: str
    input_tokens: int
    output_tokens: int
    offset: float | None
    seed: int


@dataclass(frozen=True)
class RequestSet:
    """Everything that a measurement sends. `digest` is a sha256 over all of it, in order."""

    warmup: tuple[Request, ...]
    requests: tuple[Request, ...]
    digest: str


@dataclass(frozen=True)
class _Draft:
    traffic: str
    input_tokens: int
    output_tokens: int
    offset: float | None
    seed: int
    place: int
    """Which of the block's places in the text it takes."""


def build(plan: Plan, model: Model) -> RequestSet:
    """The request set of a plan; the same plan and model give the same set.

    A smaller fidelity sends a subset of its block's prompts: on a server that has seen a block, ask for
    another. Blocks of one seed, its scenarios, and seeds that differ modulo 103 share no prompt while the
    text has places enough.
    Raises ScenarioError (unknown scenario or profile; lengths that do not fit the model) and TextError.
    """
    scenario = profiles.scenario(plan.profile, plan.scenario)
    _check(plan, scenario, model)
    words = tokenizer.load(model.path)
    text = corpus(plan.text, words)
    drafts = [*_warmup(plan, scenario), *_scored(plan, scenario)]
    places, spare = _places(plan, scenario, text, words)
    writer = _Writer(words, text, places, spare)
    prompts = [writer.prompt(int(places[draft.place]), draft.input_tokens) for draft in drafts]
    count = scenario.warmup_requests
    warmup = tuple(_request(*item) for item in zip(range(count), drafts, prompts, strict=False))
    requests = tuple(
        _request(index, draft, prompt)
        for index, (draft, prompt) in enumerate(zip(drafts[count:], prompts[count:], strict=True))
    )
    return RequestSet(warmup, requests, digest_of([*warmup, *requests]))


def share(traffic: Traffic, fidelity: Fidelity) -> int:
    """How many requests of a traffic a fidelity sends: its share, but enough to keep the concurrency up."""
    least = min(traffic.requests, traffic.concurrency or 1)
    count = max(least, math.ceil(traffic.requests * fidelity.requests - 1e-9))
    return count if fidelity.serial is None else min(count, fidelity.serial)


def _check(plan: Plan, scenario: Scenario, model: Model) -> None:
    fidelity = plan.fidelity
    if not (0 < fidelity.requests <= 1 and 0 < fidelity.output <= 1 and fidelity.block >= 0):
        raise ScenarioError(f"fidelity {fidelity} is out of range: shares lie in (0, 1], blocks start at 0")
    if fidelity.serial is not None and fidelity.serial < 1:
        raise ScenarioError(f"fidelity {fidelity} is out of range: serial is a number of requests")
    if fidelity.output < 1 and scenario.letter not in "AB":
        raise ScenarioError(f"scenario {scenario.letter} keeps its output length: shorten it in A and B only")
    context = _context(model)
    longest = scenario.input_tokens + scenario.output_tokens
    if context is not None and longest > context:
        raise ScenarioError(
            f"profile {plan.profile} needs {longest} tokens in {scenario.letter}, {model.name} has a context "
            f"of {context}: choose a smaller profile"
        )


def _context(model: Model) -> int | None:
    config = json.loads((model.path / "config.json").read_text(encoding="utf-8"))
    limits = [config.get("max_position_embeddings"), model.max_length]
    return min((limit for limit in limits if isinstance(limit, int)), default=None)


def _warmup(plan: Plan, scenario: Scenario) -> Iterator[_Draft]:
    lengths = _Lengths(plan, scenario, WARMUP, scenario.warmup_requests)
    for index in range(scenario.warmup_requests):
        inputs, outputs, seed = lengths.of(index)
        yield _Draft(WARMUP, inputs, min(outputs, WARMUP_OUTPUT), None, seed, index)


def _scored(plan: Plan, scenario: Scenario) -> Iterator[_Draft]:
    first = scenario.warmup_requests
    for traffic in scenario.traffics:
        count = share(traffic, plan.fidelity)
        lengths = _Lengths(plan, scenario, traffic.name, traffic.requests)
        times = arrivals.offsets(
            traffic, count, seed=plan.seed, scenario=scenario.letter, block=plan.fidelity.block
        )
        for index, offset in enumerate(times):
            inputs, outputs, seed = lengths.of(index)
            yield _Draft(traffic.name, inputs, outputs, offset, seed, first + index)
        first += traffic.requests


class _Lengths:
    """Lengths and sampling seeds of a whole traffic, drawn at once so that a subset has the same ones."""

    def __init__(self, plan: Plan, scenario: Scenario, traffic: str, count: int) -> None:
        draw = arrivals.generator("lengths", plan.seed, scenario.letter, traffic, plan.fidelity.block)
        self._inputs = draw.integers(*_range(scenario.input_tokens, scenario.spread), size=count)
        self._outputs = draw.integers(*_range(scenario.output_tokens, scenario.spread), size=count)
        self._seeds = draw.integers(0, 2**31, size=count)
        self._share = plan.fidelity.output

    def of(self, index: int) -> tuple[int, int, int]:
        outputs = max(2, round(int(self._outputs[index]) * self._share))
        return int(self._inputs[index]), outputs, int(self._seeds[index])


def _range(longest: int, spread: float) -> tuple[int, int]:
    return min(longest, math.ceil(longest * spread)), longest + 1


def blocks(plan: Plan, model: Model) -> int:
    """How many blocks of the plan's seed and scenario share no prompt. Raises as `build` does."""
    scenario = profiles.scenario(plan.profile, plan.scenario)
    words = tokenizer.load(model.path)
    return len(_dealt(plan.seed, plan.text, scenario, corpus(plan.text, words), words)) // _needed(scenario)


def _places(
    plan: Plan, scenario: Scenario, text: Corpus, words: Tokenizer
) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]:
    """Where the prompts of the plan's block begin, one a request of the full block, warm-up first; spares.

    A block's spares are its seed's and scenario's own, those first that no block has.
    """
    needed, mine = _needed(scenario), _dealt(plan.seed, plan.text, scenario, text, words)
    shuffled = arrivals.generator("places", plan.seed, scenario.letter).permutation(mine)
    count = len(shuffled) // needed
    block = plan.fidelity.block % count
    chosen = shuffled[block * needed : (block + 1) * needed]
    return chosen, np.setdiff1d(shuffled[::-1][block::count], chosen, assume_unique=True)


def _needed(scenario: Scenario) -> int:
    """Places that a full block takes."""
    return scenario.warmup_requests + sum(traffic.requests for traffic in scenario.traffics)


@lru_cache(maxsize=4)
def _dealt(
    seed: int, source: str, scenario: Scenario, text: Corpus, words: Tokenizer
) -> npt.NDArray[np.int64]:
    """The places of a seed and scenario, unshuffled.

    The words of the text are dealt out by seed and scenario, whatever the prompts' length; places are then
    shuffled and dealt by block, so that all of these differ.
    """
    needed, begins = _needed(scenario), words.word_starts()
    starts = text.starts(scenario.input_tokens + _SLACK, begins)
    order = np.cumsum(begins[text.tokens])[starts]
    letter = "ABCD".index(scenario.letter)
    deals = [(4 * _SEEDS, 4 * (seed % _SEEDS) + letter), (4, letter), (1, 0)]
    for modulus, remainder in deals:
        mine = _distinct(starts[order % modulus == remainder], text)
        if len(mine) >= 4 * needed or (modulus == 1 and len(mine) >= needed):
            return mine
    raise TextError(
        f"{source} has places for {len(mine)} prompts of {scenario.input_tokens} tokens, {needed} are "
        "needed: use a longer text or a smaller profile"
    )


def _distinct(starts: npt.NDArray[np.int64], text: Corpus) -> npt.NDArray[np.int64]:
    # Without the first token: a word's first letter and the space before it are spelt differently at a start.
    heads = text.tokens[starts[:, None] + np.arange(1, PREFIX + 1)]
    return starts[np.sort(np.unique(heads, axis=0, return_index=True)[1])]


class _Writer:
    """Cuts prompts out of a corpus so that the whole chat prompt has an exact number of tokens."""

    def __init__(
        self,
        words: Tokenizer,
        text: Corpus,
        places: npt.NDArray[np.int64],
        spare: npt.NDArray[np.int64],
    ) -> None:
        self._words = words
        self._text = text
        self._template = words.chat_tokens([{"role": "user", "content": "a"}]) - 1
        self._heads = {self._head(int(place)) for place in places}
        self._spare = iter(spare.tolist())
        self._written: set[str] = set()

    def prompt(self, start: int, target: int) -> str:
        """Text from `start` on.

        Where no cut has exactly `target` tokens, it lacks a word near its end. Only where that does not help
        either it begins at a spare place. No text comes twice.
        """
        if target <= self._template:
            raise ScenarioError(
                f"prompts of {target} tokens leave no room for text beside the chat template's "
                f"{self._template}: raise input_tokens"
            )
        for at in chain([start], islice(self._spare, _SLACK)):
            if at == start or self._head(at) not in self._heads:
                text = self._cut(at, target)
                if text is not None and text not in self._written:
                    self._heads.add(self._head(at))
                    self._written.add(text)
                    return text
        raise TextError(f"no cut of the text makes a prompt of exactly {target} tokens: use another text")

    def _head(self, at: int) -> bytes:
        """What `_distinct` tells starts apart by."""
        return self._text.tokens[at + 1 : at + 1 + PREFIX].tobytes()

    def _cut(self, start: int, target: int) -> str | None:
        tokens = self._text.tokens[start : start + target + _SLACK].tolist()
        text = self._fitted(tokens, target)
        if text is not None:
            return text
        end = max(target - self._template - _END, 1)
        others = (self._fitted([*tokens[:at], *tokens[at + 1 :]], target) for at in range(end, end + _END))
        return next((text for text in others if text is not None), None)

    def _fitted(self, tokens: list[int], target: int) -> str | None:
        """As much of this text as makes a prompt of exactly `target` tokens."""
        length = target - self._template
        for _ in range(8):
            text = self._words.decode(tokens[:length]).strip(_EDGES)
            missing = target - self._words.chat_tokens([{"role": "user", "content": text}])
            if not missing:
                return text
            length += missing
        return None


def _request(index: int, draft: _Draft, prompt: str) -> Request:
    return Request(
        index, draft.traffic, prompt, draft.input_tokens, draft.output_tokens, draft.offset, draft.seed
    )


def digest_of(requests: Iterable[Request]) -> str:
    """sha256 over requests in order."""
    total = hashlib.sha256()
    for request in requests:
        total.update(json.dumps(asdict(request), sort_keys=True).encode() + b"\n")
    return total.hexdigest()
