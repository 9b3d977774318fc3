"""A server that says what it is, for comparing a warm start with a cold one. Copied into a package by tests.

`python -m warmed.server --port N [--fail TEXT]`, after a slow import of `warmed.heavy`.
"""

from __future__ import annotations

import json
import os
import resource
import signal
import sys
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

from warmed import heavy  # type: ignore[import-not-found]

RUNS: list[str] = sys.modules["warmed"].__dict__.setdefault("RUNS", [])
RUNS.append(__name__)


def say() -> dict[str, object]:
    """What of a process may differ between two ways to start it, and must not."""
    own = Path("/proc/self")
    main = sys.modules["__main__"]
    status = dict(line.split(":\t") for line in (own / "status").read_text().splitlines())
    return {
        "argv": sys.argv,
        "orig_argv": sys.orig_argv,
        "cwd": str(Path.cwd()),
        "path": sys.path,
        "main": [main.__spec__ and main.__spec__.name, main.__file__, "warmed.server" in sys.modules],
        "environment": dict(os.environ),
        "descriptors": sorted(str(each.readlink()) for each in (own / "fd").iterdir() if each.exists()),
        "signals": {name: status[name] for name in ("SigBlk", "SigIgn", "SigCgt")},
        "priority": [os.sched_getscheduler(0), os.getpriority(os.PRIO_PROCESS, 0)],
        "threads": [each.name for each in threading.enumerate()],
        "limits": [resource.getrlimit(each) for each in (resource.RLIMIT_NOFILE, resource.RLIMIT_CORE)],
        "session": [os.getsid(0) == os.getpid(), os.getpgid(0) == os.getpid()],
        "interrupt": signal.getsignal(signal.SIGINT) is signal.default_int_handler,
        "mask": os.umask(0o022),
        "flags": list(sys.flags),
    }


SAID: dict[str, object] = {}


class Handler(BaseHTTPRequestHandler):
    """Answers every GET with what the process is, and when its slow import ended."""

    def do_GET(self) -> None:
        body = json.dumps({**SAID, "imported": heavy.IMPORTED, "runs": RUNS}).encode()
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: object) -> None:
        """Only what tests print is in the log."""


if __name__ == "__main__":
    if "--fail" in sys.argv:
        raise RuntimeError(sys.argv[-1])
    SAID = say()
    print("the server speaks", flush=True)
    ThreadingHTTPServer(("127.0.0.1", int(sys.argv[2])), Handler).serve_forever()
