"""Real servers of real engines, started and ended by `engines.server.Server`, on the small real model.

A missing engine is no reason to pass: these tests then fail with the command that installs it.
"""

from __future__ import annotations

import json
import re
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass, replace
from itertools import pairwise
from pathlib import Path

import httpx
import psutil
import pytest

from engines.contract import Config, CrashClass, Model, ServerCrashed, UnsupportedFlag
from engines.host import compute_processes, this_host
from engines.ports import is_free
from engines.registry import engine
from engines.server import Server
from engines.warm import Interpreters
from scenarios.models import fetch

pytestmark = [pytest.mark.engine, pytest.mark.timeout(900)]

PROMPT = "Tell the story of a ship that crossed the northern sea in winter, naïve captain and all 😀."

Servers = Iterator[Server]


@dataclass(frozen=True)
class Reply:
    """A streamed answer: its pieces with their arrival times (s), and what the server says of itself."""

    pieces: tuple[str, ...]
    times: tuple[float, ...]
    usage: dict[str, int]
    reason: str

    @property
    def text(self) -> str:
        return "".join(self.pieces)


@pytest.fixture(scope="session")
def model() -> Model:
    return Model(fetch("smollm2-135m", print), "smollm2-135m", max_length=2048)


@pytest.fixture(scope="module")
def vllm(model: Model, tmp_path_factory: pytest.TempPathFactory) -> Servers:
    log = tmp_path_factory.mktemp("vllm") / "server.log"
    with Server(engine("vllm"), {"enforce-eager": True}, model, log=log) as server:
        yield server
    assert_gone(server)


@pytest.fixture(scope="module")
def interpreters(
    vllm: Server, model: Model, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Interpreters]:
    """One imports vLLM while the first tests run."""
    made = Interpreters()
    folder = tmp_path_factory.mktemp("warm")
    assert made.prepare(vllm.engine, model, devices=(0,), run_id="", folder=folder) is not None
    yield made
    made.close()


@pytest.fixture(scope="module")
def torch(model: Model, tmp_path_factory: pytest.TempPathFactory) -> Servers:
    log = tmp_path_factory.mktemp("torch") / "server.log"
    with Server(engine("torch"), {}, model, log=log) as server:
        yield server
    assert_gone(server)


@pytest.fixture(params=["torch", "vllm"])
def server(request: pytest.FixtureRequest) -> Server:
    started: Server = request.getfixturevalue(request.param)
    request.getfixturevalue("interpreters")
    return started


def assert_gone(server: Server) -> None:
    assert is_free(server.port)
    assert server.pid is None or not Path(f"/proc/{server.pid}").exists()
    assert server.seconds["stop"] < 15


def body(tokens: int, **changes: object) -> dict[str, object]:
    return {
        **{"model": "smollm2-135m", "messages": [{"role": "user", "content": PROMPT}]},
        **{"stream": True, "stream_options": {"include_usage": True}, "temperature": 0, "seed": 7},
        **{"max_tokens": tokens, "min_tokens": tokens, "ignore_eos": True},
        **changes,
    }


def ask(server: Server, tokens: int, **changes: object) -> Reply:
    pieces: list[str] = []
    times: list[float] = []
    usage: dict[str, int] = {}
    reason = ""
    request = body(tokens, **changes)
    with httpx.stream("POST", f"{server.url}/v1/chat/completions", json=request, timeout=120) as response:
        assert response.status_code == 200, response.read()
        for line in response.iter_lines():
            if not line.startswith("data: ") or line == "data: [DONE]":
                continue
            event = json.loads(line.removeprefix("data: "))
            usage = event.get("usage") or usage
            for choice in event["choices"]:
                reason = choice["finish_reason"] or reason
                if choice["delta"].get("content"):
                    pieces.append(choice["delta"]["content"])
                    times.append(time.monotonic())
    return Reply(tuple(pieces), tuple(times), usage, reason)


def whole(server: Server, tokens: int, **changes: object) -> httpx.Response:
    request = body(tokens, stream=False, stream_options=None, **changes)
    return httpx.post(f"{server.url}/v1/chat/completions", json=request, timeout=120)


def test_exactly_the_asked_length_is_streamed_token_by_token(server: Server) -> None:
    reply = ask(server, 48)
    assert reply.usage["completion_tokens"] == 48
    assert reply.usage["total_tokens"] == reply.usage["prompt_tokens"] + 48
    assert 40 <= len(reply.pieces) <= 48
    assert reply.reason == "length"
    apart = [later - earlier for earlier, later in pairwise(reply.times) if later - earlier > 0.001]
    assert len(apart) >= 10, "tokens came in a lump"


def test_greedy_answers_are_the_same_twice_and_unstreamed(server: Server) -> None:
    first = ask(server, 24)
    assert ask(server, 24).text == first.text
    answer = whole(server, 24).json()
    assert answer["choices"][0]["message"]["content"] == first.text
    assert answer["usage"]["completion_tokens"] == 24


def test_a_seed_decides_a_sampled_answer(server: Server) -> None:
    texts = [ask(server, 16, temperature=1.0, seed=seed).text for seed in (1, 1, 2)]
    assert texts[0] == texts[1] != texts[2]


def test_an_answer_ends_by_itself_unless_forced_on(server: Server) -> None:
    short: dict[str, object] = {
        "messages": [{"role": "user", "content": "What is 2+2? Answer with one number."}],
        "ignore_eos": False,
    }
    free = ask(server, 120, min_tokens=0, **short)
    assert free.reason == "stop"
    assert free.usage["completion_tokens"] < 60
    held = ask(server, 120, min_tokens=90, **short)
    assert held.usage["completion_tokens"] >= 90


def test_a_client_that_leaves_frees_the_server(server: Server) -> None:
    request = body(1500)
    with httpx.stream("POST", f"{server.url}/v1/chat/completions", json=request, timeout=120) as response:
        for _, line in zip(range(8), response.iter_lines(), strict=False):
            assert "error" not in line
    began = time.monotonic()
    assert ask(server, 4).usage["completion_tokens"] == 4
    assert time.monotonic() - began < 15


def test_more_than_the_context_is_refused_with_400(server: Server) -> None:
    refused = whole(server, 4000)
    assert refused.status_code == 400
    assert "2048" in refused.text


def test_it_serves_under_the_model_s_name(server: Server) -> None:
    (served,) = httpx.get(f"{server.url}/v1/models", timeout=10).json()["data"]
    assert served["id"] == "smollm2-135m"
    assert served["max_model_len"] == 2048
    assert server.engine.ready(server.url)


def test_both_count_the_same_prompt_tokens_and_begin_alike(torch: Server, vllm: Server) -> None:
    ours, theirs = ask(torch, 16), ask(vllm, 16)
    assert ours.usage["prompt_tokens"] == theirs.usage["prompt_tokens"]
    assert ours.text.split()[0] == theirs.text.split()[0]


def test_torch_answers_one_request_at_a_time_in_order(torch: Server) -> None:
    with ThreadPoolExecutor(3) as senders:
        replies = list(senders.map(lambda seed: ask(torch, 12, seed=seed), range(3)))
    spans = sorted((reply.times[0], reply.times[-1]) for reply in replies)
    assert all(before[1] <= after[0] for before, after in pairwise(spans))
    assert all(reply.usage["completion_tokens"] == 12 for reply in replies)


def test_vllm_answers_many_requests_at_once(vllm: Server) -> None:
    with ThreadPoolExecutor(4) as senders:
        replies = list(senders.map(lambda seed: ask(vllm, 24, seed=seed), range(4)))
    assert max(reply.times[0] for reply in replies) < min(reply.times[-1] for reply in replies)


def test_torch_serves_random_weights_and_ends_in_the_middle_of_an_answer(
    model: Model, tmp_path: Path
) -> None:
    dummy = replace(model, weights="dummy", max_length=4096)
    with ExitStack() as kept:
        with Server(engine("torch"), {}, dummy, log=tmp_path / "server.log") as server:
            assert ask(server, 12).usage["completion_tokens"] == 12
            url = f"{server.url}/v1/chat/completions"
            response = kept.enter_context(httpx.stream("POST", url, json=body(3000), timeout=60))
            assert next(response.iter_lines()).startswith("data: ")
        assert_gone(server)


def test_vllm_s_space_holds_what_the_installed_release_lists() -> None:
    host, subject = this_host(), engine("vllm")
    space = subject.space(host)
    assert {"max-num-seqs", "max-num-batched-tokens", "enforce-eager", "kv-cache-dtype"} <= set(space.names)
    assert "(release)" not in space.left_out
    assert not [why for why in space.left_out.values() if "does not list" in why and host.kind == "cpu"]
    assert space.canonical(space.filled({})) == {}


def crash_of(config: Config, model: Model, log: Path) -> ServerCrashed:
    with pytest.raises(ServerCrashed) as crashed, Server(engine("vllm"), config, model, log=log) as server:
        pytest.fail(f"{server.url} started")
    return crashed.value


def test_a_choice_that_vllm_does_not_know_is_an_unsupported_flag(model: Model, tmp_path: Path) -> None:
    crash = crash_of({"kv-cache-dtype": "nonsense"}, model, tmp_path / "server.log")
    assert crash.crash is CrashClass.UNSUPPORTED_FLAG
    assert "kv-cache-dtype" in crash.detail + crash.tail


def test_a_flag_that_vllm_does_not_know_costs_no_start(model: Model, tmp_path: Path) -> None:
    with (
        pytest.raises(UnsupportedFlag, match="--max-num-seq; did you mean --max-num-seqs"),
        Server(engine("vllm"), {"max-num-seq": 4}, model, log=tmp_path / "server.log"),
    ):
        pytest.fail("it started")
    assert not (tmp_path / "server.log").exists()


def test_a_warm_vllm_is_the_cold_one_but_sooner(
    vllm: Server, model: Model, tmp_path: Path, interpreters: Interpreters
) -> None:
    interpreter = interpreters.prepare(vllm.engine, model, devices=(0,), run_id="", folder=tmp_path)
    assert interpreter is not None, "its imports were found unfit"
    assert interpreter.wait_warm(300), "the imports failed, or touched a GPU"
    assert interpreter.pid not in compute_processes(this_host().devices)
    log = tmp_path / "warm.log"
    launched = time.time()
    with Server(vllm.engine, vllm.config, model, log=log, interpreters=interpreters) as warm:
        interpreters.close()
        assert warm.warm and not vllm.warm
        assert ask(warm, 48).text == ask(vllm, 48).text
        assert non_default(warm) == non_default(vllm)
    assert_gone(warm)
    assert vllm.pid is not None
    cold_imports = parsed(vllm) - psutil.Process(vllm.pid).create_time()
    assert parsed(warm) - launched < cold_imports


def parsed(server: Server) -> float:
    """When (seconds of the clock, to the second below) vLLM had imported itself and read its arguments."""
    (line,) = [line for line in server.log.read_text().splitlines() if "non-default args" in line]
    (said,) = re.findall(r" (\d\d-\d\d \d\d:\d\d:\d\d) ", line)
    return time.mktime(time.strptime(f"{time.localtime().tm_year}-{said}", "%Y-%m-%d %H:%M:%S"))


def non_default(server: Server) -> str:
    """The line in which vLLM says which of its arguments are not the default, less the port."""
    (line,) = [line for line in server.log.read_text().splitlines() if "non-default args" in line]
    return line.partition("non-default args")[2].replace(str(server.port), "PORT")
