"""Asks a server whether it is ready, without ever waiting long for the answer."""

from __future__ import annotations

import httpx


def answers(url: str, path: str = "/health", *, seconds: float = 1.0) -> bool:
    """Whether `url` + `path` gives status 200 within `seconds`, asked directly, whatever proxy is set."""
    try:
        answer = httpx.get(url.rstrip("/") + path, timeout=seconds, trust_env=False)
        return answer.status_code == httpx.codes.OK
    except httpx.HTTPError:
        return False
