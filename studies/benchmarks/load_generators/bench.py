"""One load generator at one job, its CPU time watched and its figures held to what the server did."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import numpy.typing as npt

from scenarios import arrivals
from scenarios.bootstrap import quantile
from scenarios.processes import below, processes
from studies.benchmarks.load_generators.jobs import Job
from studies.benchmarks.load_generators.peers import Figures, Peer

LIMIT = 180.0
"""Seconds that a load generator may take for a job, its own start-up included."""
PERIOD = 0.2

Floats = npt.NDArray[np.float64]


@dataclass(frozen=True)
class Outcome:
    """What came of a job.

    Attributes:
        why: what went wrong, None where figures are there.
        reported: what the load generator says, in seconds.
        truth: the same by the server's own record, and `rate` and `dispersion` of arrivals.
        token_cpu: CPU seconds a token while tokens were streamed, of all its processes.
        later_cpu: CPU seconds a token that it took after the last one was sent.
    """

    why: str | None = None
    reported: Figures = field(default_factory=dict)
    truth: Figures = field(default_factory=dict)
    token_cpu: float = 0.0
    later_cpu: float = 0.0


def measure(peer: Peer, python: str, job: Job, model: Path, out: Path) -> Outcome:
    """Run the job. Never raises for what a load generator did; its output stays in `out`."""
    out.mkdir(parents=True, exist_ok=True)
    log = out / "server.jsonl"
    with _server(job, log) as url:
        command = peer.command(python, job, url, model, out)
        status, cpu = _watched(command, peer.variables, out)
    if status != 0:
        return Outcome(
            f"{'took over ' + str(LIMIT) + ' s' if status is None else f'exit {status}'}: {_end(out)}"
        )
    try:
        reported = peer.read(out, (out / "stdout").read_text())
    except (OSError, ValueError, LookupError, StopIteration, TypeError) as error:
        return Outcome(f"its report does not read: {type(error).__name__}: {error}")
    record = [json.loads(line) for line in log.read_text().splitlines()]
    return _judged(job, reported, sorted(record, key=lambda one: one["arrived"]), cpu)


def _judged(
    job: Job, reported: Figures, record: list[dict[str, int]], cpu: Sequence[tuple[float, float]]
) -> Outcome:
    last = record[-job.requests :]
    arrived, first, end = (
        np.array([one[name] for one in last]) / 1e9 for name in ("arrived", "first", "last")
    )
    tokens = np.array([one["tokens"] for one in last])
    steps = (end - first) / np.maximum(tokens - 1, 1)
    truth = {
        **_quantiles("ttft", first - arrived),
        **_quantiles("tpot", steps),
        "requests": float(len(record)),
        "rate": arrivals.rate(arrived.tolist()),
        "dispersion": arrivals.dispersion(arrived.tolist()),
    }
    at, spent = np.array(cpu).T
    busy = np.interp([arrived.min(), end.max(), at[-1]], at, spent)
    whole = float(tokens.sum())
    return Outcome(None, reported, truth, float(busy[1] - busy[0]) / whole, float(busy[2] - busy[1]) / whole)


def _quantiles(name: str, values: Floats) -> Figures:
    return {f"{name}_p50": quantile(values, 0.5), f"{name}_p99": quantile(values, 0.99)}


@contextmanager
def _server(job: Job, log: Path) -> Iterator[str]:
    module = "studies.benchmarks.load_generators.server"
    command = [sys.executable, "-m", module, str(job.ttft), str(job.tpot), str(log)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        try:
            yield f"http://127.0.0.1:{int(process.stdout.readline())}"
        finally:
            process.stdin.close()


def _watched(
    command: Sequence[str], variables: Mapping[str, str], out: Path
) -> tuple[int | None, list[tuple[float, float]]]:
    """Exit status (None: ended after LIMIT), and (monotonic s, CPU s of the process and all below it)."""
    environment = {**os.environ, **variables, "COLUMNS": "200"}
    with (out / "stdout").open("w") as said, (out / "stderr").open("w") as errors:
        process = subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=said,
            stderr=errors,
            env=environment,
            start_new_session=True,
        )
    samples = [(time.monotonic(), 0.0)]
    over = threading.Event()
    thread = threading.Thread(target=_sample, args=(process.pid, samples, over))
    thread.start()
    try:
        status: int | None = process.wait(LIMIT)
    except subprocess.TimeoutExpired:
        status = None
    finally:
        over.set()
        thread.join()
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()
    return status, samples


def _sample(pid: int, samples: list[tuple[float, float]], over: threading.Event) -> None:
    known: dict[tuple[int, int], float] = {}
    while not over.wait(PERIOD):
        table = processes()
        for one in below({pid}, table):
            known[one, table[one].start] = table[one].own
        samples.append((time.monotonic(), sum(known.values())))


def _end(out: Path) -> str:
    text = (out / "stderr").read_text(errors="replace") + (out / "stdout").read_text(errors="replace")
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    told = [line for line in lines if "rror" in line]
    return (told or lines or ["it said nothing"])[-1][:200]
