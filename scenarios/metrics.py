"""Metrics, score and interval as pure functions of a measurement's rows.

Times in seconds, rates a second. A failed request is an infinite latency in every percentile; a p99 of fewer
than 100 requests and a p90 of fewer than 10 are not there.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import replace

import numpy as np
import numpy.typing as npt
import pandas as pd

from scenarios import arrivals, bootstrap
from scenarios.requests import Reduced, Sketch
from scenarios.scenario import Scenario
from scenarios.silence import silence

Floats = npt.NDArray[np.float64]

NEEDED = {"p50": (0.50, 1), "p90": (0.90, 10), "p99": (0.99, 100)}
"""Percentile -> its share, and the fewest requests that carry it."""
GOODPUT_TTFT, GOODPUT_TPOT = 2.0, 0.1
"""Goodput counts requests whose first token came within 2 s and the others within 0.1 s each, on average."""


def metrics(reduced: Reduced, scenario: Scenario) -> dict[str, float]:
    """All figures, flat; those of one traffic are named `TRAFFIC.figure`. Infinite ones are kept."""
    scored = reduced.scored
    seconds = sum(wall(part) for _, part in _by_traffic(scored, scenario))
    made = {**_latencies(scored), **_tokens(reduced), **_throughput(scored, seconds), **_client(scored)}
    for name, part in _by_traffic(scored, scenario):
        one = {
            **_latencies(part),
            **_throughput(part, wall(part)),
            **_flight(part),
            "silence_s": silence(*_moments(part, reduced.heard.get(name, np.empty(0)))),
            **_arrivals(part, name, scenario),
        }
        made.update({f"{name}.{key}": value for key, value in one.items()})
    for rate in ("req_per_s", "goodput_req_per_s"):
        made[rate] = _geometric([made[f"{name}.{rate}"] for name, _ in _by_traffic(scored, scenario)])
    return {key: value for key, value in made.items() if not np.isnan(value)}


def score(reduced: Reduced, scenario: Scenario) -> float:
    """The scenario's score, higher is better; 0 where its latency is infinite."""
    return bootstrap.score(scenario.score, samples(reduced, scenario))


def interval(reduced: Reduced, scenario: Scenario, seed: int, *, few: bool = False) -> tuple[float, float]:
    """95 % bootstrap interval of the score; `few`: too few requests to draw from, if served one by one."""
    drawn = samples(reduced, scenario)
    if few:
        for name, part in _by_traffic(reduced.scored, scenario):
            drawn[name] = _paced(drawn[name], part, reduced.pieces.get(name, []))
    return bootstrap.interval(scenario.score, drawn, seed)


def samples(reduced: Reduced, scenario: Scenario) -> dict[str, bootstrap.Sample]:
    """What the score is made of, by traffic."""
    return {name: _sample(part, name, scenario) for name, part in _by_traffic(reduced.scored, scenario)}


def _paced(sample: bootstrap.Sample, part: pd.DataFrame, pieces: list[Floats]) -> bootstrap.Sample:
    """With the pieces of its answers, where none began before the one ahead of it was done."""
    first, last, sent = (
        part.sort_values("last")[name].to_numpy() for name in ("first_content", "last", "sent")
    )
    if (first[1:] < last[:-1]).any():
        return sample
    paces = np.concatenate([np.empty(0), *pieces])
    return replace(sample, pieces=paces[paces > 0], queued=bool((sent[1:] < last[:-1]).any()))


def counts(reduced: Reduced, asked: int) -> dict[str, int]:
    """`asked`, `completed`, `failed` (never sent included) and `short`."""
    scored = reduced.scored
    completed = int(scored["good"].sum())
    short = int(scored["short"].sum())
    return {"asked": asked, "completed": completed, "failed": asked - completed - short, "short": short}


def percentiles(name: str, values: Floats) -> dict[str, float]:
    """`name_p50` and so on, as far as there are requests enough to carry them."""
    return {
        f"{name}_{label}": bootstrap.quantile(values, share)
        for label, (share, fewest) in NEEDED.items()
        if len(values) >= fewest
    }


def in_flight(frame: pd.DataFrame) -> dict[int, float]:
    """Seconds spent with so many requests in flight, from the first intended send to the last end."""
    sent = _flown(frame)
    if sent.empty:
        return {}
    times = np.concatenate([sent["sent"], sent["end"]])
    steps = np.concatenate([np.ones(len(sent)), -np.ones(len(sent))])
    order = np.lexsort((steps, times))
    level = np.cumsum(steps[order]).astype(int)
    spans = np.diff(times[order])
    histogram: dict[int, float] = {}
    for flying, span in zip(level[:-1], spans, strict=True):
        histogram[int(flying)] = histogram.get(int(flying), 0.0) + float(span)
    before = float(times[order[0]] - frame["intended"].min())
    histogram[0] = histogram.get(0, 0.0) + max(before, 0.0)
    return histogram


def output_rates(reduced: Reduced, scenario: Scenario) -> list[float]:
    """Output tokens/s of each traffic, all answers included."""
    parts = [part for _, part in _by_traffic(reduced.scored, scenario)]
    return [float(part["tokens"].sum()) / wall(part) for part in parts if wall(part) > 0]


def output_tokens(reduced: Reduced) -> float:
    """Output tokens of the whole answers."""
    scored = reduced.scored
    return float(scored.loc[scored["good"], "tokens"].sum())


def wall(frame: pd.DataFrame) -> float:
    """Seconds from the first intended send to the last end."""
    return float(frame["end"].max() - frame["intended"].min()) if len(frame) else float("nan")


def _by_traffic(scored: pd.DataFrame, scenario: Scenario) -> Iterator[tuple[str, pd.DataFrame]]:
    for traffic in scenario.traffics:
        part = scored[scored["traffic"] == traffic.name]
        if len(part):
            yield traffic.name, part


def _latencies(frame: pd.DataFrame) -> dict[str, float]:
    return {
        **percentiles("ttft", _known(frame["ttft"])),
        **percentiles("tpot", _known(frame["tpot"])),
        **percentiles("e2e", _known(frame["e2e"])),
    }


def _tokens(reduced: Reduced) -> dict[str, float]:
    scored = reduced.scored
    whole = scored[scored["good"]]
    return {
        **_sketch("itl", reduced.itl, len(scored)),
        **_sketch("icl", reduced.icl, len(scored)),
        "tokens_per_chunk": _share(whole["tokens"].sum(), whole["chunks"].sum()),
        "repetition": float(whole["repetition"].mean()),
        "cached_tokens_per_request": float(whole["cached_tokens"].mean()),
        "recount_over_usage": _share(whole["recount"].sum(min_count=1), whole["usage_completion"].sum()),
    }


def _sketch(name: str, sketch: Sketch, requests: int) -> dict[str, float]:
    return {
        f"{name}_{label}": sketch.quantile(share)
        for label, (share, fewest) in NEEDED.items()
        if sketch.total and requests and sketch.total >= fewest
    }


def _throughput(frame: pd.DataFrame, seconds: float) -> dict[str, float]:
    """Rates over `seconds`; traffics run one after another, so theirs add up."""
    whole = frame[frame["good"]]
    met = whole[(whole["ttft"] <= GOODPUT_TTFT) & ~(whole["tpot"] > GOODPUT_TPOT)]
    return {
        "req_per_s": _share(len(whole), seconds),
        "output_tok_per_s": _share(whole["tokens"].sum(), seconds),
        "input_tok_per_s": _share(whole["asked_input"].sum(), seconds),
        "goodput_req_per_s": _share(len(met), seconds),
        "failure_share": 1.0 - len(whole) / len(frame),
        "wall_s": seconds,
    }


def _client(frame: pd.DataFrame) -> dict[str, float]:
    lag = _known(frame["lag"])
    if not len(lag):
        return {}
    return {
        "send_lag_p50": bootstrap.quantile(lag, 0.5),
        "send_lag_p99": bootstrap.quantile(lag, 0.99),
        "send_lag_max": float(lag.max()),
        "connected_late": float(frame["connected_late"].sum()),
    }


def _flight(frame: pd.DataFrame) -> dict[str, float]:
    histogram = in_flight(frame)
    total = sum(histogram.values())
    if not total:
        return {}
    mean = sum(level * seconds for level, seconds in histogram.items()) / total
    shares = {f"in_flight_{level}": seconds / total for level, seconds in _binned(histogram).items()}
    return {"in_flight_mean": mean, "in_flight_max": float(max(histogram)), **shares}


def _flown(frame: pd.DataFrame) -> pd.DataFrame:
    """The requests that were sent and have ended."""
    return frame[frame["sent"].notna() & frame["end"].notna()]


def _moments(frame: pd.DataFrame, heard: Floats) -> tuple[Floats, Floats, Floats]:
    """When the traffic's requests were sent, something of them was heard, and they ended."""
    sent = _flown(frame)
    return sent["sent"].to_numpy(float), heard, sent["end"].to_numpy(float)


def _binned(histogram: Mapping[int, float]) -> dict[str, float]:
    """The histogram over powers of two: `0`, `1`, `2`, `3-4`, `5-8`, ..."""
    binned: dict[str, float] = {}
    for level, seconds in sorted(histogram.items()):
        top = level if level < 3 else 1 << (level - 1).bit_length()
        name = str(level) if level < 3 else f"{top // 2 + 1}-{top}"
        binned[name] = binned.get(name, 0.0) + seconds
    return binned


def _arrivals(frame: pd.DataFrame, name: str, scenario: Scenario) -> dict[str, float]:
    kind = next(traffic.kind for traffic in scenario.traffics if traffic.name == name)
    sent = frame["sent"].dropna()
    if kind in ("closed", "burst") or len(sent) < 2:
        return {}
    return {
        "offered_rate": arrivals.rate(frame["intended"].tolist()),
        "offered_dispersion": arrivals.dispersion(frame["intended"].tolist()),
        "achieved_rate": arrivals.rate(sent.tolist()),
        "achieved_dispersion": arrivals.dispersion(sent.tolist()),
    }


def _sample(frame: pd.DataFrame, name: str, scenario: Scenario) -> bootstrap.Sample:
    cap = next(traffic.concurrency for traffic in scenario.traffics if traffic.name == name)
    histogram = in_flight(frame)
    total = sum(histogram.values())
    full = sum(seconds for level, seconds in histogram.items() if cap is not None and level >= cap)
    return bootstrap.Sample(
        ttft=frame["ttft"].to_numpy(dtype=float),
        tpot=_known(frame["tpot"]),
        service=frame["service"].to_numpy(dtype=float),
        good=frame["credit"].to_numpy(dtype=float),
        rate=float(frame["credit"].sum()) / wall(frame) if wall(frame) > 0 else 0.0,
        bound=full / total if total else 0.0,
    )


def _known(values: pd.Series[float]) -> Floats:
    return np.asarray(values.dropna(), dtype=np.float64)


def _share(part: float, whole: float) -> float:
    return float(part) / float(whole) if whole > 0 else float("nan")


def _geometric(values: list[float]) -> float:
    return float(np.prod(values) ** (1 / len(values))) if values else float("nan")
