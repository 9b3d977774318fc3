"""Where text comes from, told by the real reference: stored answers over HTTP, right ones and others."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncGenerator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import pytest

from engines.contract import Model
from engines.reference import greedy
from scenarios import tokenizer
from scenarios.kept import FILE, authenticate
from scenarios.models import digest, fetch, open_model
from scenarios.scenario import Plan
from scenarios.score import score
from scenarios.tokenizer import Tokenizer
from scenarios.workload import build
from tests.redteam.test_redteam import PROFILE
from tests.scenarios.mock_server import DONE, Body, MockServer, delta, usage

pytestmark = [pytest.mark.engine, pytest.mark.slow, pytest.mark.timeout(900)]

SEED, LENGTH = 77, 24
PACE = 0.04

Stored = Mapping[str, Sequence[int]]


@pytest.fixture(scope="module")
def model() -> Model:
    return open_model(fetch("smollm2-135m", print), max_length=2048)


@pytest.fixture(scope="module")
def own(model: Model) -> dict[str, tuple[int, ...]]:
    """The model's own answer to each scored prompt."""
    words = tokenizer.load(model.path)
    texts = [request.prompt for request in build(Plan("D", PROFILE, SEED), model).requests]
    prompts = [words.chat_ids([{"role": "user", "content": text}]) for text in texts]
    answers = greedy(model.path, digest(model.path), prompts, LENGTH)
    return dict(zip(texts, answers, strict=True))


@dataclass(frozen=True)
class Replay:
    """Answers from a store at an even pace; what is not in it gets any answer."""

    words: Tokenizer
    stored: Stored

    async def __call__(self, body: Body) -> AsyncGenerator[bytes, None]:
        text = body["messages"][0]["content"]
        answer = [*self.stored.get(text, next(iter(self.stored.values())))]
        answer = (answer * LENGTH)[: body["max_tokens"]]
        await asyncio.sleep(8 * PACE)
        for token in answer:
            yield delta(self.words.decode([token]))
            await asyncio.sleep(PACE)
        yield delta("", "length")
        yield usage(self.words.chat_tokens([{"role": "user", "content": text}]), len(answer))
        yield DONE


def served(stored: Stored, model: Model, out: Path) -> Path:
    """Rows from behind a server that says it is simulated: nothing else about this machine matters then."""
    answer = Replay(tokenizer.load(model.path), stored)
    with MockServer(answer=answer, models=[model.name], owner="simulated") as server:
        run = score(server.url, "D", profile=PROFILE, seed=SEED, model=model, out=out)
    assert run.valid, run.invalid_reasons
    kept = out / run.id / FILE
    kept.write_text(json.dumps({**json.loads(kept.read_text()), "mark": None}))
    return out / run.id


def test_the_models_own_answers_are_its_own_and_those_to_other_prompts_are_not(
    own: dict[str, tuple[int, ...]], model: Model, tmp_path: Path
) -> None:
    answers = [*own.values()]
    turned = dict(zip(own, [*answers[5:], *answers[:5]], strict=True))
    right, wrong = authenticate([served(stored, model, tmp_path) for stored in (own, turned)], model)
    assert right.valid, right.invalid_reasons
    assert right.text is not None
    assert right.text["verdict"] == "from the model"
    assert right.text["agreement"] > 0.95
    assert [reason.code for reason in wrong.invalid_reasons] == ["text-not-from-model"]
    assert wrong.score is None
