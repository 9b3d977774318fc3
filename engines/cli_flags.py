"""Asks an installed engine's own CLI which flags and choices it has; once a version, then from a cache."""

from __future__ import annotations

import hashlib
import json
import re
import subprocess
import tempfile
from collections.abc import Mapping, Sequence
from functools import cache
from pathlib import Path

from engines.contract import EngineError
from engines.environment import clean_environment
from engines.runtime import Runtime, home

Listed = Mapping[str, tuple[str, ...]]
"""Flag without dashes -> its choices as words; empty where any value goes."""

SECONDS = 300.0
"""Longest wait for a help text (vLLM imports for 12 s on two cores, far longer on a cold disk)."""

_HEAD = re.compile(r"^(?: {2}| {6})(?:-\w,? )?--[a-zA-Z0-9]")
_FLAG = re.compile(r"--([a-zA-Z0-9][\w.-]*)")
_SET = re.compile(r"\{([^}]*)\}")
_LIST = re.compile(r"\[('[^\]]*')\]")
_POSSIBLE = re.compile(r"\[possible values: ([^\]]*)\]")
_BULLET = re.compile(r"^\s+- ([\w.-]+):")


def ask(engine: str, runtime: Runtime, command: Sequence[str]) -> Listed:
    """Flags of the installed version, by running `command`, which prints its help.

    Raises:
        EngineError: the command failed or listed nothing.
    """
    return _asked(engine, runtime.version, tuple(command), tuple(sorted(runtime.env.items())))


def forget() -> None:
    """Drops what this process remembers, so that the next question goes to the files or to the CLI."""
    _asked.cache_clear()


def parse(text: str) -> dict[str, tuple[str, ...]]:
    """Flags and choices from a help text of argparse or of clap."""
    listed: dict[str, tuple[str, ...]] = {}
    current: list[str] = []
    bullets = False
    for line in text.splitlines():
        if _HEAD.match(line):
            head = re.split(r"(?<=\S) {2,}", line.strip())[0]
            current, bullets = _FLAG.findall(head), False
            listed |= dict.fromkeys(current, _choices(head))
        possible = _POSSIBLE.search(line)
        bullet = _BULLET.match(line) if bullets else None
        if possible:
            listed |= dict.fromkeys(current, _words(possible.group(1)))
        elif bullet:
            listed |= {flag: (*listed[flag], bullet.group(1)) for flag in current}
        bullets = bullets or line.strip() == "Possible values:"
    return listed


def _choices(head: str) -> tuple[str, ...]:
    found = _SET.search(head) or _LIST.search(head)
    return _words(found.group(1)) if found else ()


def _words(text: str) -> tuple[str, ...]:
    return tuple(word.strip().strip("'\"") for word in text.split(",") if word.strip())


@cache
def _asked(
    engine: str, version: str, command: tuple[str, ...], variables: tuple[tuple[str, str], ...]
) -> Listed:
    key = hashlib.sha256(json.dumps([command, variables]).encode()).hexdigest()[:12]
    release = re.sub(r"[^\w.+-]", "_", version)
    kept = home() / "cache" / f"flags-{engine}-{release}-{key}.json"
    try:
        return {flag: tuple(choices) for flag, choices in json.loads(kept.read_text()).items()}
    except (OSError, ValueError, AttributeError, TypeError):
        listed = _run(engine, command, dict(variables))
        _keep(kept, listed)
        return listed


def _run(engine: str, command: tuple[str, ...], variables: Mapping[str, str]) -> Listed:
    try:
        done = subprocess.run(
            command,
            env={**clean_environment(command[0]), "COLUMNS": "200", **variables},
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=SECONDS,
            check=False,
        )
    except (OSError, subprocess.SubprocessError) as error:
        raise EngineError(f"{engine} does not list its flags: {error}") from error
    listed = parse(done.stdout)
    if not listed:
        last = (done.stderr.strip() or done.stdout.strip() or f"exit status {done.returncode}").splitlines()
        raise EngineError(f"{engine} does not list its flags: {last[-1]} (command: {' '.join(command)})")
    return listed


def _keep(path: Path, listed: Listed) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.NamedTemporaryFile("w", dir=path.parent, suffix=".part", delete=False) as part:
        json.dump(listed, part)
    Path(part.name).replace(path)
