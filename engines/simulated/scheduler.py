"""Continuous batching without a clock: which sequences the next step works on, and what it yields."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field

from engines.simulated.blocks import BlockPool, Chain
from engines.simulated.performance import Work, prompt_pairs
from engines.simulated.settings import Settings

Speculate = Callable[[int], tuple[int, int]]
"""Given how many tokens an answer has: tokens drafted next, and how many of them turn out right."""


@dataclass(eq=False, slots=True)
class Sequence:
    """One request in the scheduler.

    Attributes:
        prompt, target: tokens of the prompt, tokens to produce.
        hashes: the prompt's block hashes (see `blocks.chain`).
        speculate: the drafter, None without speculation.
        computed: tokens whose KV is there; produced: tokens emitted so far.
        cached: prompt tokens that the prefix cache spared at first admission, None before it.
        drafted, accepted: totals of speculation; preempted: how often its room was taken away.
    """

    prompt: int
    target: int
    hashes: Chain = ()
    speculate: Speculate | None = None
    computed: int = 0
    produced: int = 0
    shared: int = 0
    private: int = 0
    cached: int | None = None
    drafted: int = 0
    accepted: int = 0
    preempted: int = 0

    @property
    def known(self) -> int:
        """Tokens of prompt and answer so far."""
        return self.prompt + self.produced


@dataclass(slots=True)
class Share:
    """A sequence's part of a step: tokens computed, of which `drafts` are guesses, `accepted` good ones."""

    sequence: Sequence
    tokens: int
    drafts: int = 0
    accepted: int = 0


@dataclass
class Step:
    """One step: the work that it is, and whose."""

    work: Work
    shares: list[Share] = field(default_factory=list)


class Scheduler:
    """Decides step by step, as vLLM's does: running sequences first, then the queue in order of arrival.

    A step computes at most `max_num_batched_tokens`. With chunked prefill, prompts fill what decodes leave of
    it; without, a step that can admit prompts computes whole prompts only and decodes wait. When blocks run
    out, the youngest running sequence gives its own back and computes everything anew later.
    """

    def __init__(self, settings: Settings, capacity: int) -> None:
        self._settings = settings
        self.pool = BlockPool(capacity // settings.block_size, settings.enable_prefix_caching)
        self.waiting: deque[Sequence] = deque()
        self.running: dict[Sequence, None] = {}
        self.preemptions = 0

    def submit(self, sequence: Sequence) -> None:
        """Queue a sequence."""
        self.waiting.append(sequence)

    def cancel(self, sequence: Sequence) -> None:
        """Drop a sequence wherever it is; harmless where it is nowhere."""
        if sequence in self.running:
            self._leave(sequence)
        elif sequence in self.waiting:
            self.waiting.remove(sequence)

    def plan(self) -> Step | None:
        """The next step, None where there is nothing to do."""
        budget = self._settings.max_num_batched_tokens
        if not self._settings.enable_chunked_prefill:
            shares = self._admit(budget) or self._continue(budget)
        else:
            before = self.preemptions
            shares = self._continue(budget)
            if not shares or self.preemptions == before:
                shares += self._admit(budget - sum(share.tokens for share in shares))
        return Step(_work(shares), shares) if shares else None

    def finish(self, step: Step) -> list[tuple[Sequence, int]]:
        """Apply a step; gives (sequence, new tokens) of those that made any, cancelled ones left out."""
        produced = []
        for share in step.shares:
            sequence = share.sequence
            if sequence not in self.running:
                continue
            sequence.computed += share.tokens - share.drafts + share.accepted
            self._publish(sequence)
            if sequence.computed < sequence.known:
                continue
            count = min(1 + share.accepted, sequence.target - sequence.produced)
            sequence.computed = sequence.known + count - 1
            sequence.produced += count
            produced.append((sequence, count))
            if sequence.produced >= sequence.target:
                self._leave(sequence)
        return produced

    def _continue(self, budget: int) -> list[Share]:
        shares: list[Share] = []
        for sequence in tuple(self.running):
            if budget <= 0:
                break
            if sequence not in self.running:
                continue
            share = _next_share(sequence, budget)
            if not self._make_room(sequence, share.tokens):
                break
            budget -= share.tokens
            shares.append(share)
        return [share for share in shares if share.sequence in self.running]

    def _admit(self, budget: int) -> list[Share]:
        shares: list[Share] = []
        while self.waiting and budget > 0 and len(self.running) < self._settings.max_num_seqs:
            sequence = self.waiting[0]
            tokens = self._enter(sequence, budget)
            if tokens == 0:
                break
            self.waiting.popleft()
            self.running[sequence] = None
            budget -= tokens
            shares.append(Share(sequence, tokens))
        return shares

    def _enter(self, sequence: Sequence, budget: int) -> int:
        """Give a queued sequence what is cached and blocks for a first chunk; tokens of it, 0 for no room."""
        shared = self.pool.share(sequence.hashes)
        start = shared * self._settings.block_size
        tokens = min(sequence.known - start, budget)
        whole = tokens == sequence.known - start
        room = (whole or self._settings.enable_chunked_prefill) and self.pool.allocate(
            self._blocks(start + tokens) - shared
        )
        if not room:
            self.pool.release(sequence.hashes[:shared], 0)
            return 0
        sequence.computed, sequence.shared = start, shared
        sequence.private = self._blocks(start + tokens) - shared
        if sequence.cached is None:
            sequence.cached = start
        return tokens

    def _make_room(self, sequence: Sequence, tokens: int) -> bool:
        needed = self._blocks(sequence.computed + tokens) - sequence.shared - sequence.private
        if needed <= 0:
            return True
        while not self.pool.allocate(needed):
            youngest = next(reversed(self.running))
            self._preempt(youngest)
            if youngest is sequence:
                return False
        sequence.private += needed
        return True

    def _preempt(self, sequence: Sequence) -> None:
        self._leave(sequence)
        sequence.preempted += 1
        self.preemptions += 1
        self.waiting.appendleft(sequence)

    def _leave(self, sequence: Sequence) -> None:
        del self.running[sequence]
        self.pool.release(sequence.hashes[: sequence.shared], sequence.private)
        sequence.shared = sequence.private = 0

    def _publish(self, sequence: Sequence) -> None:
        if sequence.shared == len(sequence.hashes):
            return
        full = min(sequence.computed // self._settings.block_size, len(sequence.hashes))
        kept = self.pool.publish(sequence.hashes[sequence.shared : full])
        sequence.shared += kept
        sequence.private -= kept

    def _blocks(self, tokens: int) -> int:
        return -(-tokens // self._settings.block_size)


def _next_share(sequence: Sequence, budget: int) -> Share:
    remaining = sequence.known - sequence.computed
    if remaining > 1 or sequence.speculate is None or not sequence.produced:
        return Share(sequence, min(remaining, budget))
    drafts, accepted = sequence.speculate(sequence.produced)
    drafts = min(drafts, budget - 1, sequence.target - sequence.produced - 1)
    accepted = min(accepted, drafts)
    sequence.drafted += drafts
    sequence.accepted += accepted
    return Share(sequence, 1 + drafts, drafts, accepted)


def _work(shares: list[Share]) -> Work:
    decodes = context = prompt = pairs = drafts = 0
    for share in shares:
        sequence = share.sequence
        fresh = share.tokens - share.drafts
        if fresh == 1 and sequence.produced:
            decodes += 1
            context += sequence.known
            drafts += share.drafts
        else:
            prompt += fresh
            pairs += prompt_pairs(sequence.computed, sequence.computed + fresh)
    return Work(decodes, context, prompt, pairs, drafts)
