"""A stand-in for docker: a daemon that runs "containers" as processes of its own, and the tool that asks it.

`python container_tool.py daemon SOCKET` serves; the tool is this file too, under the name `docker` (see
`make_tool`). A container is a process group that the daemon, not the tool, is the parent of: what ends the
tool does not end it. The tool honours run (--rm, --cidfile, --env, --entrypoint, --volume; SIGTERM goes on),
container inspect, stop and rm --force, and streams a container's output, as docker's does.
"""

from __future__ import annotations

import json
import os
import signal
import socket
import socketserver
import subprocess
import sys
import threading
import time
import uuid
from pathlib import Path
from typing import Any

VALUED = {"--network", "--shm-size", "--gpus", "--env", "--volume", "--entrypoint", "--cidfile"}


class Daemon(socketserver.ThreadingUnixStreamServer):
    """Keeps containers by id; one request, a JSON line, a connection."""

    daemon_threads = True

    def __init__(self, path: str) -> None:
        super().__init__(path, Request)
        self.containers: dict[str, subprocess.Popen[bytes]] = {}
        self.specs: list[dict[str, Any]] = []


class Request(socketserver.StreamRequestHandler):
    """Answers one request; that of a run lasts as long as its container."""

    server: Daemon

    def handle(self) -> None:
        asked = json.loads(self.rfile.readline())
        getattr(self, f"_{asked['do']}")(asked)

    def _run(self, asked: dict[str, Any]) -> None:
        self.server.specs.append(asked)
        identity = uuid.uuid4().hex * 2
        process = subprocess.Popen(
            asked["argv"],
            env={"PATH": os.environ["PATH"], **asked["env"]},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
        self.server.containers[identity] = process
        self.wfile.write(identity.encode() + b"\n")
        assert process.stdout is not None
        while chunk := os.read(process.stdout.fileno(), 65536):
            self._say(chunk)
        process.wait()
        self.server.containers.pop(identity, None)
        self._say(b"\0" + str(process.returncode).encode())

    def _say(self, data: bytes) -> None:
        try:
            self.wfile.write(data)
        except OSError:
            return

    def _kill(self, asked: dict[str, Any]) -> None:
        process = self.server.containers.get(asked["id"])
        if process is not None:
            os.killpg(process.pid, asked["signal"])
            deadline = time.monotonic() + 5.0
            while asked["wait"] and process.poll() is None and time.monotonic() < deadline:
                time.sleep(0.01)
        self.wfile.write(b"yes" if process is not None else b"no")

    def _list(self, asked: dict[str, Any]) -> None:
        self.wfile.write(json.dumps([list(self.server.containers), self.server.specs]).encode())


def ask(path: str, **asked: Any) -> socket.socket:
    """A connection on which the daemon answers."""
    connection = socket.socket(socket.AF_UNIX)
    connection.connect(path)
    connection.sendall(json.dumps(asked).encode() + b"\n")
    return connection


def answer(path: str, **asked: Any) -> str:
    """What the daemon says, whole."""
    with ask(path, **asked) as connection, connection.makefile("rb") as stream:
        return stream.read().decode()


def tool(path: str, arguments: list[str]) -> int:
    """The tool's command line."""
    if arguments[0] == "run":
        return run(path, arguments[1:])
    if arguments[:2] == ["container", "inspect"]:
        return 0 if arguments[-1] in json.loads(answer(path, do="list"))[0] else 1
    number = signal.SIGKILL if arguments[:2] == ["rm", "--force"] else signal.SIGTERM
    return 0 if answer(path, do="kill", id=arguments[-1], signal=number, wait=True) == "yes" else 1


def run(path: str, arguments: list[str]) -> int:
    """`docker run`."""
    options: dict[str, list[str]] = {}
    while arguments[0].startswith("--"):
        name = arguments.pop(0)
        options.setdefault(name, []).append(arguments.pop(0) if name in VALUED else "")
    image, *rest = arguments
    if image == "no/such:image":
        print(f"docker: no such image: {image}", file=sys.stderr)
        return 125
    env = dict(_variable(each) for each in options.get("--env", ()) if _variable(each)[1] is not None)
    argv = [*options["--entrypoint"], *rest]
    with ask(path, do="run", argv=argv, env=env, image=image, options=options) as connection:
        stream = connection.makefile("rb")
        identity = stream.readline().decode().strip()
        for file in options.get("--cidfile", ()):
            with open(file, "x") as cid:  # noqa: PTH123
                cid.write(identity)
        signal.signal(
            signal.SIGTERM,
            lambda *_: answer(path, do="kill", id=identity, signal=signal.SIGTERM, wait=False),
        )
        return follow(stream.fileno())


def _variable(text: str) -> tuple[str, str | None]:
    name, equals, value = text.partition("=")
    return name, value if equals else os.environ.get(name)


def follow(stream: int) -> int:
    """Copy a container's output; its exit status."""
    last = b""
    while chunk := os.read(stream, 65536):
        last = (last + chunk)[-64:]
        os.write(1, chunk.partition(b"\0")[0])
    return int(last.rpartition(b"\0")[2] or 1) & 0xFF


def make_tool(folder: Path, name: str, path: str) -> Path:
    """A program of that name that talks to the daemon at `path`."""
    folder.mkdir(parents=True, exist_ok=True)
    file = folder / name
    file.write_text(
        f"#!{sys.executable} -IS\nimport runpy, sys\n"
        f"sys.argv[1:1] = ['tool', {path!r}]\n"
        f"runpy.run_path({__file__!r}, run_name='__main__')\n"
    )
    file.chmod(0o755)
    return file


def serve(path: str) -> None:
    """The daemon, until its standard input ends."""
    with Daemon(path) as daemon:
        threading.Thread(target=daemon.serve_forever, daemon=True).start()
        print("ready", flush=True)
        sys.stdin.read()
        for process in list(daemon.containers.values()):
            os.killpg(process.pid, signal.SIGKILL)


if __name__ == "__main__":
    what, where, *rest = sys.argv[1:]
    sys.exit(serve(where) if what == "daemon" else tool(where, rest))
