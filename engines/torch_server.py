"""The naive PyTorch server: `generate` of transformers behind the chat completions API, one at a time.

It runs inside the torch engine's own environment, as a script, and so imports nothing of Ceiling's. What
transformers does by default is what it does: no batching, no compilation, the checkpoint's own dtype. It
keeps the same contract as every other engine: `max_tokens`, `min_tokens`, `ignore_eos`, `temperature`,
`seed`, streaming, and usage counted in the tokenizer's tokens.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import threading
import time
import uuid
from collections.abc import AsyncIterator, Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any

UNFINISHED = "\N{REPLACEMENT CHARACTER}"


class BadRequest(ValueError):
    """A request that the server refuses with status 400; the message says why."""


@dataclass(frozen=True)
class Ask:
    """One chat completion, as asked. Lengths in tokens; `max_tokens=None` means up to the model's length."""

    messages: list[dict[str, str]]
    max_tokens: int | None
    min_tokens: int
    ignore_eos: bool
    temperature: float
    top_p: float
    seed: int | None
    stream: bool
    include_usage: bool

    @classmethod
    def parse(cls, body: Any) -> Ask:
        """From the JSON body. Raises BadRequest."""
        if not isinstance(body, dict) or not isinstance(body.get("messages"), list) or not body["messages"]:
            raise BadRequest("messages: a non-empty list is needed")
        if body.get("n", 1) != 1:
            raise BadRequest("n: only 1 is supported")
        limit = body.get("max_completion_tokens", body.get("max_tokens"))
        try:
            ask = cls(
                messages=[
                    {"role": str(message["role"]), "content": _text(message["content"])}
                    for message in body["messages"]
                ],
                max_tokens=None if limit is None else int(limit),
                min_tokens=int(body.get("min_tokens") or 0),
                ignore_eos=bool(body.get("ignore_eos", False)),
                temperature=_number(body.get("temperature"), 1.0),
                top_p=_number(body.get("top_p"), 1.0),
                seed=None if body.get("seed") is None else int(body["seed"]),
                stream=bool(body.get("stream", False)),
                include_usage=bool((body.get("stream_options") or {}).get("include_usage", False)),
            )
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            raise BadRequest(f"not a chat completion request: {error!r}") from error
        if ask.max_tokens is not None and not 0 <= ask.min_tokens <= ask.max_tokens:
            raise BadRequest(f"min_tokens={ask.min_tokens} must lie within 0 and max_tokens={ask.max_tokens}")
        if ask.max_tokens is not None and ask.max_tokens < 1:
            raise BadRequest(f"max_tokens={ask.max_tokens} must be at least 1")
        return ask


def _number(value: Any, default: float) -> float:
    return default if value is None else float(value)


def _text(content: Any) -> str:
    if isinstance(content, str):
        return content
    return "".join(part["text"] for part in content)


class Detokenizer:
    """Turns tokens into text as they come, decoding a short window each time, never the whole output.

    Text is held back while it ends inside a UTF-8 sequence. The window starts at the last point where the
    text was complete, so that a token's leading space depends on its neighbour exactly as in one decode.
    """

    def __init__(self, decode: Callable[[list[int]], str]) -> None:
        self._decode = decode
        self._tokens: list[int] = []
        self._start = 0
        self._read = 0

    def push(self, token: int) -> str:
        """The text that this token completes, empty while it is unfinished."""
        self._tokens.append(token)
        before = self._decode(self._tokens[self._start : self._read])
        now = self._decode(self._tokens[self._start :])
        if len(now) <= len(before) or now.endswith(UNFINISHED):
            return ""
        self._start, self._read = self._read, len(self._tokens)
        return now[len(before) :]

    def rest(self) -> str:
        """What was held back, at the end of the output."""
        before = self._decode(self._tokens[self._start : self._read])
        return self._decode(self._tokens[self._start :])[len(before) :]


@dataclass(eq=False)
class Job:
    """One request in the queue; `emit` carries text and count, then the end, to the event loop."""

    ask: Ask
    prompt: list[int]
    limit: int
    emit: Callable[[tuple[str, Any]], None]
    stop: threading.Event = field(default_factory=threading.Event)


class NaiveModel:
    """A transformers model and its tokenizer. Every method runs in the one worker thread or before it."""

    def __init__(self, options: argparse.Namespace) -> None:
        import torch
        from transformers import AutoTokenizer, GenerationConfig

        began = time.perf_counter()
        self.device = "cuda" if torch.cuda.is_available() else "cpu"
        self.tokenizer: Any = AutoTokenizer.from_pretrained(options.model)
        self.model: Any = _load(options, self.device)
        asked = self.model.generation_config
        self.eos = _eos_ids(asked.eos_token_id, self.tokenizer.eos_token_id)
        self.max_length = int(options.max_model_len or self.model.config.max_position_embeddings)
        # Stopping is ours alone: a checkpoint's sampling defaults would differ from one engine to another.
        self.model.generation_config = GenerationConfig(pad_token_id=min(self.eos, default=0))
        self.cache = options.cache_implementation
        print(
            f"torch server: {self.model.dtype} on {self.device}, {self.max_length} tokens, "
            f"loaded in {time.perf_counter() - began:.1f} s",
            flush=True,
        )

    def encode(self, messages: list[dict[str, str]]) -> list[int]:
        """Prompt tokens under the model's own chat template."""
        if self.tokenizer.chat_template is None:
            text = "\n".join(message["content"] for message in messages)
            return list(self.tokenizer(text).input_ids)
        text = self.tokenizer.apply_chat_template(messages, tokenize=False, add_generation_prompt=True)
        return list(self.tokenizer(text, add_special_tokens=False).input_ids)

    def job(self, ask: Ask, emit: Callable[[tuple[str, Any]], None]) -> Job:
        """A request made ready. Raises BadRequest where it does not fit the model's length."""
        prompt = self.encode(ask.messages)
        limit = self.max_length - len(prompt) if ask.max_tokens is None else ask.max_tokens
        if limit < 1 or len(prompt) + limit > self.max_length:
            raise BadRequest(
                f"{len(prompt)} prompt tokens and {limit} output tokens exceed the model's {self.max_length}"
            )
        return Job(ask, prompt, limit, emit)

    def run(self, job: Job) -> None:
        """Generates, emitting ("text", str) and at the end ("end", (tokens, reason)) or ("error", str)."""
        try:
            job.emit(("end", self._generate(job)))
        except Exception as error:
            job.emit(("error", f"{type(error).__name__}: {error}"))
            raise

    def _generate(self, job: Job) -> tuple[int, str]:
        import torch
        from transformers import LogitsProcessorList, MinNewTokensLengthLogitsProcessor, StoppingCriteriaList

        if job.stop.is_set():
            return 0, "abort"
        sink = Sink(job, Detokenizer(self._decode), self.eos)
        processors = LogitsProcessorList()
        if job.ask.min_tokens and self.eos:
            processors.append(
                MinNewTokensLengthLogitsProcessor(
                    len(job.prompt), job.ask.min_tokens, self.eos, device=self.device
                )
            )
        if job.ask.seed is not None:
            torch.manual_seed(job.ask.seed)
        inputs = torch.tensor([job.prompt], device=self.device)
        with torch.inference_mode():
            self.model.generate(
                inputs,
                attention_mask=torch.ones_like(inputs),
                streamer=sink,
                max_new_tokens=job.limit,
                logits_processor=processors,
                stopping_criteria=StoppingCriteriaList([sink.stopping]),
                **self._sampling(job.ask),
            )
        return sink.count, sink.reason

    def _sampling(self, ask: Ask) -> dict[str, Any]:
        options: dict[str, Any] = {"do_sample": ask.temperature > 0}
        if ask.temperature > 0:
            options |= {"temperature": ask.temperature, "top_p": ask.top_p, "top_k": 0}
        if self.cache != "default":
            options["cache_implementation"] = self.cache
        return options

    def _decode(self, tokens: list[int]) -> str:
        return str(self.tokenizer.decode(tokens, skip_special_tokens=True))


class Sink:
    """Streamer and stopping rule of one generation, fed by transformers token by token."""

    def __init__(self, job: Job, detokenizer: Detokenizer, eos: list[int]) -> None:
        self.count = 0
        self.reason = "length"
        self._job = job
        self._detokenizer = detokenizer
        self._eos = frozenset(() if job.ask.ignore_eos else eos)
        self._prompt_seen = False

    def put(self, value: Any) -> None:
        """Transformers hands over the prompt first, then each token."""
        if not self._prompt_seen:
            self._prompt_seen = True
            return
        for token in value.flatten().tolist():
            self.count += 1
            text = self._detokenizer.push(token)
            if text:
                self._job.emit(("text", text))

    def end(self) -> None:
        """The last piece of text, which may have waited for a token that never came."""
        text = self._detokenizer.rest()
        if text:
            self._job.emit(("text", text))

    def stopping(self, tokens: Any, scores: Any, **_: Any) -> Any:
        """Whether to stop: the client has gone, or the model has said that it is done."""
        import torch

        stop = self._job.stop.is_set()
        if not stop and int(tokens[0, -1]) in self._eos:
            stop, self.reason = True, "stop"
        return torch.full((tokens.shape[0],), stop, device=tokens.device, dtype=torch.bool)


def _eos_ids(*found: Any) -> list[int]:
    ids: set[int] = set()
    for value in found:
        ids.update([value] if isinstance(value, int) else value or ())
    return sorted(ids)


def _load(options: argparse.Namespace, device: str) -> Any:
    import torch
    from transformers import AutoConfig, AutoModelForCausalLM

    dtype = "auto" if options.dtype == "auto" else getattr(torch, options.dtype)
    attention = (
        {}
        if options.attn_implementation == "default"
        else {"attn_implementation": options.attn_implementation}
    )
    if options.dummy_weights:
        config = AutoConfig.from_pretrained(options.model)
        if dtype == "auto":
            dtype = getattr(config, "dtype", None) or torch.float32
        with torch.device(device):
            model = AutoModelForCausalLM.from_config(config, dtype=dtype, **attention)
        return model.eval()
    model = AutoModelForCausalLM.from_pretrained(options.model, dtype=dtype, **attention)
    return model.to(device).eval()


class Front:
    """The HTTP side: a queue of one worker thread, and answers in the OpenAI form."""

    def __init__(self, model: NaiveModel, name: str) -> None:
        self._model = model
        self._name = name
        self._worker = ThreadPoolExecutor(max_workers=1, thread_name_prefix="generate")
        self._jobs: set[Job] = set()

    def start(self, ask: Ask) -> tuple[Job, asyncio.Queue[tuple[str, Any]]]:
        """Puts a request into the queue. Raises BadRequest."""
        loop, pieces = asyncio.get_running_loop(), asyncio.Queue[tuple[str, Any]]()
        job = self._model.job(ask, lambda item: _hand_over(loop, pieces, item))
        self._jobs.add(job)
        self._worker.submit(self._model.run, job)
        return job, pieces

    def drop(self, job: Job) -> None:
        """Ends a request: its generation stops at the next token, or never begins."""
        job.stop.set()
        self._jobs.discard(job)

    def close(self) -> None:
        """Ends every request, so that the process can leave."""
        for job in list(self._jobs):
            job.stop.set()
        self._worker.shutdown(wait=False, cancel_futures=True)

    async def stream(self, job: Job, pieces: asyncio.Queue[tuple[str, Any]]) -> AsyncIterator[str]:
        """Server-sent events of one request; a client that goes away ends the generation."""
        answer = Answer(self._name, len(job.prompt))
        try:
            yield answer.chunk({"role": "assistant", "content": ""})
            while True:
                kind, value = await pieces.get()
                if kind != "text":
                    break
                yield answer.chunk({"content": value})
            for event in answer.closing(kind, value, job.ask.include_usage):
                yield event
        finally:
            self.drop(job)

    async def whole(self, job: Job, pieces: asyncio.Queue[tuple[str, Any]]) -> dict[str, Any]:
        """The answer of one request in one piece. Raises RuntimeError where the generation failed."""
        texts: list[str] = []
        try:
            while True:
                kind, value = await pieces.get()
                if kind != "text":
                    break
                texts.append(value)
        finally:
            self.drop(job)
        if kind == "error":
            raise RuntimeError(value)
        return Answer(self._name, len(job.prompt)).whole("".join(texts), *value)


def _hand_over(
    loop: asyncio.AbstractEventLoop, pieces: asyncio.Queue[tuple[str, Any]], item: tuple[str, Any]
) -> None:
    if not loop.is_closed():
        loop.call_soon_threadsafe(pieces.put_nowait, item)


class Answer:
    """The OpenAI form of one answer."""

    def __init__(self, model: str, prompt_tokens: int) -> None:
        self._prompt_tokens = prompt_tokens
        self._head = {"id": f"chatcmpl-{uuid.uuid4().hex}", "created": int(time.time()), "model": model}

    def chunk(self, delta: dict[str, str], reason: str | None = None) -> str:
        """One event of the stream."""
        choice = {"index": 0, "delta": delta, "finish_reason": reason}
        return self._event({"choices": [choice]})

    def closing(self, kind: str, value: Any, include_usage: bool) -> Iterator[str]:
        """The last events: the reason, the usage if asked, and the end; or the error, and no end."""
        if kind == "error":
            yield self._event({"error": {"message": value, "type": "server_error", "code": 500}})
            return
        tokens, reason = value
        yield self.chunk({}, reason)
        if include_usage:
            yield self._event({"choices": [], "usage": self._usage(tokens)})
        yield "data: [DONE]\n\n"

    def whole(self, text: str, tokens: int, reason: str) -> dict[str, Any]:
        """The whole answer."""
        message = {"role": "assistant", "content": text}
        choice = {"index": 0, "message": message, "finish_reason": reason}
        return {
            **self._head,
            "object": "chat.completion",
            "choices": [choice],
            "usage": self._usage(tokens),
        }

    def _event(self, body: dict[str, Any]) -> str:
        data = {**self._head, "object": "chat.completion.chunk", **body}
        return f"data: {json.dumps(data, ensure_ascii=False)}\n\n"

    def _usage(self, tokens: int) -> dict[str, int]:
        return {
            "prompt_tokens": self._prompt_tokens,
            "completion_tokens": tokens,
            "total_tokens": self._prompt_tokens + tokens,
        }


async def _until_gone(request: Any) -> None:
    while (await request.receive())["type"] != "http.disconnect":
        continue


async def _unless_gone(request: Any, front: Front, job: Job, answer: Any) -> dict[str, Any]:
    """The whole answer, given up when the client goes away first."""
    work, gone = asyncio.ensure_future(answer), asyncio.ensure_future(_until_gone(request))
    await asyncio.wait({work, gone}, return_when=asyncio.FIRST_COMPLETED)
    gone.cancel()
    if not work.done():
        front.drop(job)
    return dict(await work)


def build(model: NaiveModel, name: str) -> Any:
    """The application: /v1/chat/completions, /v1/models and /health."""
    from contextlib import asynccontextmanager

    from fastapi import FastAPI, Request
    from fastapi.responses import JSONResponse, StreamingResponse

    front = Front(model, name)

    @asynccontextmanager
    async def lifespan(_: Any) -> AsyncIterator[None]:
        yield
        front.close()

    app = FastAPI(lifespan=lifespan)

    def refusal(error: Exception, status: int) -> Any:
        return JSONResponse({"error": {"message": str(error), "code": status}}, status_code=status)

    async def chat(request: Request) -> Any:
        try:
            ask = Ask.parse(await request.json())
            job, pieces = front.start(ask)
        except (BadRequest, json.JSONDecodeError) as error:
            return refusal(error, 400)
        if ask.stream:
            return StreamingResponse(front.stream(job, pieces), media_type="text/event-stream")
        try:
            return JSONResponse(await _unless_gone(request, front, job, front.whole(job, pieces)))
        except RuntimeError as error:
            return refusal(error, 500)

    async def models() -> Any:
        entry = {"id": name, "object": "model", "owned_by": "torch", "max_model_len": model.max_length}
        return {"object": "list", "data": [entry]}

    async def health() -> Any:
        return {"status": "ok"}

    # The module's annotations are strings, which FastAPI could not resolve to the names imported above.
    chat.__annotations__["request"] = Request
    app.post("/v1/chat/completions")(chat)
    app.get("/v1/models")(models)
    app.get("/health")(health)
    return app


def parser() -> argparse.ArgumentParser:
    """The command line."""
    line = argparse.ArgumentParser(prog="torch_server", description=(__doc__ or "").splitlines()[0])
    line.add_argument("--model", required=True, metavar="DIR", help="Hugging Face model directory")
    line.add_argument("--served-model-name", metavar="NAME", help="name in the API (default: the path)")
    line.add_argument("--host", default="127.0.0.1")
    line.add_argument("--port", type=int, default=8000)
    line.add_argument("--max-model-len", type=int, metavar="TOKENS", help="default: the model's own")
    line.add_argument("--dummy-weights", action="store_true", help="random weights: speed only")
    line.add_argument("--dtype", default="auto", choices=["auto", "bfloat16", "float16", "float32"])
    line.add_argument("--attn-implementation", default="default", choices=["default", "sdpa", "eager"])
    line.add_argument("--cache-implementation", default="default", choices=["default", "static"])
    return line


def main() -> None:
    """Loads the model, then listens: the port answers only once the server is ready."""
    options = parser().parse_args()
    import uvicorn

    app = build(NaiveModel(options), options.served_model_name or options.model)
    uvicorn.run(app, host=options.host, port=options.port, log_level="warning", timeout_graceful_shutdown=2)


if __name__ == "__main__":
    main()
