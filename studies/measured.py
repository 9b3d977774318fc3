"""One measurement as a person reads it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from rich.console import Console
from rich.table import Table

from scenarios.measurement import Measurement
from scenarios.noise import Noise
from scenarios.repeats import Repeats
from studies.checked import quality_words
from studies.hardware import roofline_words, use_words
from studies.silent import silence_words


def show(console: Console, measurement: Measurement) -> None:
    """Print the score or the reasons against one, the metrics and the counts."""
    head = f"scenario {measurement.scenario}, profile {measurement.profile}, seed {measurement.seed}"
    if measurement.score is None:
        console.print(f"[bold red]invalid[/bold red]: {head}, no score")
        for reason in measurement.invalid_reasons:
            console.print(f"  [red]{reason.code}[/red]: {reason.detail}", soft_wrap=True)
    else:
        console.print(
            f"[bold green]score {measurement.score:.4g}[/bold green]{_interval(measurement)}: {head}"
        )
    if measurement.mark:
        console.print(f"[yellow]{measurement.mark}[/yellow]")
    grid = Table("metric", "value", box=None)
    for name, value in measurement.metrics.items():
        grid.add_row(name, f"{value:.5g}")
    console.print(grid)
    metrics, provenance = measurement.metrics, measurement.provenance
    for line in (silence_words(metrics), roofline_words(metrics, provenance), use_words(metrics)):
        if line:
            console.print(line, soft_wrap=True)
    if measurement.text is not None and (measurement.valid or "why" not in measurement.text):
        console.print(_origin(measurement.text), soft_wrap=True)
    if measurement.quality is not None:
        console.print(f"quality: {quality_words(measurement.quality)}", soft_wrap=True)
    counts = ", ".join(f"{count} {name}" for name, count in measurement.requests.items())
    console.print(f"requests: {counts}; request set {measurement.request_set[:16]}")


def _origin(text: Mapping[str, Any]) -> str:
    """Where the answers come from, in a line."""
    if "why" in text:
        return f"text: {text['verdict']} ({text['why']})"
    return (
        f"text: {text['verdict']} ({text['agreement']:.1%} of {text['tokens']} tokens in {text['answers']} "
        f"answers are its own choice; checked in {text['seconds']:.0f} s)"
    )


def _interval(measurement: Measurement) -> str:
    if measurement.interval is None:
        return ""
    low, high = measurement.interval
    return f" (95 %: {low:.4g} to {high:.4g})"


def show_repeats(console: Console, repeats: Repeats, noise: Noise | None) -> None:
    """Print a line a repeat, their mean, and the machine's noise floor."""
    for number, one in enumerate(repeats.measurements, start=1):
        score = "invalid" if one.score is None else f"{one.score:.4g}{_interval(one)}"
        console.print(f"repeat {number}, seed {one.seed}, block {one.fidelity.block}: {score}")
    if repeats.reason is not None:
        console.print(f"[bold red]no mean[/bold red]: {repeats.reason}", soft_wrap=True)
        return
    console.print(f"[bold green]mean {repeats.mean:.4g}[/bold green] of {_reach(repeats)}")
    within, margin = repeats.within, repeats.margin
    if within is not None and (margin is None or margin > within):
        console.print(f"[yellow]the interval is wider than {within:.1%}[/yellow]: raise --repeats")
    if noise is not None:
        console.print(
            f"noise floor of this machine here: {noise.floor() - 1:.1%} between two measurements; "
            "less is no difference"
        )


def floor_block(noise: Noise | None) -> dict[str, float] | None:
    """The noise floor for programs: a share of a score, and what it rests on."""
    if noise is None:
        return None
    return {"floor": noise.floor() - 1, "spread": noise.spread, "freedom": noise.freedom}


def _reach(repeats: Repeats) -> str:
    count = len(repeats.measurements)
    if repeats.interval is None or repeats.margin is None:
        return f"{count} repeat, whose spread nobody knows"
    low, high = repeats.interval
    return (
        f"{count} repeats (95 %: {low:.4g} to {high:.4g}, ±{repeats.margin:.1%}; "
        f"spread between repeats {repeats.spread:.1%})"
    )
