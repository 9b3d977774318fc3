"""What the client can do on this machine, measured against a server that does nothing but keep time.

`ceiling doctor --load` prints it; a measurement states its headroom against what was last saved.
"""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import pandas as pd

from engines.runtime import home
from scenarios import rows
from scenarios.bootstrap import quantile
from scenarios.load.driver import StageReport, run
from scenarios.scenario import Scenario, Score, Traffic
from scenarios.workload import Request, RequestSet

STREAMS, STREAM_RATE = 64, 50.0
"""Streams of the trial, and tokens/s of each."""
USABLE = 0.9
"""Share of a core that a sender may take before it lags."""
STAGE = "null"


@dataclass(frozen=True)
class Calibration:
    """One sender on this machine.

    Attributes:
        token_seconds: CPU time a streamed token.
        request_seconds: CPU time a request of one token.
        bias_p50, bias_p99: seconds by which a first token is stamped late, at 64 streams of 50 tokens/s.
        at: Unix time.
    """

    token_seconds: float
    request_seconds: float
    bias_p50: float
    bias_p99: float
    at: float

    @property
    def tokens_per_second(self) -> float:
        """Streamed tokens/s that one sender sustains."""
        return USABLE / self.token_seconds

    @property
    def requests_per_second(self) -> float:
        """Requests/s that one sender sustains."""
        return USABLE / self.request_seconds

    @property
    def streams(self) -> int:
        """Concurrent streams of 50 tokens/s that one sender sustains."""
        return int(self.tokens_per_second / STREAM_RATE)

    def headroom(self, tokens_per_second: float, senders: int = 1) -> float:
        """How many times a measurement's rate of tokens its senders could have taken."""
        return senders * self.tokens_per_second / tokens_per_second if tokens_per_second > 0 else float("inf")


def calibrate(seconds: float = 8.0) -> Calibration:
    """Measure this machine for about so long."""
    tokens = max(int(seconds * 0.6 * STREAM_RATE), 8)
    frame, stage = _trial(0.1, 1 / STREAM_RATE, STREAMS, STREAMS, tokens)
    late = _lateness(frame)
    requests = max(int(seconds * 0.2 * 2000), 200)
    _, ones = _trial(0.0, 0.0, 32, requests, 1)
    token = stage.cpu / float(frame["recount"].sum())
    return Calibration(token, ones.cpu / requests, quantile(late, 0.5), quantile(late, 0.99), time.time())


def save(calibration: Calibration) -> Path:
    """Keep it for later measurements on this machine."""
    path = _path()
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_suffix(".partial")
    partial.write_text(json.dumps(asdict(calibration)), encoding="utf-8")
    partial.rename(path)
    return path


def saved() -> Calibration | None:
    """The last one that was kept; None where none was, or it does not read."""
    try:
        return Calibration(**json.loads(_path().read_text(encoding="utf-8")))
    except (OSError, ValueError, TypeError):
        return None


class _Stamps:
    """Counts the tokens of the null server: one a word."""

    def chunk_tokens(self, chunks: Sequence[str]) -> list[int]:
        """Words of each chunk."""
        return [len(chunk.split()) for chunk in chunks]


def _path() -> Path:
    return home() / "calibration.json"


def _trial(
    ttft: float, tpot: float, streams: int, requests: int, tokens: int
) -> tuple[pd.DataFrame, StageReport]:
    traffic = Traffic(STAGE, "closed", requests, streams)
    shape = Scenario("C", "the client", Score.THROUGHPUT, 1, tokens, (traffic,))
    sent = tuple(Request(place, STAGE, f"null {place}", 1, tokens, None, 0) for place in range(requests))
    with _null_server(ttft, tpot) as url, tempfile.TemporaryDirectory() as place:
        report = run(
            url,
            RequestSet((), sent, STAGE),
            shape,
            served_model=STAGE,
            out=Path(place),
            tokenizer=_Stamps(),
            probes=0,
        )
        return rows.read(Path(place)), report.stages[-1]


@contextmanager
def _null_server(ttft: float, tpot: float) -> Iterator[str]:
    command = [sys.executable, "-P", "-m", "scenarios.load.null_server", str(ttft), str(tpot)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        yield f"http://127.0.0.1:{int(process.stdout.readline())}"
        process.stdin.close()


def _lateness(frame: pd.DataFrame) -> np.ndarray[tuple[int], np.dtype[np.float64]]:
    """Seconds between the server's stamp of each first token and the client's.

    Both are of the monotonic clock; rows hold Unix time, whose distance from it is read now.
    """
    distance = time.time() - time.monotonic()
    arrived = frame["t0"] + frame["first_content"] - distance
    written = frame["text"].str.split().str[0].astype(float) / 1e9
    return np.asarray(arrived - written, dtype=np.float64)
