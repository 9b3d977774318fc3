"""Chat requests: what a body may ask for, and the text that the model's chat template makes of it."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from jinja2.exceptions import TemplateError
from jinja2.sandbox import ImmutableSandboxedEnvironment


class BadRequest(Exception):
    """A request is refused. Attributes: `status`, `kind` (the error's type) and the message."""

    def __init__(self, message: str, status: int = 400, kind: str = "BadRequestError") -> None:
        super().__init__(message)
        self.status = status
        self.kind = kind

    def body(self) -> dict[str, Any]:
        """The error as OpenAI-compatible servers answer it."""
        return {"error": {"message": str(self), "type": self.kind, "param": None, "code": self.status}}


@dataclass(frozen=True)
class ChatRequest:
    """A valid request body.

    Attributes:
        messages: role and content of each.
        max_tokens: None for as many as the context allows.
        seed: None for none given.
    """

    messages: tuple[dict[str, str], ...]
    max_tokens: int | None = None
    min_tokens: int = 0
    ignore_eos: bool = False
    temperature: float = 1.0
    seed: int | None = None
    stream: bool = False
    usage: bool = False


def parse_chat(body: bytes, served: str) -> ChatRequest:
    """Read a request body. Raises BadRequest: 404 for an unknown model, 400 for everything else."""
    try:
        data = json.loads(body)
    except (ValueError, RecursionError) as error:
        raise BadRequest(f"the body is not JSON: {error}") from error
    if not isinstance(data, dict):
        raise BadRequest("the body is not a JSON object")
    if data.get("model", served) != served:
        raise BadRequest(f"The model `{data['model']}` does not exist.", 404, "NotFoundError")
    _refuse(data)
    stream = _typed(data, "stream", bool, False)
    longest = _typed(data, "max_completion_tokens", int, None) or _typed(data, "max_tokens", int, None)
    shortest = _typed(data, "min_tokens", int, 0)
    if (longest is not None and longest < 1) or shortest < 0 or shortest > (longest or shortest):
        raise BadRequest("max_tokens must be at least 1, and min_tokens at most max_tokens")
    return ChatRequest(
        messages=_messages(data.get("messages")),
        max_tokens=longest,
        min_tokens=shortest,
        ignore_eos=_typed(data, "ignore_eos", bool, False),
        temperature=_temperature(data),
        seed=_typed(data, "seed", int, None),
        stream=stream,
        usage=_usage(data, stream),
    )


class Template:
    """A model directory's chat template.

    It is rendered in jinja's sandbox with the settings that transformers uses.
    """

    def __init__(self, directory: Path) -> None:
        settings = _read(directory / "tokenizer_config.json")
        apart = directory / "chat_template.jinja"
        source = apart.read_text(encoding="utf-8") if apart.exists() else settings.get("chat_template")
        if isinstance(source, list):
            source = {entry["name"]: entry["template"] for entry in source}.get("default")
        environment = ImmutableSandboxedEnvironment(
            trim_blocks=True, lstrip_blocks=True, extensions=["jinja2.ext.loopcontrols"]
        )
        environment.globals["raise_exception"] = _raise
        self._template = environment.from_string(source) if source else None
        self._special = {
            name: value["content"] if isinstance(value, dict) else value
            for name, value in settings.items()
            if name in ("bos_token", "eos_token", "pad_token", "unk_token")
        }

    def render(self, messages: tuple[dict[str, str], ...]) -> str:
        """The prompt with the answer's opening. Raises BadRequest."""
        if self._template is None:
            raise BadRequest("the model has no chat template")
        try:
            return self._template.render(messages=list(messages), add_generation_prompt=True, **self._special)
        except TemplateError as error:
            raise BadRequest(f"the chat template refuses these messages: {error}") from error


def _refuse(data: Mapping[str, Any]) -> None:
    """What this server does not do is refused rather than passed over."""
    if data.get("n", 1) != 1:
        raise BadRequest("n: only 1 is supported")
    for name in ("logprobs", "top_logprobs", "stop", "tools", "response_format", "logit_bias"):
        if data.get(name):
            raise BadRequest(f"{name} is not supported by the simulated engine")


def _messages(messages: Any) -> tuple[dict[str, str], ...]:
    if not isinstance(messages, list) or not messages:
        raise BadRequest("messages must be a list of at least one message")
    return tuple(_message(message) for message in messages)


def _message(message: Any) -> dict[str, str]:
    if not isinstance(message, dict) or not isinstance(message.get("role"), str):
        raise BadRequest("a message must be an object with a role and content")
    content = message.get("content")
    if isinstance(content, list):
        texts = [part.get("text") for part in content if isinstance(part, dict)]
        told = [text for text in texts if isinstance(text, str)]
        content = "".join(told) if len(told) == len(content) else None
    if not isinstance(content, str):
        raise BadRequest("a message's content must be text")
    if not _encodable(message["role"] + content):
        raise BadRequest("a message must be Unicode text without lone surrogates")
    return {"role": message["role"], "content": content}


def _encodable(text: str) -> bool:
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


def _typed(data: Mapping[str, Any], name: str, kind: type, default: Any) -> Any:
    value = data.get(name)
    if value is None:
        return default
    if not isinstance(value, kind) or (kind is int and isinstance(value, bool)):
        raise BadRequest(f"{name} must be of type {kind.__name__}")
    return value


def _temperature(data: Mapping[str, Any]) -> float:
    value = data.get("temperature")
    if value is None:
        return 1.0
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value <= 100:
        raise BadRequest("temperature must be a number from 0 to 100")
    return float(value)


def _usage(data: Mapping[str, Any], stream: bool) -> bool:
    options = _typed(data, "stream_options", dict, {})
    if options and not stream:
        raise BadRequest("stream_options needs stream")
    return bool(options.get("include_usage")) or not stream


def _raise(message: str) -> None:
    raise TemplateError(message)


def _read(path: Path) -> dict[str, Any]:
    settings: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    return settings
