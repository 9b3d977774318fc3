"""A vLLM server that a warm interpreter became is the one that a cold start gives, and starts sooner."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from engines.contract import Config, Model
from engines.host import compute_processes, this_host
from engines.ports import is_free
from engines.registry import engine
from engines.server import Server
from engines.warm import Interpreters
from scenarios.models import fetch

pytestmark = [pytest.mark.engine, pytest.mark.timeout(900)]

PROMPTS = (
    "Tell the story of a ship that crossed the northern sea in winter.",
    "Why is the sky blue? Explain it to a child.",
    "Name the planets and say one thing of each.",
)

CONFIG: Config = {"enforce-eager": True, "max-num-seqs": 16}


@pytest.fixture(scope="session")
def model() -> Model:
    return Model(fetch("smollm2-135m", print), "smollm2-135m", max_length=2048)


@pytest.fixture
def kept() -> Iterator[Interpreters]:
    made = Interpreters()
    yield made
    made.close()


def greedy(server: Server) -> list[str]:
    """What it answers to each prompt, alone and greedily."""
    answers = []
    for prompt in PROMPTS:
        request = {
            **{"model": "smollm2-135m", "messages": [{"role": "user", "content": prompt}]},
            **{"max_tokens": 48, "min_tokens": 48, "ignore_eos": True, "temperature": 0, "seed": 7},
        }
        answer = httpx.post(f"{server.url}/v1/chat/completions", json=request, timeout=120).json()
        assert answer["usage"]["completion_tokens"] == 48
        answers.append(answer["choices"][0]["message"]["content"])
    return answers


def non_default(server: Server) -> str:
    """The line in which vLLM says which of its arguments are not the default, less the port."""
    (line,) = [line for line in server.log.read_text().splitlines() if "non-default args" in line]
    return line.partition("non-default args")[2].replace(str(server.port), "PORT")


def test_warm_is_cold_but_sooner(model: Model, tmp_path: Path, kept: Interpreters) -> None:
    subject, devices = engine("vllm"), this_host().devices
    with Server(subject, CONFIG, model, log=tmp_path / "cold.log") as cold:
        assert not cold.warm
        expected, arguments = greedy(cold), non_default(cold)
    interpreter = kept.prepare(subject, model, devices=(0,), run_id="", folder=tmp_path)
    assert interpreter is not None
    assert interpreter.wait_warm(300), "the imports failed, or touched a GPU"
    assert interpreter.pid not in compute_processes(devices)
    with Server(subject, CONFIG, model, log=tmp_path / "warm.log", interpreters=kept) as warm:
        kept.close()
        assert warm.warm
        assert greedy(warm) == expected
        assert non_default(warm) == arguments
    assert is_free(warm.port)
    print(f"cold start {cold.seconds['start']:.1f} s, warm {warm.seconds['start']:.1f} s")
    assert warm.seconds["start"] < cold.seconds["start"]
