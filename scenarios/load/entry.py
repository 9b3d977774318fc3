"""One request as it is sent."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import TYPE_CHECKING, Self

from scenarios.rows import SCORED, WARMUP

if TYPE_CHECKING:
    from scenarios.workload import Request

PROBE = "probe"
"""The stage after the run."""


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

    @classmethod
    def of(cls, request: Request, role: str) -> Self:
        """A request as it is, in the stage of that role."""
        return cls(
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
