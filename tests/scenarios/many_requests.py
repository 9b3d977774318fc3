"""One measurement of very many requests, and the scorer's memory on the way.

`python -m tests.scenarios.many_requests 100000 DIRECTORY` scores the simulated engine (fixed timing, four
tokens an answer, 64 at a time), keeps the rows in DIRECTORY/rows, and prints a line of JSON.
"""

from __future__ import annotations

import json
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import psutil
import yaml

from engines.contract import Value
from engines.registry import engine
from engines.server import Server
from scenarios.models import open_model
from scenarios.score import score
from tests.scenarios.plain_text import write_jsonl
from tests.tiny_model import make_tiny_model

TIMING: dict[str, Value] = {"env.CEILING_SIM_FIXED": "ttft=0.02,tpot=0.005", "max-num-seqs": 256}
WORDS = 4000
MB = 1 << 20


def main(count: int, directory: Path) -> None:
    """Measure, and print what came of it."""
    model = open_model(make_tiny_model(directory / "model"))
    text = write_jsonl(directory / "text.jsonl", documents=count // 250 + 12, words=WORDS)
    profile = directory / "many.yaml"
    profile.write_text(yaml.safe_dump(_profile(count)), encoding="utf-8")
    began = time.monotonic()
    with (
        Server(engine("simulated"), TIMING, model, log=directory / "log") as server,
        _memory(directory / "rows") as seen,
    ):
        made = score(
            server.url,
            "D",
            profile=str(profile),
            seed=1,
            model=model,
            text=text,
            out=directory / "rows",
            observer=lambda event: print(json.dumps(dict(event)), flush=True),
        )
    told = {
        "requests": dict(made.requests),
        "score": made.score,
        "reasons": [f"{reason.code}: {reason.detail}" for reason in made.invalid_reasons],
        "req_per_s": round(made.metrics["req_per_s"], 1),
        "seconds": round(time.monotonic() - began, 1),
        "parts": len(list((directory / "rows").glob("*/part-*.parquet"))),
        "memory_mb": seen,
    }
    print(json.dumps(told), flush=True)


def _profile(count: int) -> dict[str, object]:
    traffic = {"name": "closed", "kind": "closed", "requests": count, "concurrency": 64}
    scenario = {
        "bottleneck": "all-in-one",
        "score": "(1/TTFT p50 x 1/TPOT p50 x req/s)^(1/3)",
        "input_tokens": 64,
        "output_tokens": 4,
        "traffics": [traffic],
    }
    return {"name": "many", "text": "sotu", "max_length": 2048, "scenarios": {"D": scenario}}


@contextmanager
def _memory(rows: Path) -> Iterator[dict[str, float]]:
    """The scorer's resident memory (its senders' apart) by how many part files of rows there were."""
    seen: dict[str, float] = {}
    over = threading.Event()

    def look() -> None:
        me = psutil.Process()
        parts = len(list(rows.glob("*/part-*.parquet")))
        seen[f"after {parts} parts"] = round(me.memory_info().rss / MB, 1)
        for child in me.children(recursive=True):
            with suppress(psutil.Error):
                if "scenarios.load.sender" in child.cmdline():
                    used = round(child.memory_info().rss / MB, 1)
                    seen["sender at most"] = max(seen.get("sender at most", 0.0), used)

    def watch() -> None:
        while not over.wait(0.25):
            look()

    thread = threading.Thread(target=watch, daemon=True)
    thread.start()
    try:
        yield seen
    finally:
        over.set()
        thread.join()


if __name__ == "__main__":
    main(int(sys.argv[1]), Path(sys.argv[2]))
