"""Any body whatever is either a request that can be answered or refused with a status."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import settings as examples
from hypothesis import strategies as st
from tokenizers import Tokenizer

from engines.simulated.chat import BadRequest, Template
from engines.simulated.intake import Intake, Prompt
from engines.simulated.text import Lexicon
from tests.tiny_model import TEMPLATE, make_tiny_model

WORDS = (
    "model",
    "messages",
    "max_tokens",
    "min_tokens",
    "temperature",
    "seed",
    "stream",
    "stream_options",
    "n",
)
GOOD: dict[str, Any] = {"model": "tiny", "messages": [{"role": "user", "content": "hello"}], "max_tokens": 5}

anything = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(st.characters(), max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(WORDS), inner, max_size=3),
    max_leaves=6,
)


def intake_of(directory: Path) -> Intake:
    tokenizer = Tokenizer.from_file(str(directory / "tokenizer.json"))
    return Intake("tiny", tokenizer, Template(directory), Lexicon.build(tokenizer), 512)


@pytest.fixture(scope="module")
def intake(tmp_path_factory: pytest.TempPathFactory) -> Intake:
    return intake_of(make_tiny_model(tmp_path_factory.mktemp("tiny")))


def read(intake: Intake, body: bytes) -> Prompt | BadRequest:
    try:
        return intake.read(body)
    except BadRequest as error:
        return error


@examples(deadline=None)
@given(changes=st.dictionaries(st.sampled_from(WORDS), anything, max_size=4))
def test_any_json_is_read_or_refused(intake: Intake, changes: dict[str, Any]) -> None:
    outcome = read(intake, json.dumps({**GOOD, **changes}).encode())
    if isinstance(outcome, BadRequest):
        assert outcome.status in (400, 404)
        json.dumps(outcome.body()).encode()
        return
    answer = intake.answer(outcome, 0.0, lambda _: None, lambda: None)
    assert 1 <= answer.target <= 512 - len(answer.prompt)
    answer.emit(answer.target, 0.0)
    assert answer.done


@examples(deadline=None)
@given(body=st.binary(max_size=60))
def test_any_bytes_are_refused(intake: Intake, body: bytes) -> None:
    assert isinstance(read(intake, body), BadRequest)


@pytest.mark.parametrize(
    ("body", "message"),
    [
        (b"[" * 200_000, "not JSON"),
        (b'{"model": "tiny", "messages": [{"role": "user", "content": "\\ud800"}]}', "lone surrogates"),
        (b'{"model": "tiny", "messages": [{"role": "user"}]}', "content must be text"),
        (b'{"messages": [{"role": "user", "content": "x"}], "temperature": NaN}', "temperature"),
        (b'{"messages": [{"role": "user", "content": "x"}], "stop": ["."]}', "stop is not supported"),
    ],
)
def test_bodies_that_break_parsers(body: bytes, message: str, intake: Intake) -> None:
    outcome = read(intake, body)
    assert isinstance(outcome, BadRequest)
    assert message in str(outcome)


def test_only_a_free_answer_ends_by_itself(intake: Intake) -> None:
    forced, free = (
        [
            intake.answer(outcome, 0.0, lambda _: None, lambda: None)
            for number in range(30)
            if isinstance(outcome := read(intake, numbered(number, ignore_eos)), Prompt)
        ]
        for ignore_eos in (True, False)
    )
    assert {(answer.target, answer.finish) for answer in forced} == {(250, "length")}
    assert {answer.finish for answer in free} == {"length", "stop"}
    assert len({answer.target for answer in free}) > 15


def numbered(number: int, ignore_eos: bool) -> bytes:
    messages = [{"role": "user", "content": f"Letter {number}"}]
    return json.dumps(
        {"messages": messages, "max_tokens": 250, "temperature": 0, "ignore_eos": ignore_eos}
    ).encode()


def test_content_may_come_in_parts(intake: Intake) -> None:
    parts = [{"type": "text", "text": "hel"}, {"type": "text", "text": "lo"}]
    whole, split = (
        read(intake, json.dumps({**GOOD, "messages": [{"role": "user", "content": content}]}).encode())
        for content in ("hello", parts)
    )
    assert isinstance(whole, Prompt)
    assert whole.tokens == split.tokens  # type: ignore[union-attr]


@pytest.mark.parametrize("where", ["file", "list", "none"])
def test_templates_are_found_wherever_they_are(where: str, intake: Intake, tmp_path: Path) -> None:
    directory = make_tiny_model(tmp_path / where)
    config = directory / "tokenizer_config.json"
    settings = json.loads(config.read_text())
    template = settings.pop("chat_template")
    assert template == TEMPLATE
    if where == "file":
        (directory / "chat_template.jinja").write_text(template)
    elif where == "list":
        settings["chat_template"] = [{"name": "default", "template": template}]
    config.write_text(json.dumps(settings))
    outcome, usual = (read(each, json.dumps(GOOD).encode()) for each in (intake_of(directory), intake))
    if where == "none":
        assert isinstance(outcome, BadRequest)
        assert "no chat template" in str(outcome)
    else:
        assert outcome == usual
