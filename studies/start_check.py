"""Start an engine's default once and end it: whether it works here, and what its first start builds."""

from __future__ import annotations

import tempfile
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from engines.contract import Engine, Model, ServerCrashed
from engines.server import Server

GIB = 2**30


@dataclass(frozen=True)
class StartCheck:
    """What came of one start.

    Attributes:
        start, stop: seconds until it was ready, and from TERM to confirmed teardown.
        memory_before, memory_after: bytes on each device; None where that cannot be read.
        crash, detail: the class of its death and the line that says most about it; empty where it served.
    """

    engine: str
    version: str
    start: float
    stop: float
    memory_before: tuple[int | None, ...]
    memory_after: tuple[int | None, ...]
    crash: str = ""
    detail: str = ""

    @property
    def words(self) -> str:
        """One line for people."""
        name = f"{self.engine} {self.version}"
        if self.crash:
            return f"{name} does not start ({self.crash}): {self.detail}"
        known = [
            f"{before / GIB:.2f} GiB before, {after / GIB:.2f} after"
            for before, after in zip(self.memory_before, self.memory_after, strict=True)
            if before and after is not None
        ]
        memory = f"; GPU memory {', '.join(known)}" if known else ""
        return f"{name} was ready in {self.start:.1f} s, gone in {self.stop:.1f} s{memory}"

    def to_json(self) -> dict[str, Any]:
        """A plain dict."""
        return asdict(self)


def check(engine: Engine, model: Model) -> StartCheck:
    """Start it with its defaults until it is ready, and end it. Raises EngineNotInstalled."""
    version = engine.runtime().version
    with tempfile.TemporaryDirectory(prefix="ceiling-check-") as folder:
        server = Server(engine, engine.default_config, model, log=Path(folder) / "engine.log")
        crash, detail = "", ""
        try:
            with server:
                pass
        except ServerCrashed as error:
            crash, detail = error.crash.value, error.detail
    return StartCheck(
        engine.name,
        version,
        round(server.seconds.get("start", 0.0), 2),
        round(server.seconds.get("stop", 0.0), 2),
        server.held.memory_before,
        server.held.memory_after or tuple(None for _ in server.held.memory_before),
        crash,
        detail.split(" (log: ")[0],
    )
