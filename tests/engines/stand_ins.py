"""Stand-ins for installed engines: real programs that list an engine's flags, found as an engine is found.

They answer `--version` and `--help` like the engine's own CLI and serve nothing, so that an adapter's command
line can be tested on a machine without the engine.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping
from pathlib import Path

from engines.argv import ENV
from engines.space_file import FOLDER, load

VERSIONS: Mapping[str, str] = {"vllm": "0.32.0", "sglang": "0.5.17", "torch": "2.13.0", "tgi": "3.3.4"}

MODULES: Mapping[str, str] = {
    "vllm": "vllm/entrypoints/openai/api_server.py",
    "sglang": "sglang/launch_server.py",
}

OWN_FLAGS: Mapping[str, tuple[str, ...]] = {
    "vllm": (
        "model",
        "served-model-name",
        "host",
        "port",
        "load-format",
        "max-model-len",
        "pipeline-parallel-size",
    ),
    "sglang": ("model-path", "served-model-name", "host", "port", "load-format", "context-length", "pp-size"),
    "tgi": (
        "model-id",
        "hostname",
        "port",
        "shard-uds-path",
        "max-total-tokens",
        "max-input-tokens",
        "dtype",
    ),
}

PYTHON_CLI = """
import argparse, pathlib
pathlib.Path({asked!r}).open("a").write("asked\\n")
line = argparse.ArgumentParser(allow_abbrev=False)
for flag in {bare!r}:
    line.add_argument("--" + flag, action={switch})
for flag in {valued!r}:
    line.add_argument("--" + flag)
line.add_argument("--help=all", action="help")
line.parse_args()
"""

LAUNCHER = """#!{python}
import sys
if "--version" in sys.argv:
    print("text-generation-launcher {version}")
else:
    print("Usage: text-generation-launcher [OPTIONS]\\n\\nOptions:")
    for flag in {flags!r}:
        print("      --" + flag + " <VALUE>\\n          What it does\\n")
"""


def make(folder: Path) -> dict[str, str]:
    """Write all stand-ins under `folder` and return the variables that make them the installed engines."""
    variables = {"CEILING_HOME": str(folder / "home")}
    for engine, version in VERSIONS.items():
        if engine == "tgi":
            _launcher(folder / "bin", version)
            variables["PATH"] = f"{folder / 'bin'}{os.pathsep}{os.environ['PATH']}"
            continue
        site = folder / engine
        described = site / f"{engine}-{version}.dist-info" / "METADATA"
        described.parent.mkdir(parents=True)
        described.write_text(f"Metadata-Version: 2.1\nName: {engine}\nVersion: {version}\n")
        if engine in MODULES:
            _module(site, engine)
        variables[f"CEILING_{engine.upper()}_PYTHON"] = sys.executable
        variables[f"CEILING_{engine.upper()}_ENV"] = f"PYTHONPATH={site}"
    return variables


def times_asked(folder: Path, engine: str) -> int:
    """How often a Python stand-in was run."""
    asked = folder / engine / "asked"
    return len(asked.read_text().splitlines()) if asked.exists() else 0


def _tuned_flags(engine: str) -> dict[str, bool]:
    """Flags of the engine's space -> whether bare switches."""
    file = next(file for file in map(load, FOLDER.glob("*.yaml")) if file.engine == engine)
    return {
        entry.name.split(".")[0]: isinstance(entry.stated_choices()[0], bool)
        for entry in file.parameters
        if not entry.name.startswith(ENV)
    }


def _module(site: Path, engine: str) -> None:
    path = site / MODULES[engine]
    path.parent.mkdir(parents=True)
    tuned = _tuned_flags(engine)
    switch = "argparse.BooleanOptionalAction" if engine == "vllm" else "'store_true'"
    path.write_text(
        PYTHON_CLI.format(
            asked=str(site / "asked"),
            bare=[flag for flag, bare in tuned.items() if bare],
            valued=[flag for flag, bare in tuned.items() if not bare] + list(OWN_FLAGS[engine]),
            switch=switch,
        )
    )


def _launcher(folder: Path, version: str) -> None:
    folder.mkdir(parents=True)
    path = folder / "text-generation-launcher"
    flags = [*_tuned_flags("tgi"), *OWN_FLAGS["tgi"]]
    path.write_text(LAUNCHER.format(python=sys.executable, version=version, flags=flags))
    path.chmod(0o755)
