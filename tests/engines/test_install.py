"""Installing an engine with the real pip, from wheels that are made here: no network, no torch."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import zipfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from engines.contract import EngineNotInstalled
from engines.install import RECIPES, InstallError, _serves, install, mend
from engines.runtime import RECORD, environment, find

RECIPE = RECIPES["torch", "cpu"]


def make_wheel(directory: Path, name: str, version: str, code: str = "") -> None:
    """A wheel that holds one module."""
    info = f"{name}-{version}.dist-info"
    with zipfile.ZipFile(directory / f"{name}-{version}-py3-none-any.whl", "w") as wheel:
        wheel.writestr(f"{name}.py", code)
        wheel.writestr(f"{info}/METADATA", f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n")
        wheel.writestr(f"{info}/WHEEL", "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n")
        wheel.writestr(f"{info}/RECORD", "")


@pytest.fixture(scope="module")
def wheels(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Stand-ins for all that the torch engine's environment holds, and a torch 9.9 that does not import."""
    directory = tmp_path_factory.mktemp("wheels")
    for requirement in (f"{RECIPE.package}=={RECIPE.version}", *RECIPE.beside):
        name, _, version = requirement.partition("==")
        make_wheel(directory, name, version or "1.0")
    make_wheel(directory, "torch", "9.9", "raise ImportError('libtorch is not for this machine')")
    return directory


@pytest.fixture(autouse=True)
def no_configuration_of_this_machine(monkeypatch: pytest.MonkeyPatch) -> None:
    """A constraint that some machine sets for pip would decide these tests."""
    monkeypatch.setenv("PIP_CONFIG_FILE", os.devnull)
    monkeypatch.delenv("PIP_CONSTRAINT", raising=False)


@pytest.fixture
def ceiling_home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("CEILING_HOME", str(tmp_path / "home"))
    monkeypatch.delenv("CEILING_TORCH_PYTHON", raising=False)
    return tmp_path / "home"


def test_an_environment_is_made_once_and_survives_a_failing_successor(
    ceiling_home: Path, wheels: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(wheels))
    monkeypatch.delenv("PIP_EXTRA_INDEX_URL", raising=False)
    said: tuple[list[str], list[str]] = ([], [])
    with ThreadPoolExecutor(2) as pool:
        first, second = pool.map(lambda lines: install("torch", cpu=True, echo=lines.append), said)
    assert first == second == find("torch")
    assert first.version == RECIPE.version
    assert Path(first.program[0]) == ceiling_home / "engines" / "torch" / "bin" / "python"
    builder, waiter = sorted(said, key=len, reverse=True)
    assert any(line.startswith("making an environment for torch") for line in builder)
    assert any(line.startswith("unpacking and compiling 8 packages") for line in builder)
    assert waiter == [
        "another process is installing torch: waiting for it",
        f"torch {RECIPE.version} is installed in {environment('torch')}",
    ]

    with pytest.raises(InstallError, match="ImportError: libtorch is not for this machine") as caught:
        install("torch", version="9.9", cpu=True, echo=builder.append)
    assert "\n" not in str(caught.value)
    assert find("torch") == first
    assert {path.name for path in environment("torch").parent.iterdir()} == {
        "torch",
        "torch.lock",
        "torch.log",
    }


def test_a_cpu_build_does_not_serve_where_one_for_gpus_is_needed(ceiling_home: Path) -> None:
    place = environment("torch")
    place.mkdir(parents=True)
    (place / RECORD).write_text(json.dumps({"requirements": ["torch==1"], "build": "cpu", "pip_args": []}))
    assert _serves("torch", ("torch==1",), (), None)
    assert _serves("torch", ("torch==1",), (), "cpu")
    assert not _serves("torch", ("torch==1",), (), "gpu")
    assert not _serves("torch", ("torch==2",), (), None)


def test_an_unfinished_environment_is_absent(ceiling_home: Path) -> None:
    (environment("torch") / "bin").mkdir(parents=True)
    (environment("torch") / "bin" / "python").symlink_to(sys.executable)
    with pytest.raises(EngineNotInstalled, match="ceiling engines install torch"):
        find("torch")
    (environment("torch") / RECORD).write_text(json.dumps({"version": "1"}))
    assert find("torch").version == "1"


@pytest.mark.parametrize(
    ("name", "cpu", "said"),
    [
        ("tgi", False, "put text-generation-launcher on PATH"),
        ("sglang", True, "leave --cpu out"),
        ("simulated", False, "one of sglang, torch, vllm"),
    ],
)
def test_what_pip_cannot_install_is_refused_in_one_line(
    name: str, cpu: bool, said: str, ceiling_home: Path
) -> None:
    with pytest.raises(InstallError, match=said):
        install(name, cpu=cpu, echo=lambda line: None)
    assert not ceiling_home.exists()


def pip(*arguments: str) -> str:
    """What this environment's pip says to an installation that fails."""
    run = subprocess.run(
        [sys.executable, "-m", "pip", "install", "--dry-run", "--isolated", *arguments],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=False,
    )
    assert run.returncode != 0
    return run.stdout


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (
            ("--no-index", "surely-absent==1"),
            "surely-absent==1: no index has it: ceiling .* --find-links DIR",
        ),
        (("--no-index", "torch==1.0+cpu"), r"torch==1.0\+cpu: no index has PyTorch's CPU build"),
        (
            ("--no-index", "--find-links", "{wheels}", "torch==8"),
            "torch==8: the newest that pip finds is 9.9",
        ),
        (
            ("--no-index", "--find-links", "{wheels}", "-c", "{constraint}", "torch==9.9"),
            "torch==8.1: it excludes what the engine needs: unset PIP_CONSTRAINT",
        ),
        (("--index-url", "http://127.0.0.1:9/", "--retries", "1", "six"), "pip cannot reach its index"),
        (("--frobnicate", "six"), "no such option: --frobnicate: what follows -- goes to pip"),
    ],
)
def test_the_option_that_mends_a_failure_is_named(
    arguments: tuple[str, ...], said: str, wheels: Path, tmp_path: Path
) -> None:
    constraint = tmp_path / "constraint.txt"
    constraint.write_text("torch==8.1\n")
    output = pip(*(a.format(wheels=wheels, constraint=constraint) for a in arguments))
    line = mend(output, "ceiling engines install torch --cpu")
    assert line is not None
    assert re.search(said, line)
    assert "\n" not in line


def test_an_interpreter_named_by_a_variable_goes_first(
    ceiling_home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    packages = tmp_path / "packages"
    (packages / "sglang-3.2.dist-info").mkdir(parents=True)
    (packages / "sglang-3.2.dist-info" / "METADATA").write_text("Name: sglang\nVersion: 3.2\n")
    monkeypatch.setenv("CEILING_SGLANG_PYTHON", sys.executable)
    monkeypatch.setenv("CEILING_SGLANG_ENV", f"PYTHONPATH={packages};FAST=1")
    runtime = find("sglang")
    assert (runtime.kind, runtime.program, runtime.version) == ("python", (sys.executable,), "3.2")
    assert runtime.env == {"PYTHONPATH": str(packages), "FAST": "1"}

    monkeypatch.setenv("CEILING_SGLANG_ENV", "FAST")
    with pytest.raises(EngineNotInstalled, match="'FAST' is not NAME=VALUE"):
        find("sglang")
    monkeypatch.setenv("CEILING_SGLANG_ENV", "")
    with pytest.raises(EngineNotInstalled, match="has no sglang: correct or unset CEILING_SGLANG_PYTHON"):
        find("sglang")
    monkeypatch.setenv("CEILING_SGLANG_PYTHON", "/no/such/python")
    with pytest.raises(EngineNotInstalled, match="/no/such/python does not run"):
        find("sglang")


def test_a_launcher_on_path_is_a_runtime(
    ceiling_home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", f"{tmp_path}:/usr/bin:/bin")
    with pytest.raises(EngineNotInstalled, match="put text-generation-launcher on PATH"):
        find("tgi")
    launcher = tmp_path / "text-generation-launcher"
    launcher.write_text("#!/bin/sh\necho text-generation-launcher 3.3.4\n")
    launcher.chmod(0o755)
    runtime = find("tgi")
    assert (runtime.kind, runtime.program, runtime.version) == ("path", (str(launcher),), "3.3.4")
