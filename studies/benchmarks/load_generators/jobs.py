"""What every load generator is asked to do."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Job:
    """A closed loop of `streams`, or Poisson arrivals of `rate` requests/s.

    `ttft` and `tpot` are the server's (seconds), `prompt` and `tokens` the lengths asked for.
    """

    name: str
    streams: int
    requests: int
    tokens: int
    ttft: float
    tpot: float
    rate: float | None = None
    prompt: int = 32

    @property
    def text(self) -> str:
        """A prompt of about so many tokens."""
        return " ".join(["harbour"] * (self.prompt // 2))


JOBS = (
    Job("1", 1, 8, 64, 0.1, 0.02),
    Job("64", 64, 128, 256, 0.1, 0.02),
    Job("512", 512, 1024, 128, 0.2, 0.04),
    Job("poisson", 0, 400, 8, 0.02, 0.002, rate=20.0),
)
"""One stream; 64 at 3,200 tokens/s; 512 at 12,800 tokens/s; and 20 requests/s for 20 s."""
