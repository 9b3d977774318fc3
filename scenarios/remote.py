"""What a server says of itself, asked over its control interface before and after a run."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import httpx

from scenarios.load.plan import BadUrl, Target

PATIENCE = 10.0


class Unreachable(Exception):
    """Nothing that can be scored answers at the URL. The message is one line that names the fix."""


@dataclass(frozen=True)
class Remote:
    """A server's own words: models (as /v1/models lists them), version, Server header."""

    models: tuple[str, ...]
    identity: Mapping[str, Any] = field(default_factory=dict)


def ask(url: str, headers: Mapping[str, str] | None = None) -> Remote:
    """Ask the server at `url`. Raises Unreachable."""
    try:
        base = Target.parse(url).base
    except BadUrl as error:
        raise Unreachable(str(error)) from error
    with httpx.Client(timeout=PATIENCE, headers=dict(headers or {}), trust_env=False) as client:
        try:
            answer = client.get(f"{base}/v1/models")
            answer.raise_for_status()
            listed = [card for card in answer.json()["data"] if isinstance(card["id"], str)]
        except (httpx.HTTPError, ValueError, KeyError, TypeError) as error:
            raise Unreachable(_line(url, error)) from error
        identity = {
            "models": sorted(str(card["id"]) for card in listed),
            "roots": sorted(str(card.get("root")) for card in listed),
            "max_model_len": sorted(str(card.get("max_model_len")) for card in listed),
            "owners": sorted({str(card.get("owned_by")) for card in listed}),
            "software": answer.headers.get("server"),
            "version": _version(client, base),
        }
    return Remote(tuple(card["id"] for card in listed), identity)


def chosen(remote: Remote, served_model: str | None, url: str) -> str:
    """The name to ask for: the one given, else the only one listed. Raises Unreachable."""
    names = ", ".join(remote.models) or "none"
    if served_model is not None:
        if remote.models and served_model not in remote.models:
            raise Unreachable(f"{url} does not serve {served_model!r}: name one of {names} (--served-model)")
        return served_model
    if len(remote.models) != 1:
        raise Unreachable(f"{url} serves {names}: name one with --served-model")
    return remote.models[0]


def _version(client: httpx.Client, base: str) -> str | None:
    try:
        said = client.get(f"{base}/version").json()
    except (httpx.HTTPError, ValueError):
        return None
    return str(said["version"]) if isinstance(said, dict) and "version" in said else None


def _line(url: str, error: Exception) -> str:
    mend = "give the address of an OpenAI-compatible server"
    if isinstance(error, httpx.HTTPStatusError) and error.response.status_code in (401, 403):
        key = "give its key by --header 'Authorization: Bearer KEY'"
        return f"{url}/v1/models answers {error.response.status_code}: {key}"
    if isinstance(error, httpx.HTTPStatusError):
        return f"{url}/v1/models answers {error.response.status_code}: {mend}"
    if isinstance(error, httpx.HTTPError):
        return f"nothing answers at {url} ({error}): start the server, or mend the address"
    return f"{url}/v1/models does not list models: {mend}"
