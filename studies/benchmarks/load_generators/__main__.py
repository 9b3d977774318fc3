"""`python -m studies.benchmarks.load_generators WORK --model DIR`: install, run, and print the tables.

Environments and results lie below WORK. Results are kept a load generator and job, so that a run may be cut
into parts (`--only`, `--jobs`); the tables show all that WORK holds. Some three minutes a load generator.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

from engines.contract import EngineNotInstalled
from studies.benchmarks.load_generators.bench import Outcome, measure
from studies.benchmarks.load_generators.jobs import JOBS
from studies.benchmarks.load_generators.peers import PEERS, Peer, python_of
from studies.benchmarks.load_generators.table import tables


def main(argv: Sequence[str]) -> None:
    """Run what was asked for and print the tables of all that is there."""
    options = _parser().parse_args(argv)
    only = options.only.split(",") if options.only else [peer.name for peer in PEERS]
    jobs = [job for job in JOBS if job.name in options.jobs.split(",")]
    for peer in PEERS:
        for job in jobs if peer.name in only else ():
            print(f"{peer.name}: {job.name}", file=sys.stderr, flush=True)
            out = options.work / "results" / f"{peer.name}-{job.name}"
            try:
                outcome = measure(peer, python_of(peer, options.work), job, options.model, out)
            except (EngineNotInstalled, subprocess.CalledProcessError, OSError) as error:
                outcome = Outcome(f"not installed: {error}")
                out.mkdir(parents=True, exist_ok=True)
            (out / "outcome.json").write_text(json.dumps(asdict(outcome)), encoding="utf-8")
            print(f"  {outcome.why or outcome.reported}", file=sys.stderr, flush=True)
    print(tables({peer.name: _kept(options.work, peer) for peer in PEERS}, JOBS, _versions(options.work)))


def _kept(work: Path, peer: Peer) -> dict[str, Outcome]:
    places = {job.name: work / "results" / f"{peer.name}-{job.name}" / "outcome.json" for job in JOBS}
    return {
        name: Outcome(**json.loads(path.read_text(encoding="utf-8")))
        for name, path in places.items()
        if path.exists()
    }


def _versions(work: Path) -> dict[str, str]:
    """Versions of what pip installed below WORK, and of the engine."""
    from engines import runtime

    found = {"vllm bench serve": str(runtime.record("vllm").get("version", ""))}
    for peer in PEERS:
        pattern = f"{peer.package.replace('-', '_')}-*.dist-info"
        for place in (
            sorted((work / peer.package).glob(f"lib/*/site-packages/{pattern}")) if peer.package else ()
        ):
            found[peer.name] = place.name.removesuffix(".dist-info").rpartition("-")[2]
    return found


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m studies.benchmarks.load_generators", description=__doc__)
    parser.add_argument("work", type=Path, help="directory of environments and results")
    parser.add_argument("--model", type=Path, required=True, help="directory with the tokenizer")
    parser.add_argument("--only", help="load generators, with commas")
    parser.add_argument("--jobs", default=",".join(job.name for job in JOBS), help="jobs, with commas")
    return parser


if __name__ == "__main__":
    main(sys.argv[1:])
