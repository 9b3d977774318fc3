"""The engine adapter of nasty.py, and a driver that holds a server of it until it is killed."""

from __future__ import annotations

import sys
import time
from dataclasses import dataclass, field
from pathlib import Path

import httpx

from engines.contract import Capabilities, Config, CrashClass, Launch, Model
from engines.host import Host
from engines.runtime import Runtime
from engines.server import Server
from engines.space import Space

MODEL = Model(Path("/nowhere"), "none")


@dataclass
class Nasty:
    """An engine of one bad habit."""

    habit: str = "serve"
    name: str = "nasty"
    capabilities: Capabilities = field(default_factory=lambda: Capabilities(False, False, False))
    default_config: Config = field(default_factory=dict)
    real: bool = False

    def runtime(self) -> Runtime:
        return Runtime("python", (sys.executable,), "1")

    def space(self, host: Host) -> Space:
        return Space(self.name, ())

    def flags(self) -> frozenset[str]:
        return frozenset()

    def command(self, config: Config, model: Model, host: str, port: int) -> Launch:
        script = str(Path(__file__).with_name("nasty.py"))
        return Launch((sys.executable, "-I", script, self.habit, str(port)), {"OWN": "a value"})

    def check(self, config: Config, model: Model, host: Host) -> None:
        return None

    def ready(self, url: str) -> bool:
        try:
            return httpx.get(url, timeout=1.0).status_code == 200
        except httpx.HTTPError:
            return False

    def devices(self, config: Config) -> int:
        return 1

    def crash(self, tail: str) -> CrashClass:
        return CrashClass.OUT_OF_MEMORY if "out of memory" in tail else CrashClass.UNKNOWN

    def start_timeout(self, config: Config) -> float:
        return 20.0


def drive(habit: str, log: str, run_id: str) -> None:
    """Hold a server, say its port, and wait to be killed."""
    with Server(Nasty(habit), {}, MODEL, log=Path(log), run_id=run_id, grace=0.5) as server:
        print(server.port, flush=True)
        time.sleep(600)


if __name__ == "__main__":
    drive(*sys.argv[1:])
