"""A profile with a rehearsal added."""

from __future__ import annotations

from pathlib import Path

import yaml


def rehearsing(profile: Path, folder: Path) -> str:
    """A copy in that folder, whose scenarios are rehearsed."""
    path = folder / "rehearsing.yaml"
    path.write_text(yaml.safe_dump({**yaml.safe_load(profile.read_text()), "rehearsal": True}))
    return str(path)
