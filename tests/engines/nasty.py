"""A small HTTP server with the bad habits of engines: `python nasty.py HABIT PORT`. Standard library only."""

from __future__ import annotations

import json
import os
import signal
import sys
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer


class Handler(BaseHTTPRequestHandler):
    """Answers 200 to everything; `/die` ends the process first."""

    def do_GET(self) -> None:
        if self.path == "/die":
            print("fatal error: the answer was no", flush=True)
            os._exit(3)
        self.send_response(200)
        self.send_header("Content-Length", "0")
        self.end_headers()

    def log_message(self, format: str, *args: object) -> None:
        """Silence is what `flood` makes up for."""


def serve(port: int) -> None:
    ThreadingHTTPServer(("127.0.0.1", port), Handler).serve_forever()


def say_environment(port: int) -> None:
    print(json.dumps(dict(os.environ)), flush=True)
    serve(port)


def daemon(port: int) -> None:
    if os.fork():
        os._exit(0)
    os.setsid()
    if os.fork():
        os._exit(0)
    null = os.open(os.devnull, os.O_RDWR)
    for descriptor in range(3):
        os.dup2(null, descriptor)
    serve(port)


def workers(port: int) -> None:
    """Workers that ignore TERM: one plain, one in a session of its own, one without any variables."""
    code = "import signal,time; [signal.signal(n, signal.SIG_IGN) for n in (15, 2, 1)]; time.sleep(600)"
    for own_session, variables in ((False, dict(os.environ)), (True, dict(os.environ)), (True, {})):
        if os.fork() == 0:
            if own_session:
                os.setsid()
            os.execve(sys.executable, [sys.executable, "-I", "-S", "-c", code], variables)
    serve(port)


def stubborn(port: int) -> None:
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    serve(port)


def flood(port: int) -> None:
    line = b"x" * 1023 + b"\n"
    if os.fork() == 0:
        for _ in range(100):
            os.write(1, line * 1024)
        os.write(1, b"the flood is over\n")
        os._exit(0)
    serve(port)


def out_of_memory(port: int) -> None:
    print("torch.OutOfMemoryError: CUDA out of memory. Tried to allocate 2.00 GiB")
    print("RuntimeError: Engine core initialization failed. See root cause above.")
    sys.exit(1)


def refused(port: int) -> None:
    print("pydantic_core._pydantic_core.ValidationError: 1 validation error for SchedulerConfig")
    print("  Value error, the threshold is above the context. [type=value_error, input_value=ArgsKwargs(())]")
    print("    For further information visit the documentation")
    sys.exit(1)


def killed(port: int) -> None:
    os.kill(os.getpid(), signal.SIGSEGV)


def vanish(port: int) -> None:
    """Ends well without ever serving, as a launcher whose daemon died does."""


def hang(port: int) -> None:
    time.sleep(600)


if __name__ == "__main__":
    habit = sys.argv[1]
    habits = (serve, say_environment, daemon, workers, stubborn, flood, out_of_memory, refused, killed)
    habits += (vanish, hang)
    {made.__name__: made for made in habits}[habit](int(sys.argv[2]))
