"""A model's own tokenizer and chat template, without its framework."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from datetime import datetime
from functools import cached_property, lru_cache
from pathlib import Path
from typing import Any, NoReturn, Self

import jinja2
import numpy as np
import numpy.typing as npt
import tokenizers
from jinja2 import nodes
from jinja2.ext import Extension, loopcontrols
from jinja2.parser import Parser
from jinja2.sandbox import ImmutableSandboxedEnvironment


class TokenizerError(Exception):
    """A tokenizer or chat template cannot be read or applied. The message is one line that names the fix."""


_TEMPLATE_FAILS = (jinja2.TemplateError, TypeError, ValueError, ArithmeticError, LookupError, AttributeError)
_SPACES = ("\u0120", "\u2581")

Message = Mapping[str, str]
"""`role` and `content`, as /v1/chat/completions takes them."""


class Tokenizer:
    """Text to token ids and back, and messages to the text that a chat server feeds to its model."""

    def __init__(
        self,
        backend: tokenizers.Tokenizer,
        template: str | None = None,
        special: Mapping[str, str] | None = None,
        digest: str = "",
    ) -> None:
        self._backend = backend
        self._template = template
        self._special = dict(special or {})
        self.digest = digest
        """sha256 of tokenizer.json."""

    @classmethod
    def load(cls, path: Path | str) -> Self:
        """The tokenizer of a model directory. Raises TokenizerError."""
        directory = Path(path)
        file = directory / "tokenizer.json"
        if not file.is_file():
            raise TokenizerError(
                f"{path} has no tokenizer.json: copy the model's tokenizer files (tokenizer.json, "
                "tokenizer_config.json) into it"
            )
        data = file.read_bytes()
        try:
            backend = tokenizers.Tokenizer.from_buffer(data)
        except Exception as error:  # the library raises bare Exception
            raise TokenizerError(f"{file} does not read ({error}): copy it from the model again") from error
        backend.no_truncation()
        backend.no_padding()
        config = _json(directory / "tokenizer_config.json")
        special = {**_named(_json(directory / "special_tokens_map.json")), **_named(config)}
        return cls(backend, _template(directory, config), special, hashlib.sha256(data).hexdigest())

    def encode(self, text: str) -> list[int]:
        """Token ids of plain text; nothing is added, special tokens spelt in it count as such."""
        ids: list[int] = self._backend.encode(text, add_special_tokens=False).ids
        return ids

    def encode_all(self, texts: Sequence[str]) -> list[list[int]]:
        """`encode` of many texts on all cores."""
        encodings = self._backend.encode_batch_fast(list(texts), add_special_tokens=False)
        return [encoding.ids for encoding in encodings]

    def decode(self, ids: Sequence[int]) -> str:
        """Text of token ids, special tokens left out."""
        text: str = self._backend.decode(list(ids), skip_special_tokens=True)
        return text

    def count(self, text: str) -> int:
        """Tokens of plain text."""
        return len(self.encode(text))

    def word_starts(self) -> npt.NDArray[np.bool_]:
        """Per token id, whether it begins with a space (byte-level or sentencepiece) and shows something.

        All if none does.
        """
        vocabulary = self._backend.get_vocab()
        flags = np.zeros(1 + max(vocabulary.values()), dtype=bool)
        for token, index in vocabulary.items():
            if token.startswith(_SPACES) and len(token) > 1:
                flags[index] = bool(self.decode([index]).strip("\ufffd \n\t\r"))
        return flags if flags.any() else ~flags

    def offsets(self, text: str) -> tuple[list[int], list[tuple[int, int]]]:
        """Token ids of plain text and the characters [start, end) that each covers."""
        encoding = self._backend.encode(text, add_special_tokens=False)
        return encoding.ids, encoding.offsets

    def chat(self, messages: Sequence[Message]) -> str:
        """The text that the chat template makes of `messages`, ready for the answer.

        Without a template: the contents, joined by newlines. Raises TokenizerError where the template
        refuses them.
        """
        if self._template is None:
            return "\n".join(message["content"] for message in messages)
        try:
            return self._compiled.render(
                messages=list(messages),
                add_generation_prompt=True,
                tools=None,
                documents=None,
                **self._special,
            )
        except _TEMPLATE_FAILS as error:
            raise TokenizerError(
                f"the chat template fails ({error}): mend it in tokenizer_config.json"
            ) from error

    def chat_ids(self, messages: Sequence[Message]) -> list[int]:
        """Token ids that a chat server makes of `messages`, ready for the answer."""
        ids: list[int] = self._backend.encode(
            self.chat(messages), add_special_tokens=self._template is None
        ).ids
        return ids

    def chat_tokens(self, messages: Sequence[Message]) -> int:
        """Tokens that a chat server counts as the prompt of `messages`."""
        return len(self.chat_ids(messages))

    def chunk_tokens(self, chunks: Sequence[str]) -> list[int]:
        """Tokens of a streamed text, by chunk: a token belongs to the chunk that completes it.

        The text is tokenised whole (a chunk's own count would cut words in two), and tokens go by character
        offsets. They sum to `count("".join(chunks))`; an empty chunk has none.
        """
        text = "".join(chunks)
        ids, spans = self.offsets(text)
        if not ids:
            return [0] * len(chunks)
        ends = np.cumsum([len(chunk) for chunk in chunks])
        # Tokens of one multi-byte character share its span; the maximum keeps the order where spans are odd.
        last = np.maximum.accumulate([max(end, 1) for _, end in spans])
        owners = np.minimum(np.searchsorted(ends, last, side="left"), len(chunks) - 1)
        counts: list[int] = np.bincount(owners, minlength=len(chunks)).tolist()
        return counts

    @cached_property
    def _compiled(self) -> jinja2.Template:
        environment = ImmutableSandboxedEnvironment(
            trim_blocks=True, lstrip_blocks=True, extensions=[loopcontrols, _Generation]
        )
        environment.globals.update(raise_exception=_refuse, strftime_now=_now)
        environment.filters["tojson"] = _tojson
        try:
            return environment.from_string(self._template or "")
        except jinja2.TemplateError as error:
            raise TokenizerError(
                f"the chat template does not compile ({error}): mend it in tokenizer_config.json"
            ) from error


class _Generation(Extension):
    """`{% generation %}` marks an answer for training; for a prompt it is its content."""

    tags = {"generation"}  # noqa: RUF012

    def parse(self, parser: Parser) -> list[nodes.Node]:
        next(parser.stream)
        return parser.parse_statements(("name:endgeneration",), drop_needle=True)


@lru_cache(maxsize=4)
def load(path: Path) -> Tokenizer:
    """`Tokenizer.load`, kept for the process."""
    return Tokenizer.load(path)


def _json(path: Path) -> dict[str, Any]:
    if not path.is_file():
        return {}
    try:
        data = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise TokenizerError(f"{path} is not JSON ({error}): copy it from the model again") from error
    return data if isinstance(data, dict) else {}


def _named(config: Mapping[str, Any]) -> dict[str, str]:
    named = {}
    for key, value in config.items():
        token = value.get("content") if isinstance(value, dict) else value
        if key.endswith("_token") and isinstance(token, str):
            named[key] = token
    return named


def _template(directory: Path, config: Mapping[str, Any]) -> str | None:
    file = directory / "chat_template.jinja"
    if file.is_file():
        return file.read_text(encoding="utf-8")
    template = config.get("chat_template")
    if isinstance(template, list):
        by_name = {entry["name"]: entry["template"] for entry in template}
        template = by_name.get("default", next(iter(by_name.values()), None))
    return template if isinstance(template, str) else None


def _refuse(message: str) -> NoReturn:
    raise jinja2.TemplateError(message)


def _now(pattern: str) -> str:
    return datetime.now().strftime(pattern)


def _tojson(
    value: Any, ensure_ascii: bool = False, indent: int | None = None, sort_keys: bool = False
) -> str:
    return json.dumps(value, ensure_ascii=ensure_ascii, indent=indent, sort_keys=sort_keys)
