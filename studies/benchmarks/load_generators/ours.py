"""Ceiling's own client in the line-up: `python -m studies.benchmarks.load_generators.ours JOB URL MODEL`."""

from __future__ import annotations

import json
import sys
import tempfile
from pathlib import Path

from scenarios import arrivals, metrics, rows, tokenizer
from scenarios.bootstrap import quantile
from scenarios.load.driver import run
from scenarios.requests import reduce
from scenarios.scenario import Scenario, Score, Traffic
from scenarios.workload import Request, RequestSet
from studies.benchmarks.load_generators.jobs import Job
from studies.benchmarks.load_generators.server import MODEL


def main(job: Job, url: str, model: Path) -> dict[str, float]:
    """Run the job; what the scorer makes of its rows, in seconds."""
    traffic = (
        Traffic("load", "poisson", job.requests, rate=job.rate)
        if job.rate
        else Traffic("load", "closed", job.requests, job.streams)
    )
    shape = Scenario("C", "the client", Score.THROUGHPUT, job.prompt, job.tokens, (traffic,))
    offsets = arrivals.offsets(traffic, job.requests, seed=1, scenario="C", block=0)
    sent = tuple(
        Request(place, "load", f"{job.text} {place}", job.prompt, job.tokens, offset, place)
        for place, offset in enumerate(offsets)
    )
    with tempfile.TemporaryDirectory() as place:
        run(
            url,
            RequestSet((), sent, "load"),
            shape,
            served_model=MODEL,
            out=Path(place),
            tokenizer=tokenizer.load(model),
            probes=0,
        )
        reduced = reduce(rows.scan(Path(place)))
    made = metrics.metrics(reduced, shape)
    tpot = reduced.scored["tpot"].to_numpy(dtype=float)
    return {
        "ttft_p50": made["ttft_p50"],
        "ttft_p99": quantile(reduced.scored["ttft"].to_numpy(dtype=float), 0.99),
        "tpot_p50": quantile(tpot, 0.5),
        "tpot_p99": quantile(tpot, 0.99),
        "requests": float(reduced.scored["ok"].sum()),
    }


if __name__ == "__main__":
    told = main(Job(**json.loads(sys.argv[1])), sys.argv[2], Path(sys.argv[3]))
    print(json.dumps(told))
