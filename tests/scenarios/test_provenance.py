"""What may not change while a run is cut off."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import Any

from engines.host import this_host
from engines.registry import engine
from scenarios import profiles
from scenarios.provenance import moved

VERSION = engine("simulated").runtime().version


def header(version: str, *devices: str) -> dict[str, Any]:
    told = [{**asdict(this_host().devices[0]), "name": name} for name in devices]
    return {"provenance": {"engines": {"simulated": version}}, "host": {"devices": told}}


def test_a_run_goes_on_where_it_began() -> None:
    here = this_host().devices[0].name
    assert moved(header(VERSION, here)) is None
    assert moved(header(VERSION, here, here)) is None
    assert moved({}) is None


def test_an_edited_profile_is_named(tmp_path: Path) -> None:
    own = tmp_path / "own.yaml"
    shipped = Path(profiles.__file__).with_name("profiles") / "smoke.yaml"
    own.write_text(shipped.read_text())
    began = profiles.digest(str(own), "C")
    told = {"profile": str(own), "scenario": "C", "provenance": {"profile": began}}
    assert began == profiles.digest("smoke", "C")
    assert moved(told) is None
    other = tmp_path / "other.yaml"
    other.write_text(shipped.read_text().replace("input_tokens: 64", "input_tokens: 65"))
    told["profile"] = str(other)
    assert moved(told) == f"the profile {other} has been changed since it began"


def test_another_version_or_device_is_named() -> None:
    here = this_host().devices[0].name
    assert moved(header("0.0-old", here)) == f"it began with simulated 0.0-old, here is {VERSION}"
    assert moved(header(VERSION, "Some GPU")) == f"it began on Some GPU, this is {here}"
