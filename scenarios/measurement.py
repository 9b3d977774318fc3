"""A measurement: one scoring of one server."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

from scenarios.scenario import Fidelity


@dataclass(frozen=True)
class Reason:
    """Why a measurement is not valid: a code from `scenarios.validity.CODES`, a line, and its evidence."""

    code: str
    detail: str
    evidence: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Measurement:
    """One scoring of one server.

    Attributes:
        score: in the scenario's own unit, higher is better; None whenever there is a reason against it.
        interval: 95 % bootstrap interval of the score.
        metrics: flat name -> figure; times in seconds, rates a second. A figure that too few requests
            carry (a p99 of 20) is absent.
        requests: counts: `asked`, `completed`, `failed`, `short`.
        request_set: sha256 over every request's prompt, lengths and schedule, in order.
        mark: what limits what the figures may be used for, such as `speed only` (dummy weights).
        text: whether the answers come from the model: `verdict` (`from the model`, `not from the model`,
            `not checked`), and `why` not or how it was found; None in measurements from before it was asked.
        quality: what a task's questions in the traffic came to: `task`, `verdict` (`passed`, `failed`, `not
            judged`), and `why` nothing was compared, or the paired counts with `caught_from`, the least drop
            that would have been caught; None without.
        rows: directory of the Parquet rows, relative to the run; None where they were not kept.
        started, seconds: wall-clock start (Unix time) and length of the measurement.
    """

    id: str
    scenario: str
    profile: str
    seed: int
    fidelity: Fidelity
    invalid_reasons: tuple[Reason, ...]
    score: float | None
    interval: tuple[float, float] | None
    metrics: Mapping[str, float]
    requests: Mapping[str, int]
    request_set: str
    provenance: Mapping[str, Any]
    started: float
    seconds: float
    rows: str | None = None
    mark: str | None = None
    text: Mapping[str, Any] | None = None
    quality: Mapping[str, Any] | None = None

    def __post_init__(self) -> None:
        if self.invalid_reasons and self.score is not None:
            raise ValueError("an invalid measurement has no score")

    @property
    def valid(self) -> bool:
        """Whether nothing speaks against it."""
        return not self.invalid_reasons

    def to_json(self) -> dict[str, Any]:
        """A plain dict, as `ceiling score --json` and the ledger hold it."""
        return {**asdict(self), "valid": self.valid}

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Measurement:
        """The inverse of `to_json`. Raises KeyError or TypeError for other data."""
        fields = {key: value for key, value in data.items() if key != "valid"}
        fields["fidelity"] = Fidelity(**fields["fidelity"])
        fields["invalid_reasons"] = tuple(Reason(**reason) for reason in fields["invalid_reasons"])
        fields["interval"] = tuple(fields["interval"]) if fields["interval"] else None
        return cls(**fields)
