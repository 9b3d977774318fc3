"""Space files: what a wrong one says, and how a right one fits a version and a device."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from engines.host import Host
from engines.space_file import FOLDER, SpaceFile, SpaceFileError, load, written
from tests.engines.hosts import A100, B200, CPU, H100, H100_X4, L4, gpus

HOSTS = {"cpu": CPU, "h100": H100, "a100": A100, "l4": L4, "b200": B200, "h100x4": H100_X4}

GOOD = """
engine: mine
releases: ">=1.0,<2.0"
classes:
  big: {kind: cuda, memory_gib: 70, name_not: A100}
parameters:
  - name: batch
    choices: {cuda: [16, 32, 64], cpu: [1, 2, 4]}
    default: {big: 64, cuda: 32, cpu: 4}
    ordered: true
    note: sequences at once
  - name: backend
    choices: [slow, fast]
    default: slow
    devices: [cuda]
  - name: tile
    choices: [8, 16]
    default: 8
    when: {backend: fast}
  - name: ranks
    choices: [1, 2, 4]
    default: 1
    parallel: true
  - name: method.kind
    choices: [none, lookup, table]
    default: none
  - name: env.THREADS
    choices: ["1", "2"]
    default: "1"
"""

Write = Callable[[str], Path]


@pytest.fixture
def write(tmp_path: Path) -> Write:
    def file(text: str) -> Path:
        path = tmp_path / "mine.yaml"
        path.write_text(text)
        return path

    return file


def test_defaults_and_choices_follow_the_device(write: Write) -> None:
    file = load(write(GOOD))
    defaults = {name: file.space(host)["batch"].default for name, host in HOSTS.items()}
    assert defaults == {"cpu": 4, "h100": 64, "a100": 32, "l4": 32, "b200": 64, "h100x4": 64}
    assert file.space(CPU)["batch"].choices == (1, 2, 4)


def test_what_the_device_cannot_do_is_left_out_with_its_children_and_said(write: Write) -> None:
    space = load(write(GOOD)).space(CPU)
    assert space.names == ("batch", "method.kind", "env.THREADS")
    assert dict(space.left_out) == {
        "backend": "not on cpu",
        "tile": "needs backend, which is left out",
        "ranks": "needs more devices than the 1 here",
    }


def test_parallel_choices_end_at_the_host_s_devices(write: Write) -> None:
    assert load(write(GOOD)).space(HOSTS["h100x4"])["ranks"].choices == (1, 2, 4)
    assert load(write(GOOD)).space(gpus("NVIDIA H100", 79, 2))["ranks"].choices == (1, 2)


def test_what_the_installed_cli_does_not_list_is_left_out_and_said(write: Write) -> None:
    listed = {"batch": (), "backend": ("slow", "fast"), "ranks": (), "method": ()}
    space = load(write(GOOD)).space(HOSTS["h100x4"], "1.2", listed)
    assert space.names == ("batch", "backend", "ranks", "method.kind", "env.THREADS")
    assert dict(space.left_out) == {"tile": "mine 1.2 does not list --tile"}


def test_choices_that_the_installed_cli_does_not_list_are_left_out_and_said(write: Write) -> None:
    text = GOOD.replace("[slow, fast]", "[slow, fast, none, odd]")
    listed = {"batch": (), "backend": ("fast", "new"), "tile": (), "ranks": (), "method": ()}
    space = load(write(text)).space(H100, "1.2", listed)
    assert space["backend"].choices == ("slow", "fast", "none")
    assert space.left_out["backend=odd"] == "mine 1.2 does not list this choice"


def test_a_condition_that_always_holds_goes_with_its_parent(write: Write) -> None:
    text = GOOD.replace("when: {backend: fast}", "when: {backend: slow}")
    assert load(write(text)).space(H100)["tile"].when == {"backend": ("slow",)}
    alone = load(write(text)).space(H100, "1.2", {"batch": (), "tile": (), "method": ()})
    assert alone["tile"].when == {}


def test_a_child_whose_condition_cannot_come_true_is_left_out(write: Write) -> None:
    listed = {"batch": (), "backend": ("slow", "other"), "tile": (), "method": ()}
    text = GOOD.replace("[slow, fast]", "[slow, other, fast]")
    space = load(write(text)).space(H100, "1.2", listed)
    assert space.left_out["tile"] == "needs backend=fast, which is left out"


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("engine: mine", "engine: [", "not YAML"),
        ("engine: mine", "motor: mine", "engine: Field required"),
        ('">=1.0,<2.0"', '"around 1"', "releases: String should match pattern"),
        ("note: sequences at once", "nota: sequences", "batch.nota: Extra inputs are not permitted"),
        ("choices: [slow, fast]", "choices: []", "backend.choices: List should have at least 1 item"),
        ("choices: [slow, fast]", "choices: [[slow], fast]", "backend.choices.0: must be true, false, a"),
        ("big: 64,", "huge: 64,", "batch.default: 'huge' is no device class of this file"),
        (", cpu: 4}", "}", "batch.default: states nothing for cpu"),
        ("when: {backend: fast}", "when: {method.kind: lookup}", "tile.when: 'method.kind' is not defined"),
        ("when: {backend: fast}", "when: {backend: quick}", "tile.when: backend has no choice 'quick'"),
        ("devices: [cuda]", "devices: [tpu]", "backend.devices.0: Input should be 'cuda' or 'cpu'"),
        (
            "engine: mine",
            "experts: [{config: {backend: quick}}]\nengine: mine",
            "experts[0]: backend=quick is",
        ),
        ("name: ranks", "name: --ranks", "--ranks.name: String should match pattern"),
    ],
)
def test_a_wrong_file_is_one_line_that_names_file_and_field(
    write: Write, old: str, new: str, message: str
) -> None:
    assert old in GOOD
    path = write(GOOD.replace(old, new, 1))
    with pytest.raises(SpaceFileError) as refused:
        load(path)
    assert str(refused.value).startswith(f"{path}: {message}")
    assert "\n" not in str(refused.value)


def test_a_default_that_is_no_choice_here_names_parameter_and_device(write: Write) -> None:
    file = load(write(GOOD.replace("big: 64", "big: 65")))
    assert file.space(CPU)["batch"].default == 4
    with pytest.raises(
        SpaceFileError, match="mine space, batch: default 65 is not among its choices on cuda"
    ):
        file.space(H100)


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(SpaceFileError, match=r"nowhere\.yaml: cannot be read \(No such file"):
        load(tmp_path / "nowhere.yaml")


def test_an_edited_file_is_read_again(write: Write) -> None:
    assert load(write(GOOD)).space(CPU)["batch"].default == 4
    assert load(write(GOOD.replace("cpu: 4}", "cpu: 2}"))).space(CPU)["batch"].default == 2


@pytest.mark.parametrize(
    ("version", "suits"),
    [("1.0", True), ("1.9.9", True), ("2.0", False), ("0.9", False), ("1.10.0rc1", True), ("1.2+cpu", True)],
)
def test_releases_are_compared_as_numbers(write: Write, version: str, suits: bool) -> None:
    assert load(write(GOOD)).suits(version) is suits


def test_the_file_for_the_release_is_taken_else_the_newest_and_it_is_said(tmp_path: Path) -> None:
    (tmp_path / "old.yaml").write_text(GOOD)
    (tmp_path / "new.yaml").write_text(GOOD.replace(">=1.0,<2.0", ">=2.0,<3.0"))
    assert written("mine", "1.4", tmp_path).releases == ">=1.0,<2.0"
    assert written("mine", "2.4", tmp_path).releases == ">=2.0,<3.0"
    unknown = written("mine", "3.1", tmp_path)
    assert unknown.releases == ">=2.0,<3.0"
    said = unknown.space(CPU, "3.1").left_out["(release)"]
    assert said == "no space was written for mine 3.1: this one is for >=2.0,<3.0"


def test_an_engine_without_a_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(SpaceFileError, match="no space file has engine: mine"):
        written("mine", "1.0", tmp_path)


PLACES = (FOLDER, FOLDER.parents[1] / "studies" / "spaces")
SHIPPED: dict[str, SpaceFile] = {
    path.stem: load(path) for place in PLACES for path in sorted(place.glob("*.yaml"))
}


@pytest.mark.parametrize("file", SHIPPED.values(), ids=SHIPPED)
@pytest.mark.parametrize("host", HOSTS.values(), ids=HOSTS)
def test_every_shipped_space_fits_every_device(file: SpaceFile, host: Host) -> None:
    space = file.space(host)
    assert space.canonical(space.filled({})) == {}
    assert space.experts or host.kind == "cpu" or file.engine == "torch"
    for parameter in space:
        assert parameter.note and not parameter.note.endswith(".")
        assert host.kind in parameter.devices
        assert len(parameter.choices) == len({(type(c), c) for c in parameter.choices}) >= 2


def test_vllm_s_defaults_follow_its_own_rule_for_devices() -> None:
    file = written("vllm", "0.24.0")

    def limits(host: Host) -> tuple[object, object]:
        space = file.space(host)
        return space["max-num-seqs"].default, space["max-num-batched-tokens"].default

    assert limits(H100) == (1024, 8192)
    assert limits(A100) == limits(L4) == (256, 2048)
    assert limits(CPU) == (128, 2048)
    assert file.space(B200)["attention-backend"].default == "FLASHINFER"


def test_sglang_s_defaults_follow_its_own_rule_for_devices() -> None:
    file = written("sglang", "0.5.17")
    names = ("chunked-prefill-size", "cuda-graph-max-bs-decode", "attention-backend")
    defaults = {
        name: tuple(file.space(host)[flag].default for flag in names)
        for name, host in HOSTS.items()
        if name != "cpu"
    }
    assert defaults == {
        "h100": (8192, 256, "fa3"),
        "h100x4": (8192, 256, "fa3"),
        "a100": (8192, 256, "flashinfer"),
        "l4": (2048, 24, "flashinfer"),
        "b200": (16384, 512, "trtllm_mha"),
    }


@pytest.mark.parametrize(
    ("engine", "version", "published"),
    [
        (
            "vllm",
            "0.24.0",
            {
                "max-num-seqs": {16, 32, 64, 128, 256, 512},
                "max-num-batched-tokens": {1024, 2048, 4096, 8192, 16384},
                "gpu-memory-utilization": {0.80, 0.85, 0.90, 0.95},
                "block-size": {16, 32},
                "enable-chunked-prefill": {True, False},
                "enable-prefix-caching": {True, False},
                "enforce-eager": {True, False},
                "quantization": {"none", "fp8"},
                "kv-cache-dtype": {"auto", "fp8"},
                "attention-backend": {"FLASH_ATTN", "FLASHINFER", "TRITON_ATTN"},
                "speculative-config.num_speculative_tokens": {3, 5, 7},
                "speculative-config.prompt_lookup_min": {2},
                "speculative-config.prompt_lookup_max": {4},
            },
        ),
        (
            "sglang",
            "0.5.17",
            {
                "max-running-requests": {16, 32, 64, 128, 256},
                "chunked-prefill-size": {2048, 4096, 8192},
                "mem-fraction-static": {0.80, 0.85, 0.90},
                "schedule-policy": {"fcfs", "lpm"},
            },
        ),
        (
            "tgi",
            "3.3.0",
            {
                "max-concurrent-requests": {16, 32, 64, 128, 256},
                "max-batch-prefill-tokens": {1024, 2048, 4096, 8192, 16384},
                "max-batch-total-tokens": {8192, 16384, 32768, 65536, 131072},
                "max-waiting-tokens": {20, 100, 500},
                "cuda-graphs": {"0", "1,2,4,8,16", "1,2,4,8,16,32"},
                "quantize": {"none", "bitsandbytes", "eetq", "fp8"},
                "cuda-memory-fraction": {0.85, 0.90, 0.95, 1.0},
                "waiting-served-ratio": {0.3, 1.2, 2.0},
                "max-batch-size": {16, 32, 64},
            },
        ),
    ],
)
def test_spaces_are_wider_than_the_published_ones(
    engine: str, version: str, published: dict[str, set[object]]
) -> None:
    space = written(engine, version).space(H100, version)
    for flag, choices in published.items():
        assert choices <= set(space[flag].choices), flag
    assert len(space.parameters) > len(published)
