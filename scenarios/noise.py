"""The noise floor: how far scores of one unchanged server lie apart on a machine, learnt from its repeats.

Kept under `home()/noise`, a file for each machine, scenario, profile and model. Repeats draw fresh prompts,
so that what prompts do to a score is inside it. What a restart of the server does is not.
"""

from __future__ import annotations

import hashlib
import json
import math
import statistics
import time
from collections.abc import Collection, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from engines.contract import Model
from engines.host import this_host
from engines.runtime import home
from scenarios import profiles
from scenarios.models import digest
from scenarios.repeats import Repeats, student

KEPT = 20
"""Servers that are remembered a file, the latest."""
FREEDOM = 2
"""Degrees of freedom from which on a spread is one: a single difference of two scores is none."""


@dataclass(frozen=True)
class Noise:
    """Standard deviation of the logarithm of a score between repeats, pooled over servers."""

    spread: float
    freedom: int

    def floor(self, first: int = 1, second: int = 1) -> float:
        """The ratio up to which means of so many scores differ by chance (95 %): 1.03 is 3 %."""
        return math.exp(student(self.freedom) * self.spread * math.sqrt(1 / first + 1 / second))


def key(
    host: Mapping[str, Any], model: str, scenario: str, profile: str, mark: str | None = None
) -> dict[str, Any]:
    """Everything that two servers must share for the noise of one to stand for the other's.

    `host` is a `Host` as a dict, `model` a digest. Raises ScenarioError for an unknown profile or scenario.
    """
    return {
        "devices": sorted(str(device.get("name")) for device in host.get("devices", ())),
        "cores": host.get("cores"),
        "driver": host.get("driver"),
        "model": model,
        "scenario": scenario,
        "profile": profile,
        "setting": profiles.digest(profile, scenario),
        "mark": mark,
    }


def learn(model: Model, repeats: Repeats) -> Noise | None:
    """Remember the repeats of one server on this machine; what is known with them.

    None, and nothing is remembered, where there are too few or one is invalid.
    """
    if repeats.spread is None or len(repeats.scores) <= FREEDOM:
        return None
    first = repeats.measurements[0]
    under = key(asdict(this_host()), digest(model.path), first.scenario, first.profile, first.mark)
    servers = [*_servers(under), {"engine": _engine(first.provenance), "at": time.time(), **_scores(repeats)}]
    path = _path(under)
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_suffix(".partial")
    partial.write_text(json.dumps({"key": under, "servers": servers[-KEPT:]}, indent=1), encoding="utf-8")
    partial.rename(path)
    return known(under)


def known(under: Mapping[str, Any], engines: Collection[str] = ()) -> Noise | None:
    """The noise of servers of these engines; of any, where none of these has been repeated. None: unknown."""
    servers = _servers(under)
    own = [one for one in servers if one["engine"] in engines]
    return _pooled([one["scores"] for one in own or servers])


def _pooled(several: Sequence[Sequence[float]]) -> Noise | None:
    freedom = sum(len(scores) - 1 for scores in several)
    if freedom < FREEDOM:
        return None
    squares = sum(
        (len(scores) - 1) * statistics.variance([math.log(score) for score in scores]) for scores in several
    )
    return Noise(math.sqrt(squares / freedom), freedom)


def _scores(repeats: Repeats) -> dict[str, Any]:
    return {"scores": list(repeats.scores), "request_sets": [m.request_set for m in repeats.measurements]}


def _engine(provenance: Mapping[str, Any]) -> str | None:
    """The engine, as the server's model cards name their owner."""
    owners = provenance.get("server", {}).get("owners") or []
    return str(owners[0]) if len(owners) == 1 else None


def _servers(under: Mapping[str, Any]) -> list[dict[str, Any]]:
    try:
        kept = json.loads(_path(under).read_text(encoding="utf-8"))["servers"]
        return [one for one in kept if len(one["scores"]) > 1 and min(one["scores"]) > 0]
    except (OSError, ValueError, KeyError, TypeError):
        return []


def _path(under: Mapping[str, Any]) -> Path:
    name = hashlib.sha256(json.dumps(under, sort_keys=True).encode()).hexdigest()[:16]
    return home() / "noise" / f"{under['scenario']}-{name}.json"
