"""Asks a server whether it is ready, without ever waiting long for the answer."""

from __future__ import annotations

import httpx


def answers(url: str, path: str = "/health", *, seconds: float = 1.0) -> bool:
    """Whether `url` + `path` gives status 200 within `seconds`."""
    try:
        return httpx.get(url.rstrip("/") + path, timeout=seconds).status_code == httpx.codes.OK
    except httpx.HTTPError:
        return False
