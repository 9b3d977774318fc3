"""A bundle made offline from wheels that are made here, carried, unpacked and run."""

from __future__ import annotations

import json
import platform
import shutil
import subprocess
import sys
import tarfile
from pathlib import Path
from typing import Any

import pytest

from studies.bundle.pack import MANIFEST, Bundle, pack
from studies.bundle.parts import size
from studies.bundle.wheels import Target, harness_wheel, sources
from studies.errors import BadInput
from tests.engines.test_install import make_wheel
from tests.tiny_model import make_tiny_model

BACKEND = """
import zipfile


def build_wheel(directory, *_):
    with zipfile.ZipFile(f"{directory}/pure-2.0-py3-none-any.whl", "w") as wheel:
        wheel.writestr("pure/__init__.py", "")
        wheel.writestr("pure-2.0.dist-info/METADATA", "Metadata-Version: 2.1\\nName: pure\\nVersion: 2.0\\n")
        wheel.writestr("pure-2.0.dist-info/WHEEL", "Wheel-Version: 1.0\\nTag: py3-none-any\\n")
        wheel.writestr("pure-2.0.dist-info/RECORD", "")
    return "pure-2.0-py3-none-any.whl"
"""
HERE = Target(".".join(map(str, sys.version_info[:2])), platform.machine(), 28)
PART = 20_000


@pytest.fixture(scope="module")
def wheels(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two engines of one module each, and a package that both have."""
    place = tmp_path_factory.mktemp("wheels")
    make_wheel(place, "vllm", "0.24.0", "SPEED = 1\n" + "# ballast\n" * 1000)
    make_wheel(place, "sglang", "0.5.17", "import shared")
    make_wheel(place, "shared", "1.0", "WHAT = 'shared'\n" * 500)
    make_wheel(place, "leaf", "3.2", "")
    (place / "vllm.txt").write_text("vllm==0.24.0\nshared==1.0\n")
    (place / "sglang.txt").write_text("sglang==0.5.17\nshared==1.0\n")
    (place / "harness.txt").write_text("leaf==3.2\n")
    return place


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    directory = make_tiny_model(tmp_path_factory.mktemp("model") / "tiny")
    (directory / "model.safetensors").write_bytes(bytes(range(256)) * 400)
    return directory


def made(wheels: Path, model: Path, place: Path, **changes: Any) -> dict[str, Any]:
    fields: dict[str, Any] = {
        "engines": ("vllm", "sglang"),
        "target": HERE,
        "part_size": PART,
        "pins": {name: wheels / f"{name}.txt" for name in ("harness", "vllm", "sglang")},
        "models": (model,),
        "pip_args": ("--no-index", "--find-links", str(wheels)),
    }
    return pack(Bundle(**{**fields, **changes}), place, lambda line: None)


def unpacked(place: Path, target: Path, *more: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, str(place / "unpack.py"), str(target), *more]
    return subprocess.run(command, capture_output=True, text=True, check=False)


def shell(script: str) -> str:
    done = subprocess.run(["sh", "-c", script], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def test_a_bundle_is_carried_and_runs(wheels: Path, model: Path, tmp_path: Path) -> None:
    place, target = tmp_path / "bundle", tmp_path / "on host"
    manifest = made(wheels, model, place)
    assert max(part["bytes"] for part in manifest["parts"]) == PART
    assert {file.stat().st_size for file in (place / "parts").iterdir()} == {
        part["bytes"] for part in manifest["parts"]
    }
    assert len(manifest["files"]) > len(manifest["blobs"]), "what both engines have is carried once"
    shell(f"cd '{place}' && sha256sum --quiet -c SHA256SUMS")
    elsewhere = tmp_path / "second load"
    elsewhere.mkdir()
    for part in sorted((place / "parts").iterdir())[2:]:
        shutil.move(part, elsewhere / part.name)

    done = unpacked(place, target, "--from", str(elsewhere))
    assert done.returncode == 0, done.stdout + done.stderr
    assert "done: . " in done.stdout
    ask = 'PYTHONPATH="${CEILING_SGLANG_ENV#PYTHONPATH=}" "$CEILING_SGLANG_PYTHON" -c '
    assert shell(f". '{target}/env.sh' && {ask} 'import sglang; print(sglang.shared.WHAT)'") == "shared\n"
    assert list((target / "envs" / "sglang").rglob("*.pyc"))
    assert not (target / "wheels").exists()
    packed = target / "cache" / "models" / "tiny"
    assert (packed / "model.safetensors").read_bytes() == (model / "model.safetensors").read_bytes()

    listed = json.loads(shell(f"cd / && '{target}/bin/ceiling' engines list --json -"))
    found = {row["name"]: (row["version"], row["kind"]) for row in listed}
    assert found["vllm"] == ("0.24.0", "python") and found["sglang"] == ("0.5.17", "python")
    ran = "import studies, scenarios.provenance as p; print(studies.__file__, p.commit())"
    said = shell(f"cd / && PYTHONPATH='{target}/envs/harness' '{sys.executable}' -c '{ran}'")
    assert said.startswith(f"{target}/envs/harness/studies")
    assert f"'commit': {manifest['harness']['commit']!r}" in said

    again = unpacked(place, target, "--from", str(elsewhere))
    assert again.returncode == 0 and "vllm: is there already" in again.stdout


def test_an_engine_carried_later_joins_those_that_are_there(
    wheels: Path, model: Path, tmp_path: Path
) -> None:
    target = tmp_path / "host"
    pins = {name: wheels / f"{name}.txt" for name in ("harness", "vllm")}
    made(wheels, model, tmp_path / "first", engines=("vllm",), pins=pins)
    later = {"engines": ("sglang",), "pins": {"sglang": wheels / "sglang.txt"}, "models": ()}
    made(wheels, model, tmp_path / "second", harness=False, **later)
    for bundle in ("first", "second", "second"):
        assert unpacked(tmp_path / bundle, target).returncode == 0
    listed = json.loads(shell(f"cd / && '{target}/bin/ceiling' engines list --json -"))
    found = {row["name"]: row["version"] for row in listed if row["kind"] == "python"}
    assert found["vllm"] == "0.24.0" and found["sglang"] == "0.5.17"
    stands = shell(f". '{target}/env.sh' && echo $CEILING_TORCH_ENV")
    assert stands == f"PYTHONPATH={target}/envs/vllm\n"


def test_an_overlay_lies_over_what_was_installed(wheels: Path, model: Path, tmp_path: Path) -> None:
    kernels = tmp_path / "kernels" / "sampling" / "sampling.so"
    kernels.parent.mkdir(parents=True)
    kernels.write_bytes(b"built ahead")
    only = {"engines": ("vllm",), "harness": False, "pins": {"vllm": wheels / "vllm.txt"}, "models": ()}
    over = {"vllm": tmp_path / "kernels"}
    made(wheels, model, tmp_path / "bundle", **only, overlays=over)
    for _ in range(2):
        done = unpacked(tmp_path / "bundle", tmp_path / "host")
        assert done.returncode == 0 and "vllm: laid 1 files over it" in done.stdout
    env = tmp_path / "host" / "envs" / "vllm"
    assert (env / "sampling" / "sampling.so").read_bytes() == b"built ahead"
    assert (env / "vllm.py").is_file() and not (tmp_path / "host" / "overlays").exists()
    with pytest.raises(BadInput, match=r"--overlay sglang=...: add --engine sglang"):
        made(wheels, model, tmp_path / "other", **only, overlays={"sglang": tmp_path / "kernels"})
    with pytest.raises(BadInput, match=r"--overlay vllm=.*nowhere: no file is there"):
        made(wheels, model, tmp_path / "other", **only, overlays={"vllm": tmp_path / "nowhere"})


def test_what_has_no_wheel_is_built_if_it_is_pure_python(wheels: Path, model: Path, tmp_path: Path) -> None:
    source = tmp_path / "pure-2.0"
    (source / "pure").mkdir(parents=True)
    (source / "pure" / "__init__.py").write_text("")
    (source / "backend.py").write_text(BACKEND)
    (source / "pyproject.toml").write_text(
        '[build-system]\nrequires = []\nbuild-backend = "backend"\nbackend-path = ["."]\n'
    )
    (source / "PKG-INFO").write_text("Metadata-Version: 2.1\nName: pure\nVersion: 2.0\n")
    with tarfile.open(tmp_path / "pure-2.0.tar.gz", "w:gz") as packed:
        packed.add(source, "pure-2.0")
    pins = tmp_path / "vllm.txt"
    pins.write_text("vllm==0.24.0\npure==2.0\n")
    links = ("--no-index", "--find-links", str(wheels), "--find-links", str(tmp_path))
    asked = {"engines": ("vllm",), "harness": False, "pins": {"vllm": pins}, "models": (), "pip_args": links}
    manifest = made(wheels, model, tmp_path / "bundle", **asked)
    assert "wheels/vllm/pure-2.0-py3-none-any.whl" in {file["path"] for file in manifest["files"]}


def test_missing_and_damaged_parts_are_named(wheels: Path, model: Path, tmp_path: Path) -> None:
    place = tmp_path / "bundle"
    made(wheels, model, place, engines=("vllm",), harness=False, pins={"vllm": wheels / "vllm.txt"})
    second = place / "parts" / "part-002"
    whole = second.read_bytes()
    second.write_bytes(whole[:-1] + bytes([whole[-1] ^ 1]))
    damaged = unpacked(place, tmp_path / "a")
    assert (damaged.returncode, damaged.stderr.count("\n")) == (2, 1)
    assert "parts are damaged (part-002): carry them again" in damaged.stderr
    second.unlink()
    missing = unpacked(place, tmp_path / "a")
    assert missing.returncode == 2 and "1 parts are missing (part-002)" in missing.stderr
    assert not (tmp_path / "a" / "envs").exists()
    second.write_bytes(whole)
    assert unpacked(place, tmp_path / "a").returncode == 0
    assert "CEILING_TORCH_PYTHON" in (tmp_path / "a" / "env.sh").read_text()
    assert not (tmp_path / "a" / "bin").exists()


def test_another_python_is_refused(wheels: Path, model: Path, tmp_path: Path) -> None:
    place = tmp_path / "bundle"
    made(
        wheels,
        model,
        place,
        target=Target("3.9", "aarch64", 35),
        engines=(),
        pins={"harness": wheels / "harness.txt"},
    )
    refused = unpacked(place, tmp_path / "a")
    assert refused.returncode == 2 and "the wheels are for Python 3.9" in refused.stderr
    assert json.loads((place / MANIFEST).read_text())["arch"] == "aarch64"


def test_shapes_leave_the_weights_out_and_say_so(wheels: Path, model: Path, tmp_path: Path) -> None:
    place, target = tmp_path / "bundle", tmp_path / "target"
    made(wheels, model, place, engines=(), harness=False, pins={}, shapes_only=True)
    assert unpacked(place, target).returncode == 0
    there = target / "cache" / "models" / "tiny"
    assert not list(there.glob("*.safetensors"))
    assert json.loads((there / "config.json").read_text())["ceiling_weights"] == "dummy"
    assert "ceiling_weights" not in (model / "config.json").read_text()
    assert (there / "tokenizer.json").read_bytes() == (model / "tokenizer.json").read_bytes()


def test_the_harness_s_wheel_holds_all_that_it_needs(tmp_path: Path) -> None:
    names = {name for name, _ in sources()}
    assert {"engines/spaces/vllm.yaml", "scenarios/profiles/cpu.yaml", "studies/report/page.html.j2"} <= names
    assert not [name for name in names if "__pycache__" in name or name.startswith("tests")]
    wheel = harness_wheel(tmp_path, "abc")
    assert wheel.name.startswith("serving_ceiling-") and wheel.stat().st_size > 100_000


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"pins": {"frob": Path("x")}}, "--pins frob=...: add --engine frob"),
        ({"engines": ("tgi",), "pins": {}, "harness": False}, "bundle one of torch, vllm, sglang"),
        ({"pins": {"vllm": Path("nowhere.txt")}, "engines": ("vllm",)}, "there is no such file"),
        (
            {"pins": {}, "engines": ("vllm",), "harness": False, "pip_args": ("--no-index",)},
            "no wheels for vllm",
        ),
    ],
)
def test_what_cannot_be_packed_is_said(
    wheels: Path, model: Path, tmp_path: Path, changes: dict[str, Any], said: str
) -> None:
    with pytest.raises(BadInput, match=said.replace(".", r"\.")):
        made(wheels, model, tmp_path / "bundle", **changes)


def test_sizes_as_people_write_them() -> None:
    assert [size(text) for text in ("60M", "1.5G", "500k", "70000", "2MB")] == [
        60_000_000,
        1_500_000_000,
        500_000,
        70_000,
        2_000_000,
    ]
    for text in ("", "M", "0", "-3M", "6T"):
        with pytest.raises(BadInput, match="60M"):
            size(text)
