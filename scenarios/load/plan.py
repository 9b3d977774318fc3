"""What a sender is to send: a JSON file beside one file of request bodies, read by memory map."""

from __future__ import annotations

import json
import mmap
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Self
from urllib.parse import urlsplit


class BadUrl(ValueError):
    """Not the address of an HTTP server. The message is one line that names the fix."""


@dataclass(frozen=True)
class Target:
    """Where requests go. `prefix` is the path before `/v1`."""

    host: str
    port: int
    tls: bool = False
    prefix: str = ""

    @classmethod
    def parse(cls, url: str) -> Self:
        """From `http://host:port`, with or without a trailing `/v1`. Raises BadUrl."""
        try:
            parts = urlsplit(url if "://" in url else f"http://{url}")
            port = parts.port
        except ValueError:
            parts, port = urlsplit(""), None
        if parts.scheme not in ("http", "https") or not parts.hostname:
            raise BadUrl(f"{url!r} is not a server's address: write http://HOST:PORT")
        tls = parts.scheme == "https"
        path = parts.path.rstrip("/").removesuffix("/v1")
        return cls(parts.hostname, port or (443 if tls else 80), tls, path)

    @property
    def local(self) -> bool:
        """Whether it is this machine."""
        return self.host in ("127.0.0.1", "::1", "localhost")

    @property
    def base(self) -> str:
        """The address without `/v1`."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"{'https' if self.tls else 'http'}://{host}:{self.port}{self.prefix}"


@dataclass(frozen=True)
class Send:
    """One request of a stage.

    Attributes:
        key: position in the list of all requests of the measurement; comes back in the record.
        offset: nanoseconds after the stage's start at which it is meant to be sent (0 where closed).
        start, length: its body in the bodies file (bytes).
        cut: end the request after so many `data:` lines (0: read it to its end).
    """

    key: int
    offset: int
    start: int
    length: int
    cut: int = 0


@dataclass(frozen=True)
class Stage:
    """One stretch of sends.

    `closed`: a request is meant to be sent the moment its slot becomes free. `cap`: in flight at most.
    """

    name: str
    closed: bool
    cap: int | None
    sends: tuple[Send, ...]


@dataclass(frozen=True)
class SendPlan:
    """Everything that one sender process needs.

    Attributes:
        limit: seconds of wall time for all stages together; None = none.
        stall: seconds of silence after which a request may count as hung (see `sender`).
        bodies: path of the bodies file.
    """

    target: Target
    headers: Mapping[str, str]
    bodies: str
    stages: tuple[Stage, ...]
    limit: float | None = None
    stall: float = 60.0
    spare: int = field(default=8)

    def save(self, path: Path) -> None:
        """Write it as JSON."""
        path.write_text(json.dumps(asdict(self)), encoding="utf-8")

    @classmethod
    def load(cls, path: Path) -> Self:
        """Read what `save` wrote."""
        data: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
        data["target"] = Target(**data["target"])
        data["stages"] = tuple(
            Stage(**{**stage, "sends": tuple(Send(**send) for send in stage["sends"])})
            for stage in data["stages"]
        )
        return cls(**data)


def head(target: Target, headers: Mapping[str, str]) -> bytes:
    """The request line and headers, up to the value of Content-Length."""
    lines = [
        f"POST {target.prefix}/v1/chat/completions HTTP/1.1",
        f"Host: {target.host}:{target.port}",
        "Content-Type: application/json",
        "Accept: text/event-stream",
        "Accept-Encoding: identity",
        *(f"{name}: {value}" for name, value in headers.items()),
        "Content-Length: ",
    ]
    return "\r\n".join(lines).encode("latin-1")


class Bodies:
    """The bodies file, mapped: a request's pages are read when it is sent and cost the process no heap."""

    def __init__(self, path: Path) -> None:
        self._file = path.open("rb")
        size = path.stat().st_size
        self._map = mmap.mmap(self._file.fileno(), 0, access=mmap.ACCESS_READ) if size else b""

    def __getitem__(self, send: Send) -> bytes:
        return self._map[send.start : send.start + send.length]


def write_bodies(path: Path, bodies: Iterable[bytes]) -> list[tuple[int, int]]:
    """Write bodies one after another; (start, length) of each."""
    places: list[tuple[int, int]] = []
    start = 0
    with path.open("wb") as file:
        for body in bodies:
            file.write(body)
            places.append((start, len(body)))
            start += len(body)
    return places


def share(stages: Sequence[Stage], sender: int, senders: int) -> tuple[Stage, ...]:
    """One sender's part of the shared schedule, dealt round robin; caps are dealt the same way.

    A stage with a cap below the number of senders is sent by as many senders as the cap.
    """
    return tuple(_part(stage, sender, senders) for stage in stages)


def _part(stage: Stage, sender: int, senders: int) -> Stage:
    used = senders if stage.cap is None else min(senders, stage.cap)
    if sender >= used:
        return Stage(stage.name, stage.closed, stage.cap and 1, ())
    cap = None if stage.cap is None else stage.cap // used + (1 if sender < stage.cap % used else 0)
    return Stage(stage.name, stage.closed, cap, stage.sends[sender::used])
