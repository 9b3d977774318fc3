"""Rows made by hand, of a server whose every figure is known."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from typing import Any

import pyarrow as pa

from scenarios import rows
from scenarios.requests import Reduced, reduce

TTFT, TPOT = 0.2, 0.01


def row(key: int, **changes: Any) -> dict[str, Any]:
    """A whole answer of 20 one-token chunks, one a second, alone on the server; `changes` are columns."""
    made: dict[str, Any] = {
        "key": key,
        "index": key,
        "role": rows.SCORED,
        "traffic": "closed",
        "t0": 1.7e9,
        "intended": float(key),
        "connected_late": False,
        "status": 200,
        "date_offset": 0.0,
        "error": None,
        "error_detail": None,
        "cut": False,
        "finish_reason": "length",
        "asked_input": 100,
        "asked_output": 20,
        "usage_prompt": 100,
        "cached_tokens": 0,
        "ttft": TTFT,
        "tpot": TPOT,
        "first_blank": None,
        "repeats": None,
        **changes,
    }
    return _filled(made)


def _filled(made: dict[str, Any]) -> dict[str, Any]:
    """Derives what was not given from `ttft`, `tpot` and `tokens` (per chunk)."""
    tokens = made.pop("tokens", None) or [1] * made["asked_output"]
    ttft, tpot = made.pop("ttft"), made.pop("tpot")
    failed = made["error"] is not None
    made.setdefault("due", made["intended"])
    made.setdefault("sent", made["due"])
    first = made["intended"] + ttft
    times, at = [], first
    for place, count in enumerate(tokens):
        at += tpot * count if place else 0.0
        times.append(at)
    made.setdefault("chunk_times", [] if failed else times)
    made.setdefault("chunk_tokens", [] if failed else tokens)
    made.setdefault("first_content", None if failed else (made["chunk_times"] or [None])[0])
    made.setdefault("headers", made["first_content"])
    made.setdefault("end", made["chunk_times"][-1] if made["chunk_times"] else (made["sent"] or 0.0) + 0.01)
    made.setdefault("chunks", len(made["chunk_tokens"]))
    made.setdefault("recount", sum(made["chunk_tokens"]))
    made.setdefault("usage_completion", made["recount"])
    made.setdefault("ok", not failed)
    made.setdefault("text", "" if failed else _text(made))
    made.setdefault("text_sha256", hashlib.sha256(made["text"].encode()).hexdigest())
    made.setdefault("prompt_sha256", hashlib.sha256(str((made["key"], made["repeats"])).encode()).hexdigest())
    return made


def _text(made: Mapping[str, Any]) -> str:
    return " ".join(f"w{made['key']}x{place}" for place in range(sum(made["chunk_tokens"])))


def probe(first: int, count: int = 3, **changes: Any) -> list[dict[str, Any]]:
    """An honest probe: unseen prompts, and scored ones again."""
    fresh = [
        row(first + n, role=rows.FRESH, traffic="probe", asked_output=16, **changes) for n in range(count)
    ]
    again = [
        row(
            first + count + n,
            role=rows.REPEAT,
            traffic="probe",
            asked_output=40,
            cut=True,
            repeats=n,
            **changes,
        )
        for n in range(count)
    ]
    return fresh + again


def table(made: list[dict[str, Any]]) -> pa.Table:
    """As a part file holds them."""
    return pa.Table.from_pylist(made, schema=rows.SCHEMA)


def reduced(made: list[Mapping[str, Any]] | list[dict[str, Any]]) -> Reduced:
    """Reduced, in two parts."""
    made = [dict(one) for one in made]
    half = max(len(made) // 2, 1)
    return reduce(table(part) for part in (made[:half], made[half:]) if part)
