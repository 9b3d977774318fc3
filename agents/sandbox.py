"""The sandbox: what an agent and its servers can see and write, as a bubblewrap command line.

Inside: a read-only system, the engines, the model; a writable workspace, home and temporary directory; its
own processes and no others. The network is the host's, so that its servers can be scored. Everything in a
sandbox dies with it, daemons included.
"""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Protocol

from agents.spec import AgentError

WORKSPACE = Path("/workspace")
HOME = Path("/home/agent")
BROKER = Path("/run/ceiling")
USER = 1000

SYSTEM = ("/usr", "/bin", "/sbin", "/lib", "/lib32", "/lib64", "/libx32")

ETC = (
    "alternatives", "bash.bashrc", "ca-certificates", "ca-certificates.conf", "crypto-policies",
    "debian_version", "fonts", "gai.conf", "host.conf", "hosts", "ld.so.cache", "ld.so.conf",
    "ld.so.conf.d", "locale.alias", "locale.conf", "localtime", "mime.types", "nsswitch.conf", "nvidia",
    "OpenCL", "os-release", "pki", "profile", "profile.d", "protocols", "resolv.conf", "services",
    "ssl/certs", "ssl/openssl.cnf", "terminfo", "timezone",
)  # fmt: skip
"""What programs need of /etc; the rest (accounts, keys) is not shown."""


class Box(Protocol):
    """A place to run an agent or its launcher in, seen from inside."""

    @property
    def workspace(self) -> Path:
        """Where it works; here and below, a path inside the box."""
        ...

    @property
    def home(self) -> Path:
        """Its home."""
        ...

    @property
    def temporary(self) -> Path:
        """For throw-away files."""
        ...

    @property
    def broker(self) -> Path:
        """Directory of the service's socket."""
        ...

    def argv(
        self, command: Sequence[str], env: Mapping[str, str] | None, info: int | None = None
    ) -> list[str]:
        """The command line that runs `command` in the workspace with exactly the variables `env`.

        None hands on the environment of whoever runs the line (a secret has no place on a command line).
        bubblewrap writes the pid of the sandbox's first process, as JSON, to file descriptor `info`.
        """
        ...


@dataclass(frozen=True)
class Sandbox:
    """A bubblewrap sandbox.

    Attributes:
        place: host directory with `workspace`, `home` and `tmp`; its path shows in the sandbox's mount
            table, so it must say nothing.
        readable: host paths shown read-only under their own names.
        hidden: host paths that must not show, even where a readable one holds them.
        socket: host directory with the broker's socket; None in final scoring.
    """

    place: Path
    readable: tuple[Path, ...]
    hidden: tuple[Path, ...]
    socket: Path | None = None
    workspace: Path = WORKSPACE
    home: Path = HOME
    temporary: Path = Path("/tmp")
    broker: Path = BROKER

    def argv(
        self, command: Sequence[str], env: Mapping[str, str] | None, info: int | None = None
    ) -> list[str]:
        """See `Box.argv`."""
        return [
            *_bwrap(),
            *(["--info-fd", str(info)] if info is not None else []),
            *_system(),
            *self._private(),
            *_shown(self.readable, self.hidden),
            *_devices(),
            *self._writable(),
            *_environment(env),
            "--chdir", str(self.workspace),
            "--", *command,
        ]  # fmt: skip

    def _private(self) -> list[str]:
        return [
            "--bind", str(self.place / "tmp"), str(self.temporary),
            "--symlink", str(self.temporary), "/var/tmp",
        ]  # fmt: skip

    def _writable(self) -> list[str]:
        socket = ["--ro-bind", str(self.socket), str(self.broker)] if self.socket else []
        return [
            "--bind", str(self.place / "home"), str(self.home),
            "--bind", str(self.place / "workspace"), str(self.workspace),
            *socket,
        ]  # fmt: skip


@dataclass(frozen=True)
class Bare:
    """No isolation: the agent runs as the user, in the workspace's own directory."""

    workspace: Path
    home: Path
    temporary: Path
    broker: Path

    def argv(
        self, command: Sequence[str], env: Mapping[str, str] | None, info: int | None = None
    ) -> list[str]:
        """See `Box.argv`; nothing is written to `info`."""
        clean = [] if env is None else ["-i", *(f"{name}={value}" for name, value in env.items())]
        return ["env", "-C", str(self.workspace), *clean, *command]


def require() -> None:
    """Raise AgentError where no sandbox can be made."""
    _bwrap()


def available() -> bool:
    """Whether a sandbox can be made on this machine."""
    try:
        require()
    except AgentError:
        return False
    return True


@cache
def _bwrap() -> tuple[str, ...]:
    """The bwrap program and the namespaces that it may make here: with one of users, or as root without.

    Root keeps its capabilities where there is no namespace of users, and could undo every bind with them.
    """
    program = shutil.which("bwrap")
    if program is None:
        raise AgentError(
            "agents run in a sandbox and bwrap is not installed: apt-get install bubblewrap,"
            " or accept the risk with --unsafe-no-sandbox"
        )
    always = (program, "--unshare-pid", "--unshare-ipc", "--die-with-parent", "--cap-drop", "ALL")
    user = ("--unshare-user", "--uid", str(USER), "--gid", str(USER))
    failure = ""
    for attempt in ((*always, *user), always):
        trial = [*attempt, "--ro-bind", "/", "/", "--proc", "/proc", "--dev", "/dev", "true"]
        done = subprocess.run(trial, capture_output=True, text=True, timeout=30, check=False)
        if done.returncode == 0:
            return attempt
        failure = done.stderr.strip().splitlines()[-1] if done.stderr.strip() else f"exit {done.returncode}"
    raise AgentError(
        f"bwrap cannot make a sandbox here ({failure}): allow user namespaces, or accept the risk with"
        " --unsafe-no-sandbox"
    )


def _environment(env: Mapping[str, str] | None) -> Iterator[str]:
    if env is not None:
        yield "--clearenv"
        for name, value in env.items():
            yield from ("--setenv", name, value)


def _system() -> Iterator[str]:
    yield from ("--proc", "/proc", "--dev", "/dev", "--ro-bind", "/sys", "/sys")
    for name in SYSTEM:
        path = Path(name)
        if path.is_symlink():
            yield from ("--symlink", str(path.readlink()), name)
        elif path.is_dir():
            yield from ("--ro-bind", name, name)
    for name in ETC:
        path = Path("/etc") / name
        if path.exists():
            yield from ("--ro-bind", str(path.resolve()), str(path))
    for name in ("passwd", "group"):
        yield from ("--ro-bind", str(Path(__file__).parent / "templates" / name), f"/etc/{name}")


def _devices() -> Iterator[str]:
    for path in sorted(Path("/dev").glob("nvidia*")):
        yield from ("--dev-bind", str(path), str(path))


def _shown(readable: Iterable[Path], hidden: Iterable[Path]) -> Iterator[str]:
    """Binds for what is shown and empty directories over what is not, parents before children."""
    shown = {path: False for path in _outside_system(readable)}
    masks = {path: True for path in hidden if any(path.is_relative_to(other) for other in shown)}
    system = [Path(name) for name in SYSTEM]
    masks |= {path: True for path in hidden if any(path.is_relative_to(other) for other in system)}
    for path, masked in sorted({**shown, **masks}.items(), key=lambda item: len(item[0].parts)):
        yield from ("--tmpfs", str(path)) if masked else ("--ro-bind", str(path), str(path))


def _outside_system(paths: Iterable[Path]) -> list[Path]:
    return sorted({path for path in paths if path.exists() and path != Path("/") and not _in_system(path)})


def _in_system(path: Path) -> bool:
    return any(path.is_relative_to(name) for name in SYSTEM)


def program_paths(program: Sequence[str], env: Mapping[str, str]) -> tuple[Path, ...]:
    """Host paths that a program needs in sight: its environment, its interpreter's, and what it names."""
    binary = shutil.which(program[0]) or program[0]
    named = [Path(token) for token in program[1:] if token.startswith("/")]
    searched = [Path(part) for value in env.values() for part in value.split(":") if part.startswith("/")]
    script = interpreter(Path(binary))
    installed = [*_installation(Path(binary)), *(_installation(script) if script else ())]
    return tuple(dict.fromkeys([*installed, *(path for path in [*named, *searched] if path.exists())]))


def interpreter(program: Path) -> Path | None:
    """The interpreter that a script's first line names, as PATH finds it; None for a binary."""
    try:
        with program.open("rb") as file:
            first = file.readline(256)
    except OSError:
        return None
    words = first.removeprefix(b"#!").decode(errors="replace").split()
    if not first.startswith(b"#!") or not words:
        return None
    found = shutil.which(words[-1] if Path(words[0]).name == "env" else words[0])
    return Path(found) if found else None


def model_paths(model: Path) -> tuple[Path, ...]:
    """A model directory, and the directories that its links lead to (as in a hub's cache)."""
    links = [path for path in model.rglob("*") if path.is_symlink()]
    return tuple(dict.fromkeys([model, *(path.resolve().parent for path in links)]))


def _installation(binary: Path) -> Iterator[Path]:
    """The prefix of a virtual environment or interpreter, at every hop of its links; else just the file."""
    hops = [binary]
    while hops[-1].is_symlink() and len(hops) < 16:
        hops.append(Path(os.path.normpath(hops[-1].parent / hops[-1].readlink())))
    for hop in [*hops, binary.resolve()]:
        if _in_system(hop):
            continue
        prefix = hop.parent.parent
        interpreter = any(prefix.glob("lib/python3*/os.py"))
        package = next((parent for parent in hop.parents if parent.name == "node_modules"), None)
        if (prefix / "pyvenv.cfg").is_file() or interpreter:
            yield prefix
        else:
            yield package or hop
