"""The naive PyTorch server's own parts, those that need no PyTorch: requests, and text from tokens."""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tokenizers import Tokenizer

from engines import torch_server
from engines.torch_server import UNFINISHED, Answer, Ask, BadRequest, Detokenizer
from tests.tiny_model import make_tiny_model

MESSAGES = [{"role": "user", "content": "hello"}]


@pytest.fixture(scope="module")
def tokenizer(tmp_path_factory: pytest.TempPathFactory) -> Tokenizer:
    folder = make_tiny_model(tmp_path_factory.mktemp("model") / "tiny")
    return Tokenizer.from_file(str(folder / "tokenizer.json"))


def pieces(tokenizer: Tokenizer, ids: list[int]) -> list[str]:
    """What a client gets, token by token, and the rest."""
    detokenizer = Detokenizer(tokenizer.decode)
    return [*map(detokenizer.push, ids), detokenizer.rest()]


@given(text=st.text(min_size=1, max_size=60))
def test_pieces_join_to_the_whole_text(tokenizer: Tokenizer, text: str) -> None:
    ids = tokenizer.encode(text).ids
    assert "".join(pieces(tokenizer, ids)) == tokenizer.decode(ids)


def test_a_character_of_several_tokens_comes_in_one_piece(tokenizer: Tokenizer) -> None:
    ids = tokenizer.encode("a 😀 b").ids
    assert len(ids) > 6
    streamed = pieces(tokenizer, ids)
    assert "😀" in "".join(streamed)
    assert not [piece for piece in streamed if UNFINISHED in piece]


def test_a_cut_character_comes_at_the_end_and_not_before(tokenizer: Tokenizer) -> None:
    ids = tokenizer.encode("ships 😀").ids[:-1]
    streamed = pieces(tokenizer, ids)
    assert not [piece for piece in streamed[:-1] if UNFINISHED in piece]
    assert streamed[-1].endswith(UNFINISHED)


def test_each_token_decodes_a_short_window(tokenizer: Tokenizer) -> None:
    lengths: list[int] = []

    def decode(ids: list[int]) -> str:
        lengths.append(len(ids))
        return str(tokenizer.decode(ids))

    detokenizer = Detokenizer(decode)
    for token in tokenizer.encode("The harbour was quiet in the morning. " * 40).ids:
        detokenizer.push(token)
    assert max(lengths) <= 4


def test_a_request_is_read_as_asked() -> None:
    ask = Ask.parse(
        {
            "messages": [{"role": "user", "content": [{"type": "text", "text": "hel"}, {"text": "lo"}]}],
            **{"max_tokens": 8, "min_tokens": 8, "ignore_eos": True, "temperature": 0, "seed": 3},
            **{"stream": True, "stream_options": {"include_usage": True}, "model": "any"},
        }
    )
    assert ask == Ask(MESSAGES, 8, 8, True, 0.0, 1.0, 3, True, True)


def test_what_a_request_leaves_out_has_the_api_s_defaults() -> None:
    ask = Ask.parse({"messages": MESSAGES, "stream_options": None, "min_tokens": None})
    assert ask == Ask(MESSAGES, None, 0, False, 1.0, 1.0, None, False, False)
    assert Ask.parse({"messages": MESSAGES, "max_completion_tokens": 4, "max_tokens": 9}).max_tokens == 4


@pytest.mark.parametrize(
    ("body", "message"),
    [
        ([], "messages: a non-empty list is needed"),
        ({"messages": []}, "messages: a non-empty list is needed"),
        ({"messages": ["hello"]}, "not a chat completion request"),
        ({"messages": [{"role": "user"}]}, "not a chat completion request"),
        ({"messages": MESSAGES, "max_tokens": "many"}, "not a chat completion request"),
        ({"messages": MESSAGES, "stream_options": 3}, "not a chat completion request"),
        ({"messages": MESSAGES, "max_tokens": 0}, "max_tokens=0 must be at least 1"),
        ({"messages": MESSAGES, "max_tokens": 4, "min_tokens": 5}, "min_tokens=5 must lie within 0 and"),
        ({"messages": MESSAGES, "n": 2}, "n: only 1 is supported"),
    ],
)
def test_a_wrong_request_says_what_is_wrong(body: Any, message: str) -> None:
    with pytest.raises(BadRequest, match=message):
        Ask.parse(body)


def test_a_failed_generation_ends_the_stream_without_an_end() -> None:
    events = list(Answer("m", 3).closing("error", "RuntimeError: boom", include_usage=True))
    assert len(events) == 1
    assert "RuntimeError: boom" in events[0]
    assert "[DONE]" not in events[0]


def test_it_imports_nothing_of_ours_and_nothing_heavy_before_it_must() -> None:
    tree = ast.parse(Path(torch_server.__file__).read_text())
    ours = {"engines", "scenarios", "search", "agents", "studies"}
    imported = {
        name.split(".")[0]
        for node in ast.walk(tree)
        for name in (
            [alias.name for alias in node.names]
            if isinstance(node, ast.Import)
            else [node.module or ""]
            if isinstance(node, ast.ImportFrom)
            else []
        )
    }
    assert not imported & ours
    assert imported - set(sys.stdlib_module_names) == {"torch", "transformers", "fastapi", "uvicorn"}
    shown = subprocess.run(
        [sys.executable, torch_server.__file__, "--help"],
        capture_output=True,
        text=True,
        check=True,
        timeout=30,
    )
    assert "--dummy-weights" in shown.stdout
