"""The simulated server's program: `python -m engines.simulated.server --model DIR --port N`."""

from __future__ import annotations

import asyncio
import gc
import signal
import socket
import sys
import time
from collections.abc import Sequence

import uvloop
from tokenizers import Tokenizer

from engines.contract import Model
from engines.model_shape import ModelShape, shape_of
from engines.simulated import crashes, performance
from engines.simulated.app import App
from engines.simulated.chat import Template
from engines.simulated.connection import Connection
from engines.simulated.driver import Batching, Driver, Timetable
from engines.simulated.intake import Intake
from engines.simulated.settings import Options, parse
from engines.simulated.text import Lexicon
from engines.simulated.truth import Truth

_BACKLOG = 2048


class Startup:
    """The start-up as its log tells it: stages that take their share of the simulated time."""

    def __init__(self, options: Options) -> None:
        simulation = options.simulation
        share = performance.start_share(options.settings)
        self.seconds = simulation.start_seconds * share / simulation.speed
        self._begun = time.monotonic()

    def reach(self, share: float, text: str) -> None:
        """Wait until `share` of the start-up is over, then say what was done."""
        time.sleep(max(0.0, self._begun + share * self.seconds - time.monotonic()))
        log(text)


def main(argv: Sequence[str] | None = None) -> int:
    """Serve until SIGTERM or SIGINT. Returns the exit status: 0, or 1 for a start that failed."""
    options = parse(sys.argv[1:] if argv is None else argv)
    startup = Startup(options)
    log(f"INFO simulated engine version 1, {options.settings}")
    try:
        shape = _shape(options)
        intake = _intake(options, shape)
        listener = _bind(options.host, options.port)
    except (OSError, ValueError) as error:
        log(f"ERROR {error}")
        return 1
    with listener:
        if not _start(options, shape, intake.max_length, startup):
            return 1
        uvloop.run(_serve(options, shape, intake, listener))
    return 0


def log(text: str) -> None:
    """One line on stderr."""
    print(text, file=sys.stderr, flush=True)


def _shape(options: Options) -> ModelShape:
    shape = shape_of(Model(options.model, options.served_model_name))
    if shape is None:
        raise ValueError(f"{options.model / 'config.json'} is not there, or is no decoder's")
    return shape


def _intake(options: Options, shape: ModelShape) -> Intake:
    path = options.model / "tokenizer.json"
    if not path.exists():
        raise OSError(f"{path} is not there: the model directory needs its tokenizer")
    tokenizer = Tokenizer.from_file(str(path))
    return Intake(
        served=options.served_model_name,
        tokenizer=tokenizer,
        template=Template(options.model),
        lexicon=Lexicon.build(tokenizer),
        max_length=options.max_model_len or shape.max_length,
        looping=options.simulation.looping,
        usage=options.simulation.usage,
    )


def _bind(host: str, port: int) -> socket.socket:
    listener = socket.socket()
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listener.bind((host, port))
    except OSError as error:
        listener.close()
        raise OSError(
            f"[Errno {error.errno}] error while attempting to bind on address ('{host}', {port}):"
            f" {(error.strerror or 'unknown').lower()}"
        ) from error
    return listener


def _start(options: Options, shape: ModelShape, max_length: int, startup: Startup) -> bool:
    """Tell the start-up's story; False where it ends in a crash."""
    settings, simulation = options.settings, options.simulation
    memory = performance.device_memory(shape, simulation.memory_gib)
    crash = crashes.crash(settings, shape, max_length, memory, simulation.landscape)
    capacity = performance.kv_capacity(settings, shape, memory)
    stages = [
        (0.25, f"INFO Starting to load model {options.model}..."),
        (0.4, f"INFO Model loading took {shape.weight_bytes / performance.GIB:.2f} GiB"),
        (0.6, f"INFO GPU KV cache size: {capacity:,} tokens"),
        (0.8, "INFO Cudagraph is disabled under eager mode" if settings.enforce_eager else _CAPTURING),
        (1.0, "INFO Application startup complete."),
    ]
    for share, text in stages:
        if crash is not None and share > crash.when:
            startup.reach(crash.when, "ERROR EngineCore failed to start.")
            log(f"Traceback (most recent call last):\n{crash.error}")
            return False
        startup.reach(share, text)
    return True


async def _serve(options: Options, shape: ModelShape, intake: Intake, listener: socket.socket) -> None:
    loop = asyncio.get_running_loop()
    simulation = options.simulation
    truth = None if simulation.truth is None else Truth(simulation.truth)
    app = App(intake, truth, simulation.die_after)
    app.driver = _driver(options, shape, app)
    ended = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, ended.set)
    _stay_prompt()
    server = await loop.create_server(lambda: Connection(app), sock=listener, backlog=_BACKLOG)
    log(f"INFO Listening on http://{options.host}:{options.port}")
    await ended.wait()
    server.close()
    app.stop()


def _driver(options: Options, shape: ModelShape, app: App) -> Driver:
    settings, simulation = options.settings, options.simulation
    if simulation.fixed is not None:
        return Timetable(simulation.fixed, app.done)
    memory = performance.device_memory(shape, simulation.memory_gib)
    capacity = performance.kv_capacity(settings, shape, memory)
    costs = performance.costs(settings, shape, simulation.landscape)
    return Batching(settings, simulation, costs, capacity, app.done)


def _stay_prompt() -> None:
    """Keep the collector and the tokenising thread from delaying tokens by milliseconds."""
    gc.collect()
    gc.freeze()
    gc.set_threshold(50_000, 50, 100)
    sys.setswitchinterval(1e-4)


_CAPTURING = "INFO Graph capturing finished"

if __name__ == "__main__":
    sys.exit(main())
