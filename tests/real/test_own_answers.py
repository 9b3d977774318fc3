"""The reference model's own answers are the same alone and in a batch of padded prompts."""

from __future__ import annotations

import uuid

import pytest

from engines.contract import Model
from engines.reference import greedy
from scenarios import tokenizer
from scenarios.models import fetch, open_model

pytestmark = [pytest.mark.engine, pytest.mark.timeout(300)]

QUESTIONS = (
    "What is the capital of France?",
    "Name three birds that cannot fly, and say of each where it lives.",
    "Why?",
    "Tell me in two sentences how bread is made, from the field to the table, and who makes it.",
)


@pytest.fixture(scope="module")
def model() -> Model:
    return open_model(fetch("smollm2-135m", print), max_length=512)


def test_padding_changes_no_answer(model: Model) -> None:
    words = tokenizer.load(model.path)
    prompts = [words.chat_ids([{"role": "user", "content": one}]) for one in QUESTIONS]
    assert len({len(prompt) for prompt in prompts}) > 2
    never_kept = uuid.uuid4().hex
    together = greedy(model.path, never_kept, prompts, 12)
    assert len(set(together)) == len(QUESTIONS)
    assert greedy(model.path, never_kept, prompts[2:3], 12) == together[2:3]
