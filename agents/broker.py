"""The service's socket: requests from inside a box, answered by the host.

A client writes one line of JSON, `{"verb": ..., "arguments": [...]}`, and reads lines: `{"say": text}` for
what is going on, then once `{"exit": code, "text": text}`.
"""

from __future__ import annotations

import json
import socketserver
import threading
from collections.abc import Callable
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from agents.workspace import SOCKET

LINE = 1 << 16
PATIENCE = 10.0
"""Seconds in which a client must have said what it wants."""

CLIENTS = 32
"""Connections at a time; more are turned away."""

Say = Callable[[str], None]
Answer = Callable[[str, list[str], Say], tuple[int, str]]
"""Verb, arguments and a way to say what is going on -> exit status and text of the client."""

Failed = Callable[[Exception], None]


class _Listener(socketserver.ThreadingUnixStreamServer):
    daemon_threads = True
    block_on_close = False

    def __init__(self, path: str, answer: Answer, failed: Failed) -> None:
        self.answer = answer
        self.failed = failed
        self.slots = threading.BoundedSemaphore(CLIENTS)
        super().__init__(path, _Connection)

    def process_request(self, request: Any, client_address: Any) -> None:
        """Count a client when it is accepted; its thread is told by the address, which Unix leaves empty."""
        super().process_request(request, self.slots.acquire(blocking=False))

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A client that is gone is no error."""


class _Connection(socketserver.StreamRequestHandler):
    timeout = PATIENCE
    server: _Listener

    def handle(self) -> None:
        admitted = self.client_address
        if not admitted:
            self.rfile.readline(LINE)
            self._write(exit=2, text="the service is busy: too many calls at once")
            return
        try:
            code, text = self._answered()
            self._write(exit=code, text=text)
        finally:
            self.server.slots.release()

    def _answered(self) -> tuple[int, str]:
        request = _request(self.rfile.readline(LINE))
        if request is None:
            return 2, "not a request of this service"
        try:
            return self.server.answer(*request, lambda text: self._write(say=text))
        except Exception as error:
            self.server.failed(error)
            return 1, f"the service failed, which is no fault of yours: {type(error).__name__}: {error}"

    def _write(self, **reply: object) -> None:
        """Send a reply; whoever does not wait for it misses it."""
        try:
            self.wfile.write(json.dumps(reply).encode() + b"\n")
        except OSError:
            return


class Broker:
    """Listens in `folder` while it is entered.

    `failed` is told what `answer` raises; its client gets a line.
    """

    def __init__(self, folder: Path, answer: Answer, failed: Failed) -> None:
        self._listener = _Listener(str(folder / SOCKET), answer, failed)
        self._thread = threading.Thread(target=self._listener.serve_forever, args=(0.05,), name="broker")

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._listener.shutdown()
        self._thread.join()
        self._listener.server_close()


def _request(line: bytes) -> tuple[str, list[str]] | None:
    try:
        data = json.loads(line)
        verb, arguments = data["verb"], data["arguments"]
    except (ValueError, TypeError, KeyError):
        return None
    if isinstance(verb, str) and isinstance(arguments, list) and all(isinstance(a, str) for a in arguments):
        return verb, arguments
    return None
