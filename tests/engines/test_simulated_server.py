"""The simulated engine as a server: HTTP, exact lengths, timing by the model, crashes."""

from __future__ import annotations

import itertools
import json
import socket
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from tokenizers import Tokenizer

from engines.contract import Config, CrashClass, Model, ServerCrashed
from engines.model_shape import ModelShape, shape_of
from engines.server import Server
from engines.simulated import performance
from engines.simulated.engine import Simulated
from engines.simulated.performance import Work, prompt_pairs, step_seconds
from engines.simulated.settings import Settings
from tests.engines.simulated_client import (
    CHAT,
    Streamed,
    at_once,
    body,
    counter,
    prompt,
    read,
    running,
    stream,
    truth,
)
from tests.tiny_model import make_tiny_model

PROMPTS = [prompt(number) for number in range(16)]


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_tiny_model(tmp_path_factory.mktemp("tiny"))


@pytest.fixture(scope="module")
def tokenizer(model: Path) -> Tokenizer:
    return Tokenizer.from_file(str(model / "tokenizer.json"))


@pytest.fixture(scope="module")
def shape(model: Path) -> ModelShape:
    found = shape_of(Model(model, "tiny"))
    assert found is not None
    return found


@pytest.fixture(scope="module")
def url(model: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """A fast server, for everything that is not about timing."""
    with running(model, tmp_path_factory.mktemp("fast"), speed=20) as found:
        yield found


def until(condition: Callable[[], bool], limit: float = 10.0) -> None:
    """Poll until something holds."""
    deadline = time.monotonic() + limit
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.01)


# Answers


@pytest.mark.parametrize("length", [1, 2, 9, 120])
def test_forced_length_is_met_exactly_and_counted_by_the_tokenizer(
    length: int, url: str, tokenizer: Tokenizer
) -> None:
    answer = stream(url, body(PROMPTS[0], length))
    assert len(tokenizer.encode(answer.text, add_special_tokens=False).ids) == length
    assert answer.usage is not None
    assert answer.usage["completion_tokens"] == length == len(answer.chunks)
    assert answer.finish == "length"
    rendered = f"<|im_start|>user\n{PROMPTS[0]}<|im_end|>\n<|im_start|>assistant\n"
    assert answer.usage["prompt_tokens"] == len(tokenizer.encode(rendered, add_special_tokens=False).ids)
    assert answer.usage["total_tokens"] == length + answer.usage["prompt_tokens"]


def test_greedy_answers_repeat_and_differ_by_prompt(url: str) -> None:
    one, again, other = (
        stream(url, body(each, 30, seed=seed)).text
        for each, seed in ((PROMPTS[0], 1), (PROMPTS[0], 2), (PROMPTS[1], 1))
    )
    assert one == again != other
    assert not set(one.split(".")) & set(PROMPTS[0].split("."))


def test_sampled_answers_differ_by_seed_and_without_one(url: str) -> None:
    texts = [
        stream(url, body(PROMPTS[0], 30, temperature=1, seed=seed)).text for seed in (1, 1, 2, None, None)
    ]
    assert texts[0] == texts[1]
    assert len(set(texts)) == 4


def test_without_ignore_eos_it_stops_by_itself_but_not_before_min_tokens(url: str) -> None:
    free = [stream(url, body(each, 2000, ignore_eos=None, min_tokens=None)) for each in PROMPTS[:6]]
    assert {answer.finish for answer in free} == {"stop"}
    assert len({len(answer.chunks) for answer in free}) > 3
    at_least = stream(url, body(PROMPTS[0], 900, ignore_eos=None, min_tokens=880))
    assert len(at_least.chunks) == 880
    short = stream(url, body(PROMPTS[0], 5, ignore_eos=None, min_tokens=None))
    assert (len(short.chunks), short.finish) == (5, "length")


def test_usage_only_when_asked(url: str) -> None:
    assert stream(url, body(PROMPTS[0], 3, stream_options=None)).usage is None


def test_an_answer_in_one_piece_is_the_streamed_one(url: str) -> None:
    whole = httpx.post(url + CHAT, json=body(PROMPTS[2], 40, stream=None, stream_options=None)).json()
    streamed = stream(url, body(PROMPTS[2], 40))
    assert whole["choices"][0]["message"]["content"] == streamed.text
    assert whole["usage"]["completion_tokens"] == 40
    assert whole["object"] == "chat.completion"


# HTTP


@pytest.mark.parametrize(
    ("change", "status", "message"),
    [
        ({"model": "other"}, 404, "The model `other` does not exist"),
        ({"messages": []}, 400, "messages must be a list"),
        ({"messages": [{"role": "user", "content": 3}]}, 400, "content must be text"),
        ({"max_tokens": 0, "min_tokens": 0}, 400, "max_tokens must be at least 1"),
        ({"min_tokens": 11}, 400, "min_tokens at most max_tokens"),
        ({"max_tokens": 9000}, 400, "maximum context length is 8192 tokens"),
        ({"max_tokens": "10"}, 400, "max_tokens must be of type int"),
        ({"temperature": -1}, 400, "temperature must be a number"),
        ({"logprobs": True}, 400, "logprobs is not supported"),
        ({"n": 2}, 400, "only 1 is supported"),
        ({"stream": False}, 400, "stream_options needs stream"),
        ({"messages": [{"role": "user", "content": "word " * 20_000}]}, 400, "maximum context length"),
    ],
)
def test_what_cannot_be_done_is_refused(change: dict[str, Any], status: int, message: str, url: str) -> None:
    response = httpx.post(url + CHAT, json={**body(PROMPTS[0], 10), **change})
    assert response.status_code == status
    assert message in response.json()["error"]["message"]


def test_nonsense_is_answered_and_the_server_lives(url: str) -> None:
    assert httpx.post(url + CHAT, content=b"{").status_code == 400
    assert httpx.post(url + CHAT, content=b"[]").status_code == 400
    assert httpx.post(url + CHAT, content=b"\xff\xfe").status_code == 400
    assert httpx.get(url + CHAT).status_code == 405
    assert httpx.get(url + "/v2").status_code == 404
    with connected(url) as client:
        client.sendall(b"SSH-2.0-nonsense\r\n\r\n")
        assert client.recv(4096).startswith(b"HTTP/1.1 400")
        assert client.recv(4096) == b""
    assert httpx.get(url + "/health").status_code == 200
    assert httpx.get(url + "/v1/models").json()["data"][0]["id"] == "tiny"


def connected(url: str) -> socket.socket:
    address = httpx.URL(url)
    return socket.create_connection((address.host, address.port or 80), 10)


def raw(asked: dict[str, Any]) -> bytes:
    content = json.dumps(asked).encode()
    return f"POST {CHAT} HTTP/1.1\r\nhost: x\r\ncontent-length: {len(content)}\r\n\r\n".encode() + content


def received(client: socket.socket, ends: int) -> bytes:
    """Bytes until so many chunked bodies have ended."""
    data = bytearray()
    seen = 0
    while seen < ends:
        piece = client.recv(1 << 20)
        assert piece, data
        before = max(0, len(data) - 6)
        data += piece
        seen += data.count(b"\r\n0\r\n\r\n", before)
    return bytes(data)


def test_requests_split_anywhere_and_sent_together_are_answered_in_order(url: str) -> None:
    one, two = raw(body(PROMPTS[3], 5)), raw(body(PROMPTS[4], 7))
    with connected(url) as client:
        client.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        for place in range(0, len(one), 7):
            client.sendall(one[place : place + 7])
        split = received(client, 1)
        client.sendall(one + two)
        both = received(client, 2)
    assert split.count(b'"content":"') == 6
    assert both.count(b'"content":"') == 6 + 8
    assert both.index(b'"completion_tokens":5') < both.index(b'"completion_tokens":7')


def test_a_client_that_reads_late_gets_every_byte(model: Path, tmp_path: Path) -> None:
    """More than the sockets' buffers hold: every event carries the model's long name."""
    name = "tiny" * 500
    config: Config = {"env.CEILING_SIM_FIXED": "ttft=0,tpot=0"}
    with Server(Simulated(), config, Model(model, name), log=tmp_path / "log") as server:
        with connected(server.url) as client:
            client.sendall(raw(body(PROMPTS[0], 8000, model=name)))
            until(lambda: counter(server.url, "num_requests_running") == 0)
            data = received(client, 1)
        assert data.count(name.encode()) == 8000 + 2
        assert stream(server.url, body(PROMPTS[0], 8000, model=name)).text.encode() in without_frames(data)


def without_frames(data: bytes) -> bytes:
    """All content of a stream, put together."""
    return b"".join(piece.split(b'"', 1)[0] for piece in data.split(b'"content":"')[2:])


def test_a_client_that_leaves_frees_its_place(model: Path, tmp_path: Path) -> None:
    records = tmp_path / "truth.jsonl"
    with running(model, tmp_path, {"max-num-seqs": 1}, truth=str(records)) as url:
        with connected(url) as client:
            client.sendall(raw(body(PROMPTS[0], 4000)))
            client.recv(1)
            until(lambda: counter(url, "num_requests_running") == 1)
        until(lambda: counter(url, "num_requests_running") == 0)
        assert counter(url, "kv_cache_usage") == 0
        assert len(stream(url, body(PROMPTS[1], 5)).chunks) == 5
    assert [record["finish"] for record in truth(records).values()] == ["gone", "length"]


# Timing


def timed(
    model: Path, folder: Path, requests: list[dict[str, Any]], **parameters: Any
) -> list[dict[str, Any]]:
    """The truth about requests sent all at once, in their order."""
    records = folder / "truth.jsonl"
    with running(model, folder, None, truth=str(records), **parameters) as url:
        answers = at_once(url, requests)
    known = truth(records)
    return [known[answer.identity] for answer in answers]


def ttft(record: dict[str, Any]) -> float:
    return float(record["tokens"][0] - record["arrival"])


def tpot(record: dict[str, Any]) -> float:
    return float(record["tokens"][-1] - record["tokens"][0]) / (len(record["tokens"]) - 1)


def test_alone_ttft_and_tpot_are_the_models(model: Path, tmp_path: Path, shape: ModelShape) -> None:
    path = tmp_path / "truth.jsonl"
    with running(model, tmp_path, truth=str(path), noise=0) as url:
        for number in range(8):
            stream(url, body(prompt(number, 12), 40))
    costs = performance.costs(Settings(), shape)
    firsts, rests = [], []
    for record in truth(path).values():
        size = record["prompt_tokens"]
        first = step_seconds(costs, Work(prompt=size, pairs=prompt_pairs(0, size)))
        rest = [step_seconds(costs, Work(decodes=1, context=size + n)) for n in range(1, 40)]
        firsts.append(ttft(record) - first)
        rests.append(tpot(record) / statistics.fmean(rest))
    assert min(firsts) == pytest.approx(0, abs=1e-3)
    assert min(rests) == pytest.approx(1, rel=0.01)


def test_sixteen_streams_share_their_steps(model: Path, tmp_path: Path, shape: ModelShape) -> None:
    """The best of three rounds: a busy machine can only make them slower."""
    rounds = []
    for number in range(3):
        (folder := tmp_path / str(number)).mkdir()
        rounds.append(timed(model, folder, [body(each, 150) for each in PROMPTS], noise=0))
    records = min(rounds, key=lambda each: statistics.median(map(tpot, each)))
    costs = performance.costs(Settings(), shape)
    size = statistics.fmean(record["prompt_tokens"] for record in records)
    step = step_seconds(costs, Work(decodes=16, context=round(16 * (size + 75))))
    alone = step_seconds(costs, Work(decodes=1, context=round(size + 75)))
    assert statistics.median(map(tpot, records)) == pytest.approx(step, rel=0.05)
    assert 16 / statistics.median(map(tpot, records)) > 8 / alone


def test_tokens_leave_when_they_are_due(model: Path, tmp_path: Path) -> None:
    records = timed(model, tmp_path, [body(each, 100) for each in PROMPTS])
    late = [b - a for record in records for a, b in zip(record["tokens"], record["sent"], strict=True)]
    assert min(late) > -1e-3
    assert statistics.median(late) < 5e-3


def test_fixed_timing_is_exact_whatever_the_load(model: Path, tmp_path: Path) -> None:
    records = timed(
        model, tmp_path, [body(each, 32) for each in PROMPTS], fixed="ttft=0.05,tpot=0.005,chunk=3"
    )
    assert [ttft(record) for record in records] == pytest.approx([0.05] * 16, abs=1e-6)
    assert [tpot(record) for record in records] == pytest.approx([0.005] * 16, abs=1e-6)
    assert {record["chunks"] for record in records} == {1 + 11}
    steps = {round(b - a, 6) for record in records for a, b in itertools.pairwise(record["tokens"])}
    assert steps == {0.0, 0.015, 0.005}


def test_chunks_of_several_tokens_and_no_usage(model: Path, tmp_path: Path, tokenizer: Tokenizer) -> None:
    with running(model, tmp_path, fixed="ttft=0,tpot=0.001,chunk=4", usage=0) as url:
        answer = stream(url, body(PROMPTS[0], 21))
    assert len(answer.chunks) == 1 + 5
    assert [len(tokenizer.encode(chunk, add_special_tokens=False).ids) for chunk in answer.chunks] == [
        1
    ] + 5 * [4]
    assert answer.usage is None


def test_the_client_sees_what_the_truth_says(model: Path, tmp_path: Path) -> None:
    records = tmp_path / "truth.jsonl"
    with (
        running(model, tmp_path, truth=str(records), fixed="ttft=0.2,tpot=0.02") as url,
        httpx.Client() as client,
    ):
        sent = time.monotonic()
        with client.stream("POST", url + CHAT, json=body(PROMPTS[0], 11)) as response:
            pieces = [(time.monotonic(), text) for text in response.iter_text()]
        answer = read("".join(text for _, text in pieces))
    known = truth(records)[answer.identity]
    content = [moment for moment, text in pieces if '"delta":{"content"' in text]
    assert content[0] - known["tokens"][0] == pytest.approx(0, abs=0.05)
    assert content[-1] - content[0] == pytest.approx(0.2, abs=0.05)
    assert known["arrival"] - sent == pytest.approx(0, abs=0.1)


def test_speed_divides_every_duration(model: Path, tmp_path: Path, shape: ModelShape) -> None:
    (record,) = timed(model, tmp_path, [body(PROMPTS[0], 60)], noise=0, speed=4)
    costs = performance.costs(Settings(), shape)
    step = step_seconds(costs, Work(decodes=1, context=record["prompt_tokens"] + 30))
    assert tpot(record) == pytest.approx(step / 4, rel=0.02)


# Cache, speculation, start and end


def test_a_prompt_seen_before_is_cached_until_the_cache_is_reset(model: Path, tmp_path: Path) -> None:
    records = tmp_path / "truth.jsonl"
    with running(model, tmp_path, truth=str(records), noise=0) as url:
        long = body(prompt(7, 14), 2)
        fresh, repeated = stream(url, long), stream(url, long)
        assert httpx.post(url + "/reset_prefix_cache").status_code == 200
        after = stream(url, long)
        assert counter(url, "prefix_cache_hits") == cached(repeated)
    assert (cached(fresh), cached(after)) == (0, 0)
    assert repeated.usage is not None
    assert repeated.usage["prompt_tokens"] - 16 <= cached(repeated) < repeated.usage["prompt_tokens"]
    known = truth(records)
    assert ttft(known[repeated.identity]) < 0.6 * ttft(known[fresh.identity])


def cached(answer: Streamed) -> int:
    assert answer.usage is not None
    return int(answer.usage["prompt_tokens_details"]["cached_tokens"])


def test_without_prefix_caching_nothing_is_kept(model: Path, tmp_path: Path) -> None:
    with running(model, tmp_path, {"enable-prefix-caching": False}, speed=20) as url:
        assert [cached(stream(url, body(PROMPTS[0], 2))) for _ in range(2)] == [0, 0]


def test_speculation_sends_several_tokens_a_chunk_on_looping_text(
    model: Path, tmp_path: Path, tokenizer: Tokenizer
) -> None:
    config: Config = {"speculative-method": "ngram", "num-speculative-tokens": 5}
    with running(model, tmp_path, dict(config), speed=10, looping=1) as url:
        answer = stream(url, body(PROMPTS[0], 400))
        accepted = counter(url, "spec_decode_num_accepted_tokens")
    assert len(tokenizer.encode(answer.text, add_special_tokens=False).ids) == 400
    assert len(answer.chunks) < 200
    assert accepted == 400 - len(answer.chunks)


def test_start_up_takes_what_it_is_told(model: Path, tmp_path: Path) -> None:
    spent = {}
    for name, config in (("default", {}), ("eager", {"enforce-eager": True})):
        with Server(
            Simulated(),
            {**config, "env.CEILING_SIM_START_SECONDS": 2},
            Model(model, "tiny"),
            log=tmp_path / f"{name}.log",
        ) as server:
            spent[name] = server.seconds["start"]
    assert spent["default"] >= 2
    assert 0.45 * 2 <= spent["eager"] < spent["default"]


@pytest.mark.parametrize(
    ("config", "expected", "told"),
    [
        ({"kv-cache-dtype": "fp8"}, CrashClass.INCOMPATIBLE_FLAGS, "kv_cache_dtype not supported"),
        ({"gpu-memory-utilization": 0.95, "max-num-seqs": 512}, CrashClass.OUT_OF_MEMORY, "out of memory"),
        ({"block-size": 24}, CrashClass.UNSUPPORTED_FLAG, "argument --block-size"),
    ],
)
def test_a_bad_config_crashes_at_start(
    config: Config, expected: CrashClass, told: str, model: Path, tmp_path: Path
) -> None:
    with (
        pytest.raises(ServerCrashed) as crashed,
        Server(Simulated(), config, Model(model, "tiny"), log=tmp_path / "log"),
    ):
        pass
    assert crashed.value.crash is expected
    assert told in crashed.value.tail


def test_it_can_die_in_mid_run(model: Path, tmp_path: Path) -> None:
    with Server(
        Simulated(), {"env.CEILING_SIM_DIE_AFTER": 2}, Model(model, "tiny"), log=tmp_path / "log"
    ) as server:
        for number in range(2):
            stream(server.url, body(PROMPTS[number], 3))
        until(lambda: not server.alive())
        death = server.death()
    assert death is not None
    assert death.crash is CrashClass.DIED


def test_a_taken_port_and_a_directory_without_a_model_are_named(model: Path, tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        done = launched("--model", str(model), "--port", str(port))
        assert (done.returncode, Simulated().crash(done.stderr)) == (1, CrashClass.PORT)
    done = launched("--model", str(tmp_path))
    assert done.returncode == 1
    assert "config.json is not there" in done.stderr


def launched(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "engines.simulated.server", *arguments],
        capture_output=True,
        text=True,
        timeout=30,
        check=False,
    )
