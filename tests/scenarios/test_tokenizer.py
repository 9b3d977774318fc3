"""The tokenizer counts as a chat server does, and shares a streamed text's tokens out among its chunks."""

from __future__ import annotations

import json
import random
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from scenarios.tokenizer import Tokenizer, TokenizerError, load
from tests.tiny_model import make_tiny_model

HELLO = [{"role": "user", "content": "The harbour was quiet."}]


@pytest.fixture(scope="module")
def directory(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_tiny_model(tmp_path_factory.mktemp("models") / "tiny")


@pytest.fixture(scope="module")
def words(directory: Path) -> Tokenizer:
    return Tokenizer.load(directory)


@pytest.fixture
def template(tmp_path: Path) -> object:
    """A tokenizer with another chat template."""

    def make(text: str, **settings: object) -> Tokenizer:
        path = make_tiny_model(tmp_path / "other")
        file = path / "tokenizer_config.json"
        config = json.loads(file.read_text())
        file.write_text(json.dumps({**config, "chat_template": text, **settings}))
        return Tokenizer.load(path)

    return make


@pytest.mark.parametrize("text", ["A farmer who keeps", " café 東京 😀\n\n", "1,250", ""])
def test_text_comes_back_unchanged(words: Tokenizer, text: str) -> None:
    assert words.decode(words.encode(text)) == text
    assert words.count(text) == len(words.encode(text))
    assert words.encode_all([text, "x"])[0] == words.encode(text)


def test_the_chat_prompt_is_the_templates(words: Tokenizer) -> None:
    assert words.chat(HELLO) == "<|im_start|>user\nThe harbour was quiet.<|im_end|>\n<|im_start|>assistant\n"
    assert words.chat_tokens(HELLO) == words.count(words.chat(HELLO))


def test_special_tokens_are_single_tokens(words: Tokenizer) -> None:
    assert words.encode("<|im_start|>") == [1]
    assert words.decode([1]) == ""


def test_a_template_may_use_the_usual_globals(template: object) -> None:
    words = template(  # type: ignore[operator]
        "{{ bos_token }}{% for m in messages %}{% if m.role == 'system' %}{% continue %}{% endif %}"
        "{% generation %}{{ m.content | trim }}{% endgeneration %}{% endfor %}"
        "{{ strftime_now('%Y') | length }}{{ {'a': 'é<'} | tojson }}{{ eos_token }}"
    )
    messages = [{"role": "system", "content": "no"}, {"role": "user", "content": " yes "}]
    assert words.chat(messages) == '<|im_start|>yes4{"a": "é<"}<|im_end|>'


def test_a_template_that_refuses_says_so(template: object) -> None:
    words = template("{{ raise_exception('roles must alternate') }}")  # type: ignore[operator]
    with pytest.raises(TokenizerError, match="roles must alternate"):
        words.chat(HELLO)


@pytest.mark.parametrize(
    "text", ["{% for %}", "{{ messages[0].__class__.__mro__ }}", "{{ 1 / no }}", "{{ 1 + 'a' }}"]
)
def test_a_bad_template_is_one_line(template: object, text: str) -> None:
    with pytest.raises(TokenizerError, match="chat template"):
        template(text).chat(HELLO)  # type: ignore[operator]


def test_a_template_file_wins_over_the_configs(directory: Path, tmp_path: Path) -> None:
    path = make_tiny_model(tmp_path / "file")
    (path / "chat_template.jinja").write_text("{{ messages[0].content }}!")
    assert Tokenizer.load(path).chat(HELLO) == "The harbour was quiet.!"


def test_named_templates_use_the_default_one(template: object) -> None:
    several = [{"name": "tool_use", "template": "tool"}, {"name": "default", "template": "plain"}]
    words = template("", chat_template=several)  # type: ignore[operator]
    assert words.chat(HELLO) == "plain"


def test_special_tokens_may_be_objects(template: object) -> None:
    words = template("{{ bos_token }}", bos_token={"content": "<|endoftext|>"})  # type: ignore[operator]
    assert words.chat(HELLO) == "<|endoftext|>"


def test_without_a_template_the_text_stands_alone(tmp_path: Path) -> None:
    path = make_tiny_model(tmp_path / "base")
    (path / "tokenizer_config.json").unlink()
    assert Tokenizer.load(path).chat(HELLO) == "The harbour was quiet."


def test_what_is_missing_or_broken_is_named(tmp_path: Path) -> None:
    with pytest.raises(TokenizerError, match=r"has no tokenizer\.json"):
        Tokenizer.load(tmp_path)
    (tmp_path / "tokenizer.json").write_text("{}")
    with pytest.raises(TokenizerError, match=r"tokenizer\.json does not read"):
        Tokenizer.load(tmp_path)


def test_a_loaded_tokenizer_is_kept(directory: Path) -> None:
    assert load(directory) is load(directory)


def test_words_start_with_a_space(words: Tokenizer) -> None:
    flags = words.word_starts()
    assert flags[words.encode(" the")[0]]
    assert not flags[words.encode("the")[0]]


def test_a_token_belongs_to_the_chunk_that_completes_it(words: Tokenizer) -> None:
    assert words.count(" harbour") == 1
    assert words.chunk_tokens([" har", "bour", " harbour", ""]) == [0, 1, 1, 0]


def test_no_chunks_have_no_tokens(words: Tokenizer) -> None:
    assert words.chunk_tokens([]) == []
    assert words.chunk_tokens(["", ""]) == [0, 0]


def test_a_character_of_many_tokens_stays_in_its_chunk(words: Tokenizer) -> None:
    many = words.count("😀")
    assert many > 1
    assert words.chunk_tokens(["a", "😀", "b"]) == [1, many, 1]


def test_a_replacement_character_counts_as_text(words: Tokenizer) -> None:
    chunks = ["The \ufffd", "\ufffd harbour"]
    assert sum(words.chunk_tokens(chunks)) == words.count("".join(chunks))


@settings(max_examples=200, deadline=None)
@given(text=st.text(max_size=80), seed=st.integers(0, 2**32))
def test_chunks_add_up_whatever_the_text_and_the_cuts(words: Tokenizer, text: str, seed: int) -> None:
    draw = random.Random(seed)
    cuts = sorted(draw.randint(0, len(text)) for _ in range(draw.randint(0, 12)))
    chunks = [text[a:b] for a, b in zip([0, *cuts], [*cuts, len(text)], strict=True)]
    counts = words.chunk_tokens(chunks)
    assert len(counts) == len(chunks)
    assert min(counts) >= 0
    assert sum(counts) == words.count(text)
