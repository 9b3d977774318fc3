"""What two runs must share to stand in one table.

Host, profile, model, text, flags that every server had, and being real or simulated.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from scenarios.profiles import NATURAL, profile
from scenarios.scenario import ScenarioError
from studies.record import Run


@dataclass(frozen=True, order=True)
class Setting:
    """The setting of a run.

    `host` says its devices and cores in words; `mark` limits what the figures may be used for (`speed only`).
    `figures` is the digest of a profile of a person's own, `pinned` the flags that its default had too.
    """

    simulated: bool
    profile: str
    model: str
    digest: str
    text: str
    host: str
    devices: int
    mark: str = ""
    figures: str = ""
    pinned: str = ""

    @property
    def title(self) -> str:
        """One line for people."""
        devices = f"{self.devices} x " if self.devices > 1 else ""
        own = f" ({self.figures[:6]})" if self.figures else ""
        parts = [f"profile {self.profile}{own}", self.model, devices + self.host]
        if self.pinned:
            parts.append(self.pinned)
        if self.mark:
            parts.append(self.mark)
        return ("SIMULATION, no measurement of any engine: " if self.simulated else "") + ", ".join(parts)


def setting(run: Run) -> Setting:
    """Read a run's setting off its header."""
    model = run.header.get("model", {})
    dummy = model.get("weights") == "dummy"
    return Setting(
        simulated=is_simulated(run),
        profile=str(run.header.get("profile", "")),
        model=str(model.get("name", "")),
        digest=str(model.get("digest", "")),
        text=_text(run),
        host=host_words(run.header.get("host", {})),
        devices=int(run.header.get("devices", 1)),
        mark="speed only" if dummy else "",
        figures=_figures(run),
        pinned=" ".join(f"--set {name}={value}" for name, value in sorted(_forced(run).items())),
    )


def _figures(run: Run) -> str:
    """Of a person's own file only: a shipped profile goes by its name, as runs without a digest do."""
    own = str(run.header.get("profile", "")).removesuffix(NATURAL).endswith((".yaml", ".yml"))
    return str(run.header.get("provenance", {}).get("profile", "")) if own else ""


def _forced(run: Run) -> dict[str, Any]:
    return dict((run.header.get("spec") or {}).get("forced") or {})


def _text(run: Run) -> str:
    """The source of its prompts; where its spec leaves that open, the profile's own."""
    named = (run.header.get("spec") or {}).get("text")
    if named:
        return str(named)
    try:
        return profile(str(run.header.get("profile"))).text
    except ScenarioError:
        return ""


def is_simulated(run: Run) -> bool:
    """Whether any of its engines is one whose scores are no measurement."""
    return any(not is_real(engine) for engine in run.engines)


def is_real(engine: str) -> bool:
    """Whether an engine's scores measure something; one that is not registered here is taken as real."""
    from engines.contract import UnknownEngine
    from engines.registry import engine as lookup

    try:
        return lookup(engine).real
    except UnknownEngine:
        return True


def host_words(host: dict[str, Any]) -> str:
    """A host as words: its devices' names, or its cores where it has no accelerator."""
    devices = host.get("devices", [])
    names = sorted({str(device.get("name", device.get("kind", "?"))) for device in devices})
    cores = f"{host.get('cores', '?')} cores"
    if any(device.get("kind") == "cuda" for device in devices):
        return ", ".join(names)
    return f"{', '.join(names) or 'cpu'}, {cores}"
