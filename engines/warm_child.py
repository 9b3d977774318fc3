# ruff: noqa: PTH108, PTH109, PTH123, PTH208
"""What an engine's own interpreter runs ahead of a launch: it imports, waits, and becomes the server.

Run as `python warm_child.py PLAN` under a keeper (engines/keeper.py), standard library only. PLAN is JSON:
`module` to run, `imports` to do ahead of it, the `log` that takes its output until then. Descriptor 0 is a
socket to the keeper. On it goes one line once the imports are done:

    {"event": "warm", "fit": true, "seconds": S, "missing": [MODULE], "threads": N}
    {"event": "warm", "fit": false, "why": TEXT}

and from it comes one line, a launch like a keeper's (`argv`, `env`, `cwd`, `log`), which is answered by

    {"event": "taken"}

Then this process does what `python -m module` would have done, with the imports behind it. If it is not fit
for that (the module does not import, or an import touched a GPU, after which nothing may be forked), it
begins anew as an empty interpreter, which leaves the GPU, and executes the launch's argv: the same process
becomes the cold server.
The socket's end means that no launch will come.
"""

from __future__ import annotations

import os
import sys

if not getattr(sys.flags, "safe_path", False):
    sys.path[0] = os.getcwd()  # where `python -m` looks; this file's folder has a vllm.py of its own

import contextlib
import ctypes
import importlib
import json
import runpy
import time

DRIVER = "libcuda.so"
NOT_INITIALIZED = 3
"""What CUDA's driver answers in a process in which nobody has initialised it (CUDA_ERROR_NOT_INITIALIZED)."""


def main() -> None:
    """Import, say so, wait, become the server."""
    plan = json.loads(sys.argv[1])
    first = dict(os.environ)
    if "unfit" in plan:
        _wait_unfit(plan)
        return
    began = time.monotonic()
    lowered = _idle()
    missing = _imported([plan["module"], *plan["imports"]])
    why = f"{plan['module']} does not import" if plan["module"] in missing else _touched()
    if lowered:
        _normal()
    if why:
        _begin_anew(plan, why)
    threads = len(os.listdir("/proc/self/task"))
    _say(event="warm", fit=True, seconds=round(time.monotonic() - began, 2), missing=missing, threads=threads)
    launch = _launch()
    if launch is not None:
        _say(event="taken")
        _move(launch, plan["log"])
        _become(launch, plan["module"], first)


def _begin_anew(plan: dict, why: str) -> None:  # type: ignore[type-arg]
    os.execv(sys.executable, [sys.executable, __file__, json.dumps({**plan, "unfit": why})])


def _wait_unfit(plan: dict) -> None:  # type: ignore[type-arg]
    _say(event="warm", fit=False, why=plan["unfit"])
    launch = _launch()
    if launch is not None:
        _say(event="taken")
        _move(launch, plan["log"])
        os.write(2, f"a cold start: {plan['unfit']}\n".encode())
        os.execvpe(launch["argv"][0], launch["argv"], launch["env"])


def _imported(names: list[str]) -> list[str]:
    """Import these; those that failed. A launch that needs one will say why, as it would have done cold."""
    missing = []
    for name in names:
        try:
            importlib.import_module(name)
        except Exception:
            missing.append(name)
    return missing


def _touched() -> str:
    """How the imports touched a GPU, empty if they did not."""
    torch = sys.modules.get("torch")
    if torch is not None and torch.cuda.is_initialized():
        return "an import initialised CUDA"
    with open("/proc/self/maps") as maps:
        loaded = {line.split()[-1] for line in maps if DRIVER in line}
    for path in loaded:
        if ctypes.CDLL(path).cuDeviceGetCount(ctypes.byref(ctypes.c_int())) != NOT_INITIALIZED:
            return "an import initialised CUDA's driver"
    return ""


def _idle() -> bool:
    """Take only what cores are idle, where this process may also take that back."""
    probe = os.fork()
    if probe == 0:
        try:
            os.sched_setscheduler(0, os.SCHED_IDLE, os.sched_param(0))
            os.sched_setscheduler(0, os.SCHED_OTHER, os.sched_param(0))
        except OSError:
            os._exit(1)
        os._exit(0)
    if os.waitpid(probe, 0)[1] != 0:
        return False
    os.sched_setscheduler(0, os.SCHED_IDLE, os.sched_param(0))
    return True


def _normal() -> None:
    """Give every thread, those of the imported libraries too, the priority that a process starts with."""
    for thread in os.listdir("/proc/self/task"):
        with contextlib.suppress(ProcessLookupError):
            os.sched_setscheduler(int(thread), os.SCHED_OTHER, os.sched_param(0))


def _say(**event: object) -> None:
    with contextlib.suppress(OSError):
        os.write(0, json.dumps(event).encode() + b"\n")


def _launch() -> dict | None:  # type: ignore[type-arg]
    line = b""
    while not line.endswith(b"\n"):
        chunk = os.read(0, 65536)
        if not chunk:
            return None
        line += chunk
    return json.loads(line)  # type: ignore[no-any-return]


def _move(launch: dict, ahead: str) -> None:  # type: ignore[type-arg]
    """To the launch's directory and log, which begins with what the imports said."""
    sys.stdout.flush()
    sys.stderr.flush()
    log = os.open(launch["log"], os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)
    with contextlib.suppress(OSError), open(ahead, "rb") as file:
        os.write(log, file.read())
        os.unlink(ahead)
    null = os.open(os.devnull, os.O_RDONLY)
    for descriptor, place in ((null, 0), (log, 1), (log, 2)):
        os.dup2(descriptor, place)
    os.close(null)
    os.close(log)
    os.chdir(launch["cwd"])


def _become(launch: dict, module: str, first: dict) -> None:  # type: ignore[type-arg]
    """`python -m module`: variables that differ from the first ones, arguments, path, and the run itself.

    What the imports have put into the environment stays, as it does in a cold server.
    """
    for name in first.keys() - launch["env"].keys():
        os.environ.pop(name, None)
    for name, value in launch["env"].items():
        if first.get(name) != value:
            os.environ[name] = value
    argv = launch["argv"]
    sys.orig_argv = argv
    sys.argv = argv[argv.index("-m") + 1 :]
    if not getattr(sys.flags, "safe_path", False):
        sys.path[0] = os.getcwd()
    _forget(module)
    runpy.run_module(module, run_name="__main__", alter_sys=True)


def _forget(module: str) -> None:
    """It runs as `__main__` and, as in a cold server, is not imported a second time until somebody asks."""
    sys.modules.pop(module, None)
    package, _, name = module.rpartition(".")
    if package in sys.modules and hasattr(sys.modules[package], name):
        delattr(sys.modules[package], name)


if __name__ == "__main__":
    main()
