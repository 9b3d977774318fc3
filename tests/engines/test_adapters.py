"""The adapters: exact command lines, static guards, and how a CLI is asked for its flags."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Iterator
from dataclasses import replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from engines import argv, cli_flags
from engines.contract import Config, EngineError, Infeasible, Model, UnsupportedFlag
from engines.health import answers
from engines.host import Host, this_host
from engines.model_shape import shape_of
from engines.runtime import Runtime
from engines.sglang import SGLang
from engines.tgi import TGI
from engines.torch_engine import SERVER, Torch
from engines.vllm import LOOKUP, Vllm
from tests.engines import stand_ins
from tests.engines.hosts import CPU, GIB, H100, H100_X4, L4
from tests.tiny_model import make_tiny_model

cases = pytest.mark.parametrize

MISTRAL = {
    "architectures": ["MistralForCausalLM"],
    "hidden_size": 4096,
    "intermediate_size": 14336,
    "num_hidden_layers": 32,
    "num_attention_heads": 32,
    "num_key_value_heads": 8,
    "head_dim": 128,
    "vocab_size": 32768,
    "max_position_embeddings": 32768,
    "torch_dtype": "bfloat16",
}


@pytest.fixture(scope="module", autouse=True)
def installed(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    folder = tmp_path_factory.mktemp("installed")
    with pytest.MonkeyPatch.context() as environment:
        for name, value in stand_ins.make(folder).items():
            environment.setenv(name, value)
        yield folder


@pytest.fixture(scope="module")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Model:
    return Model(make_tiny_model(tmp_path_factory.mktemp("model") / "tiny"), "tiny")


@pytest.fixture(scope="module")
def mistral(tmp_path_factory: pytest.TempPathFactory) -> Model:
    """The shapes of a 7B model, with random weights."""
    folder = tmp_path_factory.mktemp("mistral")
    (folder / "config.json").write_text(json.dumps(MISTRAL))
    return Model(folder, "mistral", max_length=32768, weights="dummy")


def flags_of(words: tuple[str, ...]) -> list[str]:
    return [word for word in words if word.startswith("--")]


# Rendering


def test_values_render_as_the_cli_spells_them() -> None:
    listed = {"size", "cache", "no-cache", "switch", "share", "draft-config"}
    config: Config = {
        "size": 8,
        "cache": False,
        "switch": False,
        "share": 0.9,
        "draft-config.method": "ngram",
        "env.THREADS": 2,
        "draft-config.deep.tokens": 3,
        "env.FAST": True,
    }
    words, variables = argv.render(config, listed, "any")
    assert words == [
        *("--size", "8", "--no-cache", "--share", "0.9"),
        *("--draft-config", '{"method": "ngram", "deep": {"tokens": 3}}'),
    ]
    assert variables == {"THREADS": "2", "FAST": "1"}
    assert argv.render({"switch": True, "cache": True}, listed, "any")[0] == ["--switch", "--cache"]


def test_values_that_mean_unset_render_as_nothing() -> None:
    assert argv.render({"size": "default", "cache": "none", "env.A": "default"}, {"size"}, "any") == ([], {})


def test_a_misspelt_flag_gets_a_suggestion() -> None:
    with pytest.raises(UnsupportedFlag) as refused:
        argv.render({"max-num-seq": 8}, {"max-num-seqs", "model"}, "vllm 0.32.0")
    assert str(refused.value) == "vllm 0.32.0 does not list --max-num-seq; did you mean --max-num-seqs?"


# Command lines


def test_vllm_s_default_launch_is_the_engine_s_own(tiny: Model) -> None:
    launch = Vllm().command({}, tiny, "127.0.0.1", 8001)
    assert launch.argv[1:3] == ("-m", "vllm.entrypoints.openai.api_server")
    assert launch.argv[3:] == (
        *("--model", str(tiny.path), "--served-model-name", "tiny"),
        *("--host", "127.0.0.1", "--port", "8001"),
    )
    assert launch.env["HF_HUB_OFFLINE"] == launch.env["VLLM_NO_USAGE_STATS"] == "1"


def test_vllm_takes_length_and_random_weights_from_the_model(tiny: Model) -> None:
    model = replace(tiny, max_length=2048, weights="dummy")
    words = Vllm().command({"max-num-seqs": 8, "enable-prefix-caching": False}, model, "127.0.0.1", 8001).argv
    assert words[11:] == (
        *("--load-format", "dummy", "--max-model-len", "2048"),
        *("--max-num-seqs", "8", "--no-enable-prefix-caching"),
    )


def test_vllm_s_speculation_is_one_object_with_nothing_left_to_guess(tiny: Model) -> None:
    config: Config = {"speculative-config.method": "ngram", "speculative-config.num_speculative_tokens": 5}
    words = Vllm().command(config, tiny, "127.0.0.1", 8001).argv
    assert json.loads(words[words.index("--speculative-config") + 1]) == {
        **{"method": "ngram", "num_speculative_tokens": 5},
        **{"prompt_lookup_max": 4, "prompt_lookup_min": 2},
    }
    off = Vllm().command({"speculative-config.num_speculative_tokens": 5}, tiny, "127.0.0.1", 8001).argv
    assert "--speculative-config" not in off


def test_vllm_s_own_speculation_defaults_are_the_space_s() -> None:
    space = Vllm().space(CPU)
    assert {key: space[f"speculative-config.{key}"].default for key in LOOKUP} == LOOKUP


@pytest.mark.skipif(this_host().kind != "cpu", reason="the variable belongs to the CPU build")
def test_vllm_s_cache_on_a_cpu_has_a_size_of_its_own(tiny: Model, mistral: Model) -> None:
    def cache(config: Config, model: Model) -> str | None:
        return Vllm().command(config, model, "127.0.0.1", 8001).env.get("VLLM_CPU_KVCACHE_SPACE")

    assert cache({}, tiny) == "2"
    assert cache({}, mistral) == "5", "one request of 32768 tokens needs 4 GiB"
    assert cache({"env.VLLM_CPU_KVCACHE_SPACE": 3}, tiny) == "3"
    assert cache({"gpu-memory-utilization": 0.5}, tiny) is None


def test_sglang_s_launch(tiny: Model) -> None:
    model = replace(tiny, max_length=2048, weights="dummy")
    config: Config = {"disable-radix-cache": True, "tp-size": 2}
    launch = SGLang().command(config, model, "127.0.0.1", 8002)
    assert launch.argv[1:] == (
        *("-m", "sglang.launch_server", "--model-path", str(tiny.path), "--served-model-name", "tiny"),
        *("--host", "127.0.0.1", "--port", "8002", "--load-format", "dummy", "--context-length", "2048"),
        *("--disable-radix-cache", "--tp-size", "2"),
    )
    assert "sglang" in launch.env["PYTHONPATH"]


def test_torch_s_launch(tiny: Model) -> None:
    model = replace(tiny, max_length=2048, weights="dummy")
    launch = Torch().command({"dtype": "float32"}, model, "127.0.0.1", 8003)
    assert launch.argv[1:] == (
        *(str(SERVER), "--model", str(tiny.path), "--served-model-name", "tiny"),
        *("--host", "127.0.0.1", "--port", "8003", "--dummy-weights", "--max-model-len", "2048"),
        *("--dtype", "float32"),
    )


def test_tgi_s_launch(tiny: Model) -> None:
    launch = TGI().command({"cuda-graphs": "0"}, replace(tiny, max_length=2048), "127.0.0.1", 8004)
    assert Path(launch.argv[0]).name == "text-generation-launcher"
    assert flags_of(launch.argv) == [
        *("--model-id", "--hostname", "--port", "--shard-uds-path", "--num-shard"),
        *("--max-total-tokens", "--max-input-tokens", "--cuda-graphs"),
    ]
    assert launch.argv[launch.argv.index("--max-input-tokens") + 1] == "2047"
    bounded = TGI().command({"max-batch-prefill-tokens": 1024}, replace(tiny, max_length=2048), "::1", 8004)
    assert bounded.argv[bounded.argv.index("--max-input-tokens") + 1] == "1024"
    assert flags_of(TGI().command({"num-shard": 2}, tiny, "::1", 8004).argv).count("--num-shard") == 1


def test_tgi_says_that_it_cannot_force_a_length() -> None:
    assert not TGI().capabilities.force_length
    assert all(engine.capabilities.force_length for engine in (Vllm(), SGLang(), Torch()))


# Guards


@cases(
    ("config", "reason"),
    [
        ({"max-num-seqs": 512, "max-num-batched-tokens": 256}, "max-num-batched-tokens=256 is below max-num"),
        ({"enable-chunked-prefill": False, "max-num-batched-tokens": 8192}, "below the context of 32768"),
        ({"long-prefill-token-threshold": 40960}, "threshold=40960 is above the context of 32768"),
        ({"tensor-parallel-size": 4, "data-parallel-size": 2}, "needs 8 devices, this host has 4"),
        (
            {"tensor-parallel-size": 3},
            "tensor-parallel-size=3 does not divide the model's 32 attention heads",
        ),
        ({"speculative-config.method": "ngram"}, "speculation with random weights"),
        (
            {"attention-backend": "FLASHINFER", "kv-cache-dtype": "int8_per_token_head"},
            "FLASHINFER does not do",
        ),
        ({"attention-backend": "TRITON_ATTN", "kv-cache-dtype": "fp8_e5m2"}, "TRITON_ATTN does not do"),
        ({"attention-backend": "FLASHINFER", "block-size": 128}, "block-size=128: 64 at most"),
    ],
)
def test_vllm_refuses_at_no_cost(mistral: Model, config: Config, reason: str) -> None:
    with pytest.raises(Infeasible, match=reason):
        Vllm().check(config, mistral, H100_X4)


def test_vllm_refuses_lookups_that_cannot_be(tiny: Model) -> None:
    config: Config = {"speculative-config.method": "ngram", "speculative-config.prompt_lookup_max": 2}
    Vllm().check(config, tiny, CPU)
    with pytest.raises(Infeasible, match="prompt_lookup_min=3 is above prompt_lookup_max=2"):
        Vllm().check({**config, "speculative-config.prompt_lookup_min": 3}, tiny, CPU)


def test_vllm_s_blocks_fit_its_kernels(tiny: Model) -> None:
    Vllm().check({"block-size": 48}, tiny, H100)
    with pytest.raises(Infeasible, match="block-size=48 is no multiple of 32"):
        Vllm().check({"block-size": 48}, tiny, CPU)
    with pytest.raises(Infeasible, match="block-size=24 is no multiple of 16"):
        Vllm().check({"block-size": 24}, tiny, H100)


def test_a_7b_model_of_full_length_does_not_fit_a_small_gpu_unless_smaller_or_split(mistral: Model) -> None:
    four = Host(L4.devices * 4, 16, 64 * GIB)
    Vllm().check({}, mistral, L4)
    long = replace(mistral, max_length=32768)
    cramped = Host((replace(L4.devices[0], memory=16 * GIB),), 16, 64 * GIB)
    with pytest.raises(
        Infeasible, match=r"weights \(13\.5 GiB\) and the KV cache .* \(4\.0 GiB\) exceed the 14"
    ):
        Vllm().check({}, long, cramped)
    Vllm().check({"kv-cache-dtype": "fp8", "quantization": "fp8"}, long, cramped)
    Vllm().check({}, replace(mistral, max_length=4096), cramped)
    Vllm().check({"tensor-parallel-size": 4}, long, four)


@cases("engine", [Torch(), Vllm()], ids=["torch", "vllm"])
def test_what_does_not_fit_a_cpu_s_memory_is_refused(engine: Torch | Vllm, mistral: Model) -> None:
    engine.check({}, mistral, CPU)
    small = Host((replace(CPU.devices[0], memory=16 * GIB),), 2, 16 * GIB)
    with pytest.raises(Infeasible, match=r"exceed the 16\.0 GiB there: lower max-model-len"):
        engine.check({}, mistral, small)


@cases(
    ("config", "reason"),
    [
        ({"tp-size": 8}, "needs 8 devices"),
        ({"tp-size": 3}, "tp-size=3 does not divide"),
        ({"attention-backend": "fa3", "kv-cache-dtype": "fp8_e5m2"}, "take fp8_e4m3"),
        ({"disable-cuda-graph": True, "enable-torch-compile": True}, "not with disable-cuda-graph"),
        ({"speculative-algorithm": "NGRAM"}, "speculation with random weights"),
        ({"mem-fraction-static": 0.05}, "raise mem-fraction-static"),
    ],
)
def test_sglang_refuses_at_no_cost(mistral: Model, config: Config, reason: str) -> None:
    with pytest.raises(Infeasible, match=reason):
        SGLang().check(config, mistral, H100_X4)


def test_sglang_s_ngram_trees_need_single_token_pages_or_flashinfer(tiny: Model) -> None:
    config: Config = {"speculative-algorithm": "NGRAM", "page-size": 16}
    with pytest.raises(Infeasible, match="page-size=16"):
        SGLang().check(config, tiny, H100)
    SGLang().check({**config, "attention-backend": "flashinfer"}, tiny, H100)
    SGLang().check({**config, "speculative-ngram-max-bfs-breadth": 1}, tiny, H100)


@cases(
    ("config", "reason"),
    [
        (
            {"max-batch-prefill-tokens": 16384, "max-batch-total-tokens": 8192},
            "is above max-batch-total-tokens",
        ),
        ({"max-batch-total-tokens": 1024}, "below one request of 4096"),
        ({"dtype": "float16", "quantize": "fp8"}, "cannot be used with quantize"),
        ({"num-shard": 2}, "num-shard=2 does not divide the model's 9 attention heads"),
        ({"num-shard": 8}, "needs 8 devices"),
    ],
)
def test_tgi_refuses_at_no_cost(tiny: Model, config: Config, reason: str) -> None:
    with pytest.raises(Infeasible, match=reason):
        TGI().check(config, replace(tiny, max_length=4096), H100_X4)


def test_tgi_refuses_random_weights(mistral: Model) -> None:
    with pytest.raises(Infeasible, match="no random weights"):
        TGI().check({}, mistral, H100)


def test_a_model_of_another_kind_is_left_to_the_engine(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text('{"model_type": "something-else"}')
    unknown = Model(tmp_path, "unknown")
    assert shape_of(unknown) is None
    for engine in (Vllm(), SGLang(), TGI(), Torch()):
        engine.check({}, unknown, H100)


def test_shapes_count_weights_and_cache(mistral: Model, tiny: Model, tmp_path: Path) -> None:
    shape = shape_of(mistral)
    assert shape is not None
    assert shape.weight_bytes / 2 == pytest.approx(7.248e9, rel=0.001)
    assert shape.kv_bytes(32768) == 4 * GIB
    assert shape.kv_bytes(32768, 1) == 2 * GIB
    (tmp_path / "config.json").write_text((tiny.path / "config.json").read_text())
    (tmp_path / "model.safetensors").write_bytes(b"x" * 1000)
    weighed = shape_of(Model(tmp_path, "m"))
    assert weighed is not None and weighed.weight_bytes == 1000


# Readiness


class Slow(BaseHTTPRequestHandler):
    """Says 200 at /health, 503 at /starting, and nothing for long elsewhere."""

    release = threading.Event()

    def do_GET(self) -> None:
        if self.path == "/stuck":
            self.release.wait(10)
        self.send_response(503 if self.path == "/starting" else 200)
        self.end_headers()

    def log_message(self, format: str, *values: object) -> None:
        """Keeps the test's output clean."""


@pytest.fixture
def url() -> Iterator[str]:
    with ThreadingHTTPServer(("127.0.0.1", 0), Slow) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}"
        Slow.release.set()
        server.shutdown()
        thread.join()


def test_only_status_200_in_time_is_ready(url: str) -> None:
    assert answers(url)
    assert answers(url + "/")
    assert not answers(url, "/starting")
    assert not answers(url, "/stuck", seconds=0.2)


# Asking a CLI

ARGPARSE = """usage: server [-h] [--mode {fast,slow}] [--size SIZE]

Serves. See --not-a-flag in the text.

options:
  -h, --help            show this help message and exit
  --mode {fast,slow}, -m {fast,slow}
                        Which way; --size matters too.
  --cache, --no-cache   Keep things. (default: True)
  --kind ['auto', 'other']
                        A kind
  --a-very-long-flag-name-that-wraps VALUE, --alias VALUE
                        Words
   --json '{"a": 1}'
"""

CLAP = """Usage: launcher [OPTIONS]

Options:
      --quantize <QUANTIZE>
          How

          [env: QUANTIZE=]

          Possible values:
          - awq:  4 bits
          - fp8:  8 bits

      --dtype <DTYPE>
          Numbers

          [possible values: float16, bfloat16]

  -p, --port <PORT>
          Where
"""


def test_flags_and_choices_are_read_from_argparse() -> None:
    assert cli_flags.parse(ARGPARSE) == {
        **{"help": (), "mode": ("fast", "slow"), "cache": (), "no-cache": (), "kind": ("auto", "other")},
        **{"a-very-long-flag-name-that-wraps": (), "alias": ()},
    }


def test_flags_and_choices_are_read_from_clap() -> None:
    assert cli_flags.parse(CLAP) == {"quantize": ("awq", "fp8"), "dtype": ("float16", "bfloat16"), "port": ()}


def test_a_cli_is_asked_once_a_version(installed: Path) -> None:
    for _ in range(3):
        assert "max-num-seqs" in Vllm().flags()
    assert stand_ins.times_asked(installed, "vllm") == 1


Script = Callable[[str], Path]


@pytest.fixture
def script(tmp_path: Path) -> Script:
    def write(text: str) -> Path:
        path = tmp_path / "cli"
        path.write_text(f"#!/bin/sh\n{text}\n")
        path.chmod(0o755)
        return path

    return write


def runtime_of(program: Path, version: str) -> Runtime:
    return Runtime("path", (str(program),), version)


def test_an_answer_survives_the_process(script: Script, tmp_path: Path) -> None:
    program = script("echo '  --size SIZE  how many'")
    runtime = runtime_of(program, "1.0")
    assert dict(cli_flags.ask("any", runtime, [str(program)])) == {"size": ()}
    program.write_text("#!/bin/sh\nexit 1\n")
    cli_flags.forget()
    assert dict(cli_flags.ask("any", runtime, [str(program)])) == {"size": ()}
    with pytest.raises(EngineError):
        cli_flags.ask("any", runtime_of(program, "2.0"), [str(program)])


def test_a_damaged_answer_is_asked_for_again(script: Script, installed: Path) -> None:
    program = script("echo '  --size SIZE  how many'")
    runtime = runtime_of(program, "1.1")
    cli_flags.ask("damaged", runtime, [str(program)])
    (kept,) = (installed / "home" / "cache").glob("flags-damaged-1.1-*.json")
    kept.write_text('{"size": ')
    cli_flags.forget()
    assert dict(cli_flags.ask("damaged", runtime, [str(program)])) == {"size": ()}
    assert json.loads(kept.read_text()) == {"size": []}


@cases(
    ("text", "message"),
    [
        ("echo 'no module named engine' >&2; exit 1", "no module named engine"),
        ("exit 3", "exit status 3"),
        ("echo nothing that looks like flags", "nothing that looks like flags"),
    ],
)
def test_a_cli_that_lists_nothing_is_one_line(script: Script, text: str, message: str) -> None:
    program = script(text)
    with pytest.raises(EngineError) as refused:
        cli_flags.ask("odd", runtime_of(program, f"version of {message}"), [str(program)])
    assert str(refused.value).startswith(f"odd does not list its flags: {message} (command: ")


def test_a_cli_that_is_not_there_is_one_line(tmp_path: Path) -> None:
    with pytest.raises(EngineError, match=r"odd does not list its flags: .*No such file"):
        cli_flags.ask("odd", runtime_of(tmp_path / "nowhere", "1"), [str(tmp_path / "nowhere")])
