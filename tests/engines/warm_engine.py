"""An engine with a slow import, and a driver that keeps one warm until it is killed."""

from __future__ import annotations

import shutil
import sys
import time
from dataclasses import dataclass
from pathlib import Path

from engines.contract import Config, Launch, Model
from engines.warm import Interpreters, Warm
from tests.engines.nasty_engine import MODEL, Nasty

HEAVY = """
import os, sys, time
print("the import speaks", flush=True)
time.sleep({seconds})
POLICY = os.sched_getscheduler(0)
IMPORTED = time.monotonic()
"""


def make_package(folder: Path, seconds: float = 0.0) -> Path:
    """The package `warmed` under a folder; its `heavy` module takes some seconds to import."""
    package = folder / "warmed"
    package.mkdir(parents=True)
    (package / "__init__.py").touch()
    (package / "heavy.py").write_text(HEAVY.format(seconds=seconds))
    shutil.copy(Path(__file__).with_name("warmed_server.py"), package / "server.py")
    return folder


@dataclass
class Warmed(Nasty):
    """Serves `warmed.server` of a folder. `env.NAME` in a config sets a variable, `fail` makes it die."""

    folder: str = ""
    name: str = "warmed"
    imports: tuple[str, ...] = ("warmed.heavy", "warmed.missing")

    @property
    def warm(self) -> Warm:
        return Warm("warmed.server", self.imports, frozenset({"LATE"}), {"FORKING": "yes"})

    def command(self, config: Config, model: Model, host: str, port: int) -> Launch:
        given = {key.removeprefix("env."): str(value) for key, value in config.items() if key[:4] == "env."}
        more = ("--fail", str(config["fail"])) if "fail" in config else ()
        return Launch(
            (sys.executable, "-m", "warmed.server", "--port", str(port), *more),
            {"PYTHONPATH": self.folder, "OWN": "a value", **given},
        )


def drive(folder: str, run_id: str) -> None:
    """Keep an interpreter, say so, and wait to be killed."""
    kept = Interpreters()
    kept.prepare(Warmed(folder=folder), MODEL, devices=(0,), run_id=run_id, folder=Path(folder) / "logs")
    print("kept", flush=True)
    time.sleep(600)


if __name__ == "__main__":
    drive(*sys.argv[1:])
