"""One measurement as a person reads it."""

from __future__ import annotations

from rich.console import Console
from rich.table import Table

from scenarios.measurement import Measurement


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
    counts = ", ".join(f"{count} {name}" for name, count in measurement.requests.items())
    console.print(f"requests: {counts}; request set {measurement.request_set[:16]}")


def _interval(measurement: Measurement) -> str:
    if measurement.interval is None:
        return ""
    low, high = measurement.interval
    return f" (95 %: {low:.4g} to {high:.4g})"
