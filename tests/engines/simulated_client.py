"""A plain HTTP client for the simulated server, and the server itself for the length of a block."""

from __future__ import annotations

import json
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx

from engines.contract import Model, Value
from engines.server import Server
from engines.simulated.engine import Simulated
from tests.tiny_model import SENTENCES

CHAT = "/v1/chat/completions"

CLIENT = httpx.Client(timeout=60, limits=httpx.Limits(max_connections=None, max_keepalive_connections=0))
"""Made once: a client's set-up takes longer than many of the answers."""


@contextmanager
def running(
    model: Path, folder: Path, config: dict[str, Value] | None = None, **parameters: Value
) -> Iterator[str]:
    """A server's URL. `parameters` are those of the simulation: `speed=10` sets CEILING_SIM_SPEED."""
    variables: dict[str, Value] = {
        f"env.CEILING_SIM_{name.upper()}": value for name, value in parameters.items()
    }
    with Server(
        Simulated(), {**(config or {}), **variables}, Model(model, "tiny"), log=folder / "server.log"
    ) as server:
        yield server.url


@dataclass(frozen=True)
class Streamed:
    """A streamed answer: the content of every chunk that had any, finish reason, usage, id."""

    chunks: list[str]
    finish: str | None
    usage: dict[str, Any] | None
    identity: str

    @property
    def text(self) -> str:
        """The whole answer."""
        return "".join(self.chunks)


def body(prompt: str, tokens: int, **more: Any) -> dict[str, Any]:
    """A request of forced length, streamed and greedy unless `more` says otherwise."""
    asked: dict[str, Any] = {
        "model": "tiny",
        "messages": [{"role": "user", "content": prompt}],
        "max_tokens": tokens,
        "min_tokens": tokens,
        "ignore_eos": True,
        "temperature": 0,
        "stream": True,
        "stream_options": {"include_usage": True},
    }
    asked.update(more)
    return {name: value for name, value in asked.items() if value is not None}


def prompt(number: int, sentences: int = 4) -> str:
    """One of many prompts of natural text, no two alike from the first words on."""
    own = [SENTENCES[(number + place * 5) % len(SENTENCES)] for place in range(sentences)]
    return f"Letter {number}. " + " ".join(own)


def stream(url: str, asked: dict[str, Any]) -> Streamed:
    """Send one request and read its stream to the end."""
    response = CLIENT.post(url + CHAT, json=asked)
    response.raise_for_status()
    return read(response.text)


def read(text: str) -> Streamed:
    """A stream as it came."""
    lines = [line.removeprefix("data: ") for line in text.split("\n\n") if line]
    assert lines.pop() == "[DONE]"
    events = [json.loads(line) for line in lines]
    choices = [choice for event in events for choice in event["choices"]]
    return Streamed(
        chunks=[choice["delta"]["content"] for choice in choices if choice["delta"]["content"]],
        finish=choices[-1]["finish_reason"],
        usage=events[-1].get("usage"),
        identity=events[0]["id"],
    )


def at_once(url: str, requests: list[dict[str, Any]]) -> list[Streamed]:
    """All requests together, each on a connection of its own."""
    with ThreadPoolExecutor(len(requests)) as pool:
        return list(pool.map(lambda asked: stream(url, asked), requests))


def truth(path: Path) -> dict[str, dict[str, Any]]:
    """The server's own records by request id."""
    records = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]
    return {record["id"]: record for record in records}


def counter(url: str, name: str) -> float:
    """One figure of /metrics."""
    lines = dict(line.split() for line in CLIENT.get(url + "/metrics").text.splitlines())
    return float(lines[f"simulated:{name}"])
