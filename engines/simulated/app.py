"""What the server does with each request, once HTTP is out of the way."""

from __future__ import annotations

import asyncio
import json
import os
import sys
import time
from collections import deque
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import partial

from engines.simulated.answer import Answer, Send, response
from engines.simulated.chat import BadRequest
from engines.simulated.driver import Driver
from engines.simulated.intake import Intake, Prompt
from engines.simulated.truth import Truth

SHORT = 2000
"""Bodies of up to so many bytes are read on the event loop, longer ones beside it."""


IDLE = 0.1
"""Seconds without a request after which the truth is written."""


class App:
    """Routes requests and keeps count of answers.

    Attributes:
        driver: set once the loop runs.
    """

    driver: Driver

    def __init__(self, intake: Intake, truth: Truth | None = None, die_after: int | None = None) -> None:
        self._intake = intake
        self._truth = truth
        self._die_after = die_after
        self._open: set[Answer] = set()
        self._served = 0
        self._pool = ThreadPoolExecutor(1, "tokeniser")
        self._short: deque[Callable[[], None]] = deque()
        self._routes: dict[tuple[str, str], Callable[[], bytes]] = {
            ("GET", "/health"): lambda: response(200, b""),
            ("GET", "/v1/models"): self._models,
            ("GET", "/version"): lambda: response(200, b'{"version": "1"}'),
            ("GET", "/metrics"): self._metrics,
            ("POST", "/reset_prefix_cache"): self._reset,
        }

    def plain(self, method: str, path: str) -> bytes:
        """The response to everything but a chat completion."""
        route = self._routes.get((method, path))
        if route is not None:
            return route()
        known = {known for _, known in self._routes} | {"/v1/chat/completions"}
        if path in known:
            return refusal(BadRequest(f"{method} is not for {path}", 405, "MethodNotAllowedError"))
        return refusal(BadRequest(f"there is no {path}", 404, "NotFoundError"))

    def chat(
        self, body: bytes, send: Send, close: Callable[[], None], started: Callable[[Answer], bool]
    ) -> None:
        """Answer a chat completion through `send`, then call `close`.

        `started` is told of the answer before any of it is sent; False means that the client has gone.
        """
        arrival = time.monotonic()
        begin = partial(self._begin, arrival, send, close, started)
        loop = asyncio.get_running_loop()
        if len(body) > SHORT:
            future = loop.run_in_executor(self._pool, _outcome, self._intake, body)
            future.add_done_callback(lambda done: begin(done.result()))
            return
        self._short.append(partial(self._read_short, begin, body))
        if len(self._short) == 1:
            loop.call_soon(self._short[0])

    def gone(self, answer: Answer) -> None:
        """A client has left its answer."""
        answer.gone = True
        self.driver.cancel(answer)
        self._close(answer)

    def done(self, answer: Answer) -> None:
        """An answer is complete."""
        self._served += 1
        self._close(answer)
        if self._die_after is not None and self._served >= self._die_after:
            self._die()

    def stop(self) -> None:
        """Write what is kept."""
        if self._truth is not None:
            self._truth.flush()

    def _read_short(self, begin: Callable[[Prompt | BadRequest], None], body: bytes) -> None:
        """Read one body, and the next one only once the loop has looked for arrivals and alarms."""
        begin(_outcome(self._intake, body))
        self._short.popleft()
        if self._short:
            asyncio.get_running_loop().call_soon(self._short[0])

    def _begin(
        self,
        arrival: float,
        send: Send,
        close: Callable[[], None],
        started: Callable[[Answer], bool],
        outcome: Prompt | BadRequest,
    ) -> None:
        if isinstance(outcome, BadRequest):
            send(refusal(outcome))
            close()
            return
        answer = self._intake.answer(outcome, arrival, send, close)
        if started(answer):
            self._open.add(answer)
            self.driver.submit(answer)

    def _close(self, answer: Answer) -> None:
        self._open.discard(answer)
        if self._truth is not None:
            self._truth.add(answer)
            asyncio.get_running_loop().call_later(IDLE, self._tell)

    def _tell(self) -> None:
        """Write the truth, unless that would delay an answer or the next request of a closed loop."""
        if self._truth is not None and self._truth.rested(IDLE) and not self._open:
            self._truth.flush()

    def _die(self) -> None:
        self.stop()
        print("ERROR EngineCore encountered a fatal error.", file=sys.stderr)
        print(
            "RuntimeError: CUDA error: an illegal memory access was encountered", file=sys.stderr, flush=True
        )
        os._exit(1)

    def _models(self) -> bytes:
        card = {"id": self._intake.served, "object": "model", "owned_by": "simulated"}
        card["max_model_len"] = self._intake.max_length  # type: ignore[assignment]
        return response(200, json.dumps({"object": "list", "data": [card]}).encode())

    def _metrics(self) -> bytes:
        lines = [f"simulated:{name} {value}" for name, value in self.driver.counters().items()]
        return response(200, "\n".join([*lines, ""]).encode(), "text/plain; version=0.0.4")

    def _reset(self) -> bytes:
        if self.driver.reset():
            return response(200, b"")
        return refusal(BadRequest("the prefix cache is in use", 409, "ConflictError"))


def refusal(error: BadRequest) -> bytes:
    """An error as a response."""
    return response(error.status, json.dumps(error.body()).encode())


def _outcome(intake: Intake, body: bytes) -> Prompt | BadRequest:
    try:
        return intake.read(body)
    except BadRequest as error:
        return error
