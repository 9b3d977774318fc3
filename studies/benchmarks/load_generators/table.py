"""The results as Markdown tables."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

from studies.benchmarks.load_generators.bench import Outcome
from studies.benchmarks.load_generators.jobs import Job

Results = Mapping[str, Mapping[str, Outcome]]
"""Load generator -> job -> what came of it."""


def tables(results: Results, jobs: Sequence[Job], versions: Mapping[str, str]) -> str:
    """CPU and bias of the closed loops, arrivals of the open one, and what did not run."""
    closed = [job for job in jobs if not job.rate]
    parts = [_bias(results, closed, versions), _arrivals(results, jobs), "\n".join(_failures(results))]
    return "\n\n".join(part for part in parts if part)


def _bias(results: Results, jobs: Sequence[Job], versions: Mapping[str, str]) -> str:
    names = [f"{job.streams} stream{'s' if job.streams > 1 else ''}" for job in jobs]
    cells = [f"{name}: {what}" for name in names for what in ("TTFT", "per token")]
    head = ["load generator", "tokens/s per core at 64 / 512", "us a token at 64 (after)", *cells]
    lines = [_line(head), _line(["---"] * len(head))]
    for peer, made in results.items():
        few, many = made.get("64", Outcome("not run")), made.get("512", Outcome("not run"))
        lines.append(
            _line(
                [
                    f"{peer} {versions.get(peer, '')}".strip(),
                    f"{_rate(few)} / {_rate(many)}",
                    "-" if few.why else f"{few.token_cpu * 1e6:.0f} ({few.later_cpu * 1e6:.0f})",
                    *(cell for job in jobs for cell in _cells(made.get(job.name, Outcome("not run")))),
                ]
            )
        )
    return "\n".join(lines)


def _rate(outcome: Outcome) -> str:
    return "-" if outcome.why or not outcome.token_cpu else f"{1 / outcome.token_cpu:,.0f}"


def _cells(outcome: Outcome) -> tuple[str, str]:
    if outcome.why:
        return "-", "-"
    return _difference(outcome, "ttft", 1e3, "ms"), _difference(outcome, "tpot", 1e6, "us")


def _difference(outcome: Outcome, name: str, scale: float, unit: str) -> str:
    """Reported less true, at p50 and p99."""
    made = [
        f"{(outcome.reported[key] - outcome.truth[key]) * scale:+.{2 if scale < 1e4 else 0}f}"
        for key in (f"{name}_p50", f"{name}_p99")
    ]
    return f"{' / '.join(made)} {unit}"


def _arrivals(results: Results, jobs: Sequence[Job]) -> str:
    rated = [job for job in jobs if job.rate]
    if not rated:
        return ""
    job = rated[0]
    lines = [
        _line(["load generator", f"rate (asked {job.rate:g}/s)", "dispersion (Poisson: 1)"]),
        _line(["---"] * 3),
    ]
    for peer, made in results.items():
        one = made.get(job.name, Outcome("not run"))
        if not one.why:
            lines.append(_line([peer, f"{one.truth['rate']:.2f}/s", f"{one.truth['dispersion']:.2f}"]))
    return "\n".join(lines)


def _failures(results: Results) -> Iterator[str]:
    for peer, made in results.items():
        for job, outcome in made.items():
            if outcome.why:
                yield f"- {peer}, {job}: did not run: {outcome.why}"
            elif outcome.reported["requests"] != outcome.truth["requests"]:
                yield (
                    f"- {peer}, {job}: reports {outcome.reported['requests']:.0f} requests, "
                    f"the server answered {outcome.truth['requests']:.0f}"
                )


def _line(cells: Sequence[str]) -> str:
    return f"| {' | '.join(cells)} |"
