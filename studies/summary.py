"""The end of a run, as a table: what was reached, with which launch, and where the GPU-seconds went."""

from __future__ import annotations

import shlex
from dataclasses import asdict
from typing import Any

from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.table import Table

from scenarios.profiles import scenario
from scenarios.scenario import ScenarioError
from studies.checked import as_json, checked
from studies.durations import short
from studies.hardware import memory_words, of_roofline, roofline_words, share_words, use_words
from studies.progress import config_words
from studies.record import Run
from studies.setting import is_simulated
from studies.speedup import Part, Speedup, held_out_default, over_default, over_torch


def show(console: Console, run: Run) -> None:
    """Print the summary of a run, finished or not."""
    if is_simulated(run):
        console.print("[yellow]SIMULATION: these figures are no measurement of any engine[/yellow]")
    console.print(_scores(run))
    _show_reasons(console, run)
    _show_checked(console, run)
    _show_command(console, run)
    console.print(_gpu_seconds(run))
    _show_devices(console, run)
    _show_next(console, run)


def speedups(run: Run) -> dict[str, Any]:
    """The result with its speedups, for `--json`."""
    result = run.result
    data = {**result, "run": str(run.path), "ended": run.ended, "simulation": is_simulated(run)}
    for name in ("default", "found", "submitted"):
        part = result.get(name)
        if part:
            data[name] = {
                **part,
                "over_torch": _plain(over_torch(run, part)),
                "over_default": _plain(over_default(run, part)),
                "of_roofline": of_roofline(run, part),
                **({"checked": as_json(run)} if name == "submitted" else {}),
            }
    return data


def _plain(speedup: Speedup | None) -> dict[str, Any] | None:
    return asdict(speedup) if speedup else None


def _scores(run: Run) -> Table:
    seeds = f"seeds {run.seeds[0]} (dev), {run.seeds[1]} (held out)"
    engines = "+".join(run.engines)
    title = f"Scenario {run.scenario}, profile {run.header['profile']}: {run.method} over {engines}, {seeds}"
    grid = Table(title=f"{title}\nscore: {unit(run)}", title_justify="left", box=SIMPLE_HEAD)
    grid.add_column("server", no_wrap=True)
    grid.add_column("config", overflow="fold")
    roofs = {name: of_roofline(run, part) for name, part in _lines(run)}
    known = any(share is not None for share in roofs.values())
    for name in ("score", "over torch", "over default", *(["of roofline"] if known else [])):
        grid.add_column(name, justify="right")
    for name, part in _lines(run):
        if part is not None or name in ("best found", "submitted"):
            last = [share_words(roofs[name])] if known else []
            grid.add_row(name, _config(run, name, part), *_figures(run, part), *last)
    own = run.result.get("default")
    if run.result.get("baseline") and own and not run.measured_whole(own):
        grid.caption = (
            "scores of parts of the scenario stand over torch by their ratio to the default's, "
            "times its whole score over torch's"
        )
        grid.caption_justify = "left"
    return grid


def unit(run: Run) -> str:
    """What the run's score is, in words; higher is better."""
    try:
        shape = scenario(str(run.header["profile"]), run.scenario)
        counts = " (natural lengths: by the share of the tokens asked for)" * (shape.length == "natural")
        return f"{shape.score.value}{counts}, higher is better"
    except ScenarioError:
        return "higher is better"


def _lines(run: Run) -> list[tuple[str, Part | None]]:
    result = run.result
    return [
        ("torch baseline", result.get("baseline")),
        ("engine default", result.get("default")),
        ("best found", result.get("found")),
        ("default (held out)", held_out_default(run)),
        ("submitted", result.get("submitted")),
    ]


def _config(run: Run, name: str, part: Part | None) -> str:
    if part is None or name == "torch baseline":
        return ""
    words = "defaults" if "default" in name else config_words(part.get("config") or {})
    return f"{part.get('engine') or ''}: {words}".lstrip(": ")


def _figures(run: Run, part: Part | None) -> list[str]:
    if part is None:
        return ["-", "-", "-"]
    if part.get("score") is None:
        return ["[red]invalid[/red]", "-", "-"]
    default = over_default(run, part) if _like_the_default(run, part) else None
    return [f"{part['score']:.4g}", *(str(over or "-") for over in (over_torch(run, part), default))]


def _like_the_default(run: Run, part: Part) -> bool:
    """Not the torch baseline, a whole scenario's, where only parts of it were measured of the default."""
    own = run.result.get("default")
    return part is not run.result.get("baseline") or (own is not None and run.measured_whole(own))


def _show_reasons(console: Console, run: Run) -> None:
    submitted = run.result.get("submitted")
    if submitted and submitted.get("reason"):
        counts = "" if submitted.get("valid") else "submitted counts 1.00x: "
        console.print(f"{counts}{submitted['reason']}", soft_wrap=True, markup=False)
    if run.result.get("nothing_submitted"):
        console.print(f"nothing submitted: {run.result['nothing_submitted']}", soft_wrap=True, markup=False)
    if not run.result.get("found"):
        valid = bool(submitted and submitted.get("valid"))
        console.print(f"[red]no valid measurement{' ahead of the final one' if valid else ''}[/red]")


def _show_checked(console: Console, run: Run) -> None:
    found = checked(run)
    if found:
        console.print(f"answers submitted: {found}", soft_wrap=True, markup=False)


def _show_command(console: Console, run: Run) -> None:
    submitted, found = run.result.get("submitted") or {}, run.result.get("found") or {}
    best = submitted if submitted.get("valid") and submitted.get("command") else found
    command = best.get("command")
    if command:
        console.print("\n[bold]Launch it yourself[/bold]")
        snapshot = run.path / "snapshots" / "final.tar.gz"
        if best is submitted and run.header.get("kind") == "agent" and snapshot.is_file():
            console.print(
                f"mkdir -p submitted && tar -xzf {snapshot} -C submitted && cd submitted", soft_wrap=True
            )
        console.print(command, markup=False, soft_wrap=True)
        console.print()


def _gpu_seconds(run: Run) -> Table:
    total = float(run.result.get("gpu_seconds") or 0.0)
    budget = run.header.get("budget")
    of = f" of {short(budget)}" if budget else ""
    grid = Table(
        title=f"GPU time: {short(total)}{of} ({total:.1f} GPU-seconds)", title_justify="left", box=SIMPLE_HEAD
    )
    split = run.result.get("split", {})
    for name in split:
        grid.add_column(name, justify="right")
    grid.add_column("trials", justify="right")
    grid.add_column("outcomes")
    outcomes = ", ".join(f"{count} {state}" for state, count in run.result.get("outcomes", {}).items())
    shares = [f"{seconds:.1f} s ({_share(seconds, total)})" for seconds in split.values()]
    grid.add_row(*shares, str(run.result.get("trials", 0)), outcomes)
    checking = float(run.result.get("check_seconds") or 0.0)
    if checking:
        grid.caption = (
            f"and {checking:.1f} s of holding answers against the model, which nobody is charged for"
        )
        grid.caption_justify = "left"
    return grid


def _show_devices(console: Console, run: Run) -> None:
    best = run.result.get("submitted") or run.result.get("found")
    measured = (run.measurement_of(best) if best else None) or {}
    metrics = measured.get("metrics", {})
    for line in (
        roofline_words(metrics, measured.get("provenance", {})),
        use_words(metrics),
        memory_words(run),
    ):
        if line:
            console.print(line, soft_wrap=True)


def _share(seconds: float, total: float) -> str:
    return f"{100 * seconds / total:.0f} %" if total else "-"


def _show_next(console: Console, run: Run) -> None:
    path = shlex.quote(str(run.path))
    console.print(f"Everything is in {run.path}", soft_wrap=True)
    if run.ended is None or run.ended == "interrupted":
        console.print(f"Go on where it stopped: the same command with --run {path} --resume", soft_wrap=True)
    console.print(f"See it as a page:       ceiling report {path} --html report.html", soft_wrap=True)
    console.print("Hold it against others: ceiling compare RUN...", soft_wrap=True, markup=False)
