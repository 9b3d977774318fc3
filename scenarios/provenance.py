"""Where a measurement comes from: what was asked, by which code, of which server, on which machine."""

from __future__ import annotations

import os
import platform
import subprocess
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from functools import cache
from importlib.metadata import PackageNotFoundError, distribution, version
from pathlib import Path
from typing import Any

from engines.host import this_host
from engines.registry import engine
from scenarios import profiles
from scenarios.scenario import Plan

LIBRARIES = ("httptools", "numpy", "pandas", "pyarrow", "tokenizers", "uvloop")


def provenance(
    plan: Plan,
    *,
    request_set: str,
    server: Mapping[str, Any],
    client: Mapping[str, Any],
    load_before: tuple[float, float, float],
    devices: Sequence[Mapping[str, Any]] = (),
    roofline: Mapping[str, Any] | None = None,
) -> dict[str, Any]:
    """Everything that a reader needs to judge or repeat a measurement. JSON-able.

    `server` is what it said of itself, `client` how the load was made, `devices` what the GPUs took in the
    measured interval (engines.device_meter.Usage), `roofline` the ideal (scenarios.roofline.Ideal); load
    averages are over 1, 5 and 15 minutes, before and after the run.
    """
    return {
        "plan": asdict(plan),
        "request_set": request_set,
        "server": dict(server),
        "client": dict(client),
        "devices": [dict(one) for one in devices],
        "roofline": roofline and dict(roofline),
        "harness": {"version": _version("serving-ceiling"), **commit()},
        "python": platform.python_version(),
        "libraries": {name: _version(name) for name in LIBRARIES},
        "host": host(),
        "load_average": {"before": list(load_before), "after": list(os.getloadavg())},
    }


def host() -> dict[str, Any]:
    """This machine: its name for people, devices, cores, memory in bytes, driver."""
    here = this_host()
    return {
        "system": f"{platform.system()} {platform.release()} {platform.machine()}",
        "cores": here.cores,
        "memory": here.memory,
        "driver": here.driver,
        "devices": [asdict(device) for device in here.devices],
    }


def moved(header: Mapping[str, Any]) -> str | None:
    """What is another than when a run began: an engine's version, the kind of device, its profile; or None.

    Raises ScenarioError where its profile is gone.
    """
    for name, then in (header.get("provenance", {}).get("engines") or {}).items():
        now = engine(name).runtime().version
        if now != then:
            return f"it began with {name} {then}, here is {now}"
    then = header.get("provenance", {}).get("profile")
    if then and profiles.digest(header["profile"], header["scenario"]) != then:
        return f"the profile {header['profile']} has been changed since it began"
    told = {str(device["name"]) for device in header.get("host", {}).get("devices", ())}
    here = {device.name for device in this_host().devices}
    if told and not told & here:
        return f"it began on {', '.join(sorted(told))}, this is {', '.join(sorted(here))}"
    return None


def _version(name: str) -> str | None:
    try:
        return version(name)
    except PackageNotFoundError:
        return None


@cache
def commit() -> dict[str, Any]:
    """Commit of the checkout that the code runs from, and whether its files differ from it.

    Code that came in a bundle says what it was made from.
    """
    root = Path(__file__).resolve().parent.parent
    if not (root / ".git").exists():
        return {"commit": _packed(), "modified": None}
    head = _git(root, "rev-parse", "HEAD")
    changed = _git(root, "status", "--porcelain", "--untracked-files=no")
    return {"commit": head, "modified": None if changed is None else bool(changed)}


def _packed() -> str | None:
    try:
        return (distribution("serving-ceiling").read_text("COMMIT") or "").strip() or None
    except PackageNotFoundError:
        return None


def _git(root: Path, *arguments: str) -> str | None:
    try:
        done = subprocess.run(
            ["git", "-C", str(root), *arguments], capture_output=True, text=True, timeout=10, check=True
        )
    except (OSError, subprocess.SubprocessError):
        return None
    return done.stdout.strip()
