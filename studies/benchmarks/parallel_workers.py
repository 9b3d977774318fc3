"""How many more trials several devices give than one: real searches over the simulated engine, in real time.

    python -m studies.benchmarks.parallel_workers --model smollm2-135m

Servers sleep through starts and requests, so that a few cores are enough for all of them: what is measured is
the harness, from Ray to the scorer.
"""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import typer

from engines.contract import Model
from scenarios import ledger
from search.search import search
from search.spec import SearchSpec
from studies.commands.options import opened_model, text_source
from studies.terminal import err, out

SPACE = """\
engine: simulated
releases: ">=1,<2"
parameters:
  - name: gpu-memory-utilization
    choices: [{choices}]
    default: 0.9
    ordered: true
"""
"""A flag that changes neither starts nor speed, so that all trials cost the same."""

SIMULATION = {"FIXED": "ttft=0.5,tpot=0.05", "NOISE_SEED": "1"}
"""One request of 32 tokens takes two seconds whatever else runs."""


@dataclass(frozen=True)
class Speed:
    """What one search came to: devices, trials that ended, wall seconds held, GPU-seconds that lay idle."""

    devices: int
    trials: int
    wall: float
    idle: float

    @property
    def rate(self) -> float:
        """Trials an hour."""
        return 3600 * self.trials / self.wall

    def words(self) -> str:
        """One line for people."""
        return (
            f"{self.devices} device(s): {self.trials} trials in {self.wall:.0f} s, "
            f"{self.rate:.0f} an hour; idle {self.idle / (self.devices * self.wall):.1%} of the GPU-seconds, "
            f"{self.idle / self.trials:.1f} s a trial"
        )


def main(
    model: Annotated[str, typer.Option("--model", help="A model directory, for its tokenizer.")],
    devices: Annotated[int, typer.Option("--devices", min=2, help="How many at once.")] = 4,
    trials: Annotated[int, typer.Option("--trials", min=2, help="Trials a device.")] = 6,
    start: Annotated[float, typer.Option("--start-seconds", help="Of a simulated start.")] = 20.0,
    text: Annotated[str | None, typer.Option("--text", help="Prompts from: sotu, jsonl:FILE.")] = None,
) -> None:
    """Search with one device, then with several, and compare the trials an hour."""
    opened, source = opened_model(model, "smoke"), text_source(text, "smoke")
    speeds = []
    with tempfile.TemporaryDirectory() as folder, _simulation(start):
        for count in (1, devices):
            err().print(f"searching with {count} simulated device(s)")
            speeds.append(_speed(opened, source, Path(folder), count, trials * count))
            out().print(speeds[-1].words(), soft_wrap=True)
    ratio = speeds[1].rate / speeds[0].rate
    out().print(f"{devices} devices give {ratio:.2f} times the trials of one", soft_wrap=True)


@contextmanager
def _simulation(start: float) -> Iterator[None]:
    told = {f"CEILING_SIM_{name}": value for name, value in SIMULATION.items()}
    told["CEILING_SIM_START_SECONDS"] = f"{start:g}"
    before = dict(os.environ)
    os.environ.update(told)
    try:
        yield
    finally:
        for name in told:
            os.environ.pop(name, None)
        os.environ.update({name: before[name] for name in told if name in before})


def _speed(model: Model, text: str, folder: Path, devices: int, trials: int) -> Speed:
    space = folder / "space.yaml"
    space.write_text(SPACE.format(choices=", ".join(f"{0.6 + 0.01 * step:.2f}" for step in range(35))))
    spec = SearchSpec(
        engines=("simulated",),
        scenario="B",
        profile="smoke",
        model=model,
        planner="random",
        strategy="full",
        devices=devices,
        trials=trials,
        space_files=(space,),
        text=text,
        baseline=False,
    )
    run = folder / f"run-{devices}"
    search(spec, run)
    return _of(ledger.read(run)[0], devices)


def _of(events: list[dict[str, Any]], devices: int) -> Speed:
    """From the first launch to the last teardown before the final trial, which runs alone."""
    held = [
        (event["launched"], event["launched"] + event["gpu_seconds"])
        for event in events
        if event["event"] == "trial" and event["origin"] != "final"
    ]
    wall = max(end for _, end in held) - min(begin for begin, _ in held)
    return Speed(devices, len(held), wall, devices * wall - sum(end - begin for begin, end in held))


if __name__ == "__main__":
    typer.run(main)
