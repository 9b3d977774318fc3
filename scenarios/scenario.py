"""Scenarios and profiles as data: what is sent to a server, how, and which figure is the score."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from enum import StrEnum
from typing import Any, Literal


class ScenarioError(ValueError):
    """A scenario or profile is unknown or malformed. The message is one line that names the choices."""


class Score(StrEnum):
    """The scenario's score, higher is better; speedup is its ratio to the torch baseline's.

    Source: the published benchmark's table of scenarios.
    """

    TTFT = "1 / TTFT p50"
    TPOT = "1 / TPOT p50"
    THROUGHPUT = "geometric mean of req/s over the traffics"
    ALL = "(1/TTFT p50 x 1/TPOT p50 x req/s)^(1/3)"


@dataclass(frozen=True)
class Traffic:
    """One stretch of load.

    Attributes:
        name: unique within its scenario.
        kind: `closed` keeps `concurrency` requests in flight; the others send by a schedule drawn beforehand.
        requests: how many.
        concurrency: in flight at most (closed: exactly, while requests remain); None = no cap.
        rate: requests/s of poisson and constant; the final rate of a ramp.
        trace: send offsets in seconds (replay).
    """

    name: str
    kind: Literal["closed", "poisson", "constant", "burst", "ramp", "replay"]
    requests: int
    concurrency: int | None = None
    rate: float | None = None
    trace: tuple[float, ...] = ()


@dataclass(frozen=True)
class Scenario:
    """A bottleneck to be measured.

    Input target and output length are drawn per request, uniformly in [spread x L, L] (tokens).
    `serial_requests` is how many a traffic the torch baseline gets (see Fidelity.serial); None is all.
    `rehearsal` is whether the warm-up ends in a rehearsal (scenarios/load/rehearsal.py).
    `length` is `forced` where every answer has exactly the tokens asked for, `natural` where the model may
    end it before: a request then counts for throughput by its share of the tokens asked for.
    """

    letter: Literal["A", "B", "C", "D"]
    bottleneck: str
    score: Score
    input_tokens: int
    output_tokens: int
    traffics: tuple[Traffic, ...]
    spread: float = 0.8
    warmup_requests: int = 2
    temperature_published: float | None = None
    serial_requests: int | None = None
    rehearsal: bool = False
    length: Literal["forced", "natural"] = "forced"

    def figures(self) -> dict[str, Any]:
        """Everything that decides a measurement, to be digested; a rehearsal only where there is one."""
        told = asdict(self)
        if not self.rehearsal:
            del told["rehearsal"]
        return told


@dataclass(frozen=True)
class Profile:
    """A size of all four scenarios: `paper`, `gpu-short` or `cpu`.

    `max_length` is the context asked of the engine; None leaves the model's own.
    `text` is the default text source.
    """

    name: str
    scenarios: Mapping[str, Scenario]
    max_length: int | None = None
    text: str = "sotu"
    note: str = ""


@dataclass(frozen=True)
class Fidelity:
    """How much of a scenario a measurement runs. The regime (concurrency, rate, input length) is kept.

    Attributes:
        requests: share of each traffic's requests, in (0, 1].
        output: share of the output length, in (0, 1]; below 1 in scenarios A and B only.
        block: which block of requests; the same block and seed give the same requests to every config.
        serial: at most this many requests a traffic, below its concurrency too; only for a server that
            answers one request at a time, whose req/s does not depend on how many wait (the torch baseline),
            and for the published search's quick trials, which leave the regime.
    """

    requests: float = 1.0
    output: float = 1.0
    block: int = 0
    serial: int | None = None

    @property
    def full(self) -> bool:
        """Whether it is the whole scenario."""
        return self.requests == 1.0 and self.output == 1.0 and self.serial is None


FULL = Fidelity()


@dataclass(frozen=True)
class Plan:
    """What one measurement is asked to do: everything that, with the model, decides which requests are sent.

    `scenario` is a letter, `profile` a name, `text` a source (`sotu`, `longbench-v2`, `jsonl:FILE`).
    """

    scenario: str
    profile: str
    seed: int
    fidelity: Fidelity = FULL
    text: str = "sotu"
