"""What the scripted agents do with their workspace. Standard library only: it runs inside the sandbox."""

import json
import subprocess
from pathlib import Path
from typing import Any

LAUNCHER = Path("start_server.sh")

Config = dict[str, Any]

Answer = dict[str, Any]


class Over(Exception):
    """The run is over."""


def task() -> dict[str, Any]:
    """`task.json`."""
    data: dict[str, Any] = json.loads(Path("task.json").read_text())
    return data


def say(text: str) -> None:
    """A line for the log."""
    print(text, flush=True)


def left() -> float:
    """GPU-seconds left."""
    return float(json.loads(_asked("./timer")[1])["left"])


def launcher(engine: str, config: Config) -> str | None:
    """A launcher for a config of an engine; None where the engine refuses the config."""
    code, text = _asked("./serve", "show", engine, json.dumps(config))
    if code:
        say(f"refused {config}: {text}")
    return text if code == 0 else None


def write(text: str) -> None:
    """Make this the launcher."""
    LAUNCHER.write_text(text + "\n")
    LAUNCHER.chmod(0o755)


def serve() -> bool:
    """Start the launcher; whether it became ready."""
    code, text = _asked("./serve")
    say(text)
    return code == 0


def stop() -> None:
    """End the supervised server."""
    _asked("./serve", "stop")


def score(*, quick: bool) -> Answer | None:
    """Score what is served; None where that was not valid."""
    code, text = _asked("./score", *(["--quick"] if quick else []))
    say(text)
    if code:
        return None
    answer: Answer = json.loads(text)
    return answer


def tried(text: str, *, quick: bool) -> Answer | None:
    """Make this the launcher, start it, score it; None where any of that fails."""
    write(text)
    return score(quick=quick) if serve() else None


def _asked(*command: str) -> tuple[int, str]:
    done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=False)
    if done.returncode == 3:
        raise Over(done.stdout.strip())
    return done.returncode, done.stdout.strip()
