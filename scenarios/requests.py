"""What each request came to, as numbers: rows are reduced part by part, so that memory stays flat."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from itertools import pairwise
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd
import pyarrow as pa

from scenarios.rows import SCORED

Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]

RECOUNT_SHARE = 0.05
RECOUNT_SLACK = 2
"""How far a recount of one text may lie from the tokens that made it: that share, and so many tokens more.

Tokens need not survive the way through text: a model may spell a word in pieces that the tokenizer would
join, and special tokens leave no text at all. Measured: all of 292 greedy answers of SmolLM2 under vLLM came
back as exactly the tokens that were asked for.
"""
SHINGLE = 24
LOOKED_AT = 4096
TOGETHER = 0.0002
"""Chunks that arrive within so many seconds of one another arrived together."""
ENDED = ("stop", "eos_token")
"""Finish reasons of an answer that the model ended."""
PIECE = 64
"""Chunks of an answer that one figure of `Reduced.pieces` covers."""
PIECED = 256
"""Requests whose answers are cut into pieces: a server of one request at a time gets fewer."""
HEARD = 2
"""Decimals of the seconds in `Reduced.heard`: what keeps them few, however many chunks there are."""
SHAPE = (
    "last",
    "bursts",
    "first_gap",
    "gap",
    "slow_gap",
    "largest",
    "per_burst",
    "burst_spread",
    "repetition",
)


class Sketch:
    """Quantiles of many durations to 0.1 %, in fixed memory: over logarithmic bins, 1 us to 3 hours."""

    _LOW, _HIGH, _RATIO = 1e-6, 1e4, 1.001

    def __init__(self) -> None:
        bins = int(np.ceil(np.log(self._HIGH / self._LOW) / np.log(self._RATIO)))
        self.counts: Ints = np.zeros(bins + 1, dtype=np.int64)

    def add(self, seconds: Floats, weights: Ints | None = None) -> None:
        """Count durations, each `weights` times."""
        places = np.log(np.maximum(seconds, self._LOW) / self._LOW) / np.log(self._RATIO)
        index = np.minimum(places.astype(np.int64), len(self.counts) - 1)
        self.counts += np.bincount(index, weights, len(self.counts)).astype(np.int64)

    @property
    def total(self) -> int:
        """How many were counted."""
        return int(self.counts.sum())

    def quantile(self, share: float) -> float:
        """The duration that `share` of them do not exceed, in seconds; NaN without any."""
        if not self.total:
            return float("nan")
        place = int(np.searchsorted(np.cumsum(self.counts), share * self.total, side="left"))
        return float(self._LOW * self._RATIO ** (place + 0.5))


@dataclass
class Reduced:
    """All requests of a measurement.

    Attributes:
        frame: one row a request (all roles): the columns of the rows that are single values, without the
            text, and those of `_shape`, `_latency`, `_counts`.
        itl: time per token of scored requests: a chunk's gap shared among its tokens.
        icl: gaps between the chunks of scored requests.
        pieces: by traffic, seconds a token over consecutive pieces of the first scored answers.
        heard: by traffic, the seconds (to a hundredth) at which any chunk of its scored answers came.
    """

    frame: pd.DataFrame
    itl: Sketch = field(default_factory=Sketch)
    icl: Sketch = field(default_factory=Sketch)
    pieces: dict[str, list[Floats]] = field(default_factory=dict)
    heard: dict[str, Floats] = field(default_factory=dict)

    @property
    def scored(self) -> pd.DataFrame:
        """The scored requests."""
        return self.of(SCORED)

    def of(self, role: str) -> pd.DataFrame:
        """The requests of one role."""
        return self.frame[self.frame["role"] == role]


def reduce(tables: Iterable[pa.Table]) -> Reduced:
    """Reduce rows, one table at a time."""
    reduced = Reduced(pd.DataFrame())
    frames = [_reduce(table, reduced) for table in tables]
    frame = pd.concat(frames, ignore_index=True).sort_values("key", ignore_index=True)
    reduced.frame = _latency(_counts(frame))
    return reduced


def _reduce(table: pa.Table, reduced: Reduced) -> pd.DataFrame:
    frame: pd.DataFrame = table.drop_columns(["chunk_times", "chunk_tokens", "text"]).to_pandas()
    times, tokens = _lists(table, "chunk_times"), _lists(table, "chunk_tokens")
    texts = table.column("text").to_pylist()
    shapes = [_shape(at, counts, text) for at, counts, text in zip(times, tokens, texts, strict=True)]
    scored = (frame["role"] == SCORED) & frame["ok"]
    for place in np.flatnonzero(scored.to_numpy()):
        gaps, counts = np.diff(times[place]), np.maximum(tokens[place][1:], 1)
        reduced.itl.add(gaps / counts, counts)
        reduced.icl.add(gaps)
        pieces = reduced.pieces.setdefault(str(frame["traffic"].iat[int(place)]), [])
        if len(pieces) < PIECED:
            pieces.append(_pieces(times[place], tokens[place]))
    _hear(frame, times, reduced.heard)
    return pd.concat([frame, pd.DataFrame(shapes, index=frame.index)], axis=1)


def _hear(frame: pd.DataFrame, times: list[Floats], heard: dict[str, Floats]) -> None:
    """Add when chunks of scored answers came, whole answers or not, to what was heard of their traffics."""
    for traffic in frame.loc[frame["role"] == SCORED, "traffic"].unique():
        here = (frame["role"] == SCORED) & (frame["traffic"] == traffic)
        own = [times[int(place)] for place in np.flatnonzero(here)]
        came = np.concatenate([heard.get(traffic, np.empty(0)), *own])
        heard[traffic] = np.unique(came.round(HEARD))


def _lists(table: pa.Table, name: str) -> list[npt.NDArray[Any]]:
    column = table.column(name).combine_chunks()
    flat = column.values.to_numpy(zero_copy_only=False)
    offsets = column.offsets.to_numpy()
    return [flat[start:end] for start, end in pairwise(offsets)]


def _pieces(times: Floats, tokens: Ints) -> Floats:
    """Seconds a token over each `PIECE` chunks of an answer; an end that is shorter belongs to the last."""
    edges = np.arange(0, len(times), PIECE)
    if len(times) < 2:
        return np.empty(0)
    edges = np.append(edges[: max(1, (len(times) - 1) // PIECE)], len(times) - 1)
    made = np.diff(np.cumsum(tokens)[edges])
    return np.asarray(np.diff(times[edges]) / np.maximum(made, 1))


def _shape(times: Floats, tokens: Ints, text: str) -> dict[str, float]:
    """How the content arrived.

    `bursts`: arrivals, chunks close together being one. `first_gap`: from the first arrival to the second.
    `gap`: the median between later ones, `slow_gap`: their 90th percentile. `largest`: share of all tokens
    that the fullest arrival brought. `per_burst`: tokens an arrival; `burst_spread`: how much that varies,
    relative to its mean, the last arrival left out. `first_tokens`: tokens of the first chunk.
    """
    if not len(times):
        return {**dict.fromkeys(SHAPE, float("nan")), "first_tokens": 0.0}
    starts = np.concatenate(([0], np.flatnonzero(np.diff(times) > TOGETHER) + 1))
    sums = np.add.reduceat(tokens, starts) if len(tokens) else np.zeros(1)
    gaps = np.diff(times[starts])
    total = max(float(tokens.sum()), 1.0)
    return {
        "last": float(times[-1]),
        "bursts": float(len(starts)),
        "first_gap": float(gaps[0]) if len(gaps) else float("nan"),
        "gap": float(np.median(gaps[1:])) if len(gaps) > 1 else float("nan"),
        "slow_gap": float(np.quantile(gaps[1:], 0.9)) if len(gaps) > 1 else float("nan"),
        "largest": float(sums.max()) / total,
        "per_burst": total / len(starts),
        "burst_spread": float(sums[:-1].std() / max(sums[:-1].mean(), 1e-9)) if len(sums) > 2 else 0.0,
        "repetition": repetition(text),
        "first_tokens": float(tokens[0]),
    }


def repetition(text: str) -> float:
    """Share of a text that repeats itself: 24 characters that were there before; NaN when short."""
    end = text[-LOOKED_AT:]
    count = len(end) - SHINGLE + 1
    if count < 4 * SHINGLE:
        return float("nan")
    return 1.0 - len({end[place : place + SHINGLE] for place in range(count)}) / count


def _counts(frame: pd.DataFrame) -> pd.DataFrame:
    """Adds `tokens` (credited: the lesser of recount and usage), `agrees`, `short`, `good`, `credit`."""
    recount, usage = frame["recount"].astype(float), frame["usage_completion"].astype(float)
    counted = recount.fillna(usage)
    margin = RECOUNT_SHARE * counted + RECOUNT_SLACK
    frame["agrees"] = usage.isna() | ((usage - counted).abs() <= margin)
    frame["tokens"] = counted.where(usage.isna() | (counted <= usage), usage).fillna(0.0)
    lowest = frame["asked_output"] * (1 - RECOUNT_SHARE) - RECOUNT_SLACK
    said_less = usage.notna() & frame["agrees"] & (usage < frame["asked_output"])
    frame["short"] = (
        frame["ok"] & ~frame["cut"] & (said_less | (counted < lowest) | frame["first_content"].isna())
    )
    frame["good"] = frame["ok"] & ~frame["short"]
    frame["credit"] = frame["good"].astype(float)
    return frame


def by_usage(reduced: Reduced) -> Reduced:
    """The same where text is noise (random weights): tokens are those that the server says."""
    frame = reduced.frame.copy()
    usage = frame["usage_completion"].astype(float)
    frame["agrees"] = True
    frame["tokens"] = usage.fillna(0.0)
    frame["short"] = (
        frame["ok"] & ~frame["cut"] & ((usage < frame["asked_output"]) | frame["first_content"].isna())
    )
    frame["good"] = frame["ok"] & ~frame["short"]
    frame["credit"] = frame["good"].astype(float)
    return replace(reduced, frame=_latency(frame))


def natural(reduced: Reduced) -> Reduced:
    """The same where answers may end by themselves: such a one is whole, and counts by its share."""
    frame = reduced.frame.copy()
    ended = frame["finish_reason"].isin(ENDED) & frame["first_content"].notna() & (frame["tokens"] >= 1)
    frame["short"] &= ~ended
    frame["good"] = frame["ok"] & ~frame["short"]
    frame["credit"] = (frame["tokens"] / frame["asked_output"]).clip(upper=1.0).where(frame["good"], 0.0)
    frame["tpot"] = frame["tpot"].mask(frame["good"] & (frame["tokens"] < 2))
    return replace(reduced, frame=frame)


def _latency(frame: pd.DataFrame) -> pd.DataFrame:
    """Adds `ttft`, `tpot`, `e2e` (infinite where the request failed), `lag` and `service`, in seconds.

    Latency runs from the intended send. `tpot` is the time after the first chunk over the tokens after it:
    where that chunk is one token, (last - first) / (n - 1). Asked for one token, there is none (NaN).
    """
    failed = ~frame["ok"]
    frame["ttft"] = (frame["first_content"] - frame["intended"]).mask(
        failed | frame["first_content"].isna(), np.inf
    )
    frame["e2e"] = (frame["end"] - frame["intended"]).mask(failed, np.inf)
    after = frame["tokens"] - frame["first_tokens"]
    span = frame["last"] - frame["first_content"]
    frame["tpot"] = span / after.where(after > 0)
    unknown = failed | frame["tpot"].isna()
    frame["tpot"] = frame["tpot"].mask(unknown, np.inf).mask(frame["asked_output"] < 2)
    frame["lag"] = frame["sent"] - frame["due"]
    frame["service"] = frame["end"] - frame["sent"]
    return frame
