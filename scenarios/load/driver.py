"""Runs the load: writes the plan, starts the senders, gives them their starts, and collects the rows."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
import time
import uuid
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import IO, TYPE_CHECKING, Any, Self

from scenarios.load.collect import PATIENCE, Collector, Counter, Start
from scenarios.load.entries import PROBES, entries, stages
from scenarios.load.entry import Entry
from scenarios.load.plan import SendPlan, Stage, Target, share, write_bodies
from scenarios.load.rehearsal import Rehearsal
from scenarios.load.rehearsed import load_of

if TYPE_CHECKING:
    from scenarios.scenario import Scenario
    from scenarios.workload import RequestSet

LEAD_NS = 50_000_000
"""From the word to the start of a stage, so that every sender has heard it."""
STALL = 60.0


class LoadFailed(RuntimeError):
    """A sender process died: the client's fault, not the server's. The message is one line."""


@dataclass(frozen=True)
class StageReport:
    """How the client did in one stage.

    `cpu` and `wall` in seconds (CPU summed, wall the longest over senders); `lag` is by how much the event
    loop came late to its own timer: p50, p95, p99, max in seconds, of the worst sender.
    """

    name: str
    t0: float
    cpu: float
    wall: float
    opened: int
    lag: Mapping[str, float]


@dataclass(frozen=True)
class LoadReport:
    """What a load run leaves besides its rows.

    `rows` counts them, `keys` what could have been sent; `senders` is the number of processes.
    """

    stages: tuple[StageReport, ...]
    rows: int
    keys: int
    senders: int


def run(
    url: str,
    request_set: RequestSet,
    scenario: Scenario,
    *,
    served_model: str,
    out: Path,
    tokenizer: Counter | None = None,
    trust_usage: bool = False,
    headers: Mapping[str, str] | None = None,
    limit_seconds: float | None = None,
    stall_seconds: float = STALL,
    probes: int = PROBES,
    only: Sequence[Entry] | None = None,
    senders: int = 1,
    patience: float = PATIENCE,
    on_stage: Callable[[str], None] | None = None,
) -> LoadReport:
    """Send a request set to the server at `url`; rows are written under `out`.

    Warm-up first, then the rehearsal of each traffic until it is over, then the traffics one by one, and the
    probe; `only` is sent in place of all these.
    `limit_seconds` ends the whole run: what is in flight then times out, the rest stays unsent. Rows are
    written every `patience` seconds. `on_stage` is told each stage's name when it starts.
    Raises BadUrl, or LoadFailed when a sender dies.
    """
    work = out / "load"
    work.mkdir(parents=True, exist_ok=True)
    everything = entries(request_set, scenario, probes) if only is None else only
    plan = _plan(url, scenario, everything, served_model, work, headers, limit_seconds, stall_seconds)
    spills = [work / f"spill-{number}.bin" for number in range(senders)]
    collector = Collector(spills, out, everything, tokenizer, trust_usage, patience)
    with ExitStack() as stack:
        crew = [stack.enter_context(_Sender(plan, work, number, senders)) for number in range(senders)]
        collector.start()
        try:
            reports = list(_stages(crew, collector, plan.stages, Rehearsal(spills), on_stage))
        finally:
            for sender in crew:
                sender.end()
            collector.finish()
    shutil.rmtree(work)
    return LoadReport(tuple(reports), collector.count, len(everything), senders)


def _plan(
    url: str,
    scenario: Scenario,
    everything: Sequence[Entry],
    served_model: str,
    work: Path,
    headers: Mapping[str, str] | None,
    limit: float | None,
    stall: float,
) -> SendPlan:
    bodies, salt = work / "bodies.bin", uuid.uuid4().hex
    forced = scenario.length == "forced"
    places = write_bodies(bodies, (entry.body(served_model, salt, forced=forced) for entry in everything))
    made = tuple(stages(scenario, everything, places))
    return SendPlan(Target.parse(url), dict(headers or {}), str(bodies), made, limit, stall)


def _stages(
    crew: Sequence[_Sender],
    collector: Collector,
    stages: Sequence[Stage],
    rehearsal: Rehearsal,
    on_stage: Callable[[str], None] | None,
) -> Iterator[StageReport]:
    for number, stage in enumerate(stages):
        load = load_of(stage.name)
        for sender in crew:
            sender.hear("ready", number)
        if load is not None and rehearsal.over(load):
            for sender in crew:
                sender.skip(number)
            continue
        report = _stage(crew, collector, number, stage, on_stage)
        if load is not None:
            rehearsal.ended(load, number, report.wall)
        yield report


def _stage(
    crew: Sequence[_Sender],
    collector: Collector,
    number: int,
    stage: Stage,
    on_stage: Callable[[str], None] | None,
) -> StageReport:
    if on_stage is not None:
        on_stage(stage.name)
    start = Start(time.monotonic_ns() + LEAD_NS, time.time() + LEAD_NS / 1e9)
    collector.starts[number] = start
    for sender in crew:
        sender.go(start.ns)
    told = [sender.hear("done", number) for sender in crew]
    return StageReport(
        name=stage.name,
        t0=start.unix,
        cpu=sum(one["cpu"] for one in told),
        wall=max(one["wall"] for one in told),
        opened=sum(one["opened"] for one in told),
        lag=max((one["lag"] for one in told), key=lambda lag: float(lag["p99"])),
    )


class _Sender:
    """A sender process. It ends when its input does, so leaving the context ends it."""

    def __init__(self, plan: SendPlan, work: Path, number: int, senders: int) -> None:
        self._number = number
        self._log = work / f"sender-{number}.log"
        path = work / f"plan-{number}.json"
        part = share(plan.stages, number, senders)
        SendPlan(**{**plan.__dict__, "stages": part}).save(path)
        with self._log.open("wb") as log:
            self._process: subprocess.Popen[str] = subprocess.Popen(
                [
                    sys.executable,
                    "-P",
                    "-m",
                    "scenarios.load.sender",
                    str(path),
                    str(work / f"spill-{number}.bin"),
                ],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=log,
                text=True,
                process_group=0,
            )

    def go(self, start: int) -> None:
        """Start the stage that it is ready for at `start` (monotonic ns)."""
        self._tell(go=start)

    def skip(self, stage: int) -> None:
        """Leave out the stage that it is ready for."""
        self._tell(skip=stage)

    def _tell(self, **message: int) -> None:
        _pipe(self._process.stdin).write(json.dumps(message) + "\n")
        _pipe(self._process.stdin).flush()

    def hear(self, word: str, stage: int) -> dict[str, Any]:
        """The next thing it says, which must be this. Raises LoadFailed."""
        line = _pipe(self._process.stdout).readline()
        message: dict[str, Any] = json.loads(line) if line else {}
        if message.get(word) != stage:
            last = self._log.read_text(encoding="utf-8", errors="replace").strip().splitlines()[-1:]
            raise LoadFailed(f"load sender {self._number} ended early: {' '.join(last) or 'no message'}")
        return message

    def end(self) -> None:
        """Close its input and wait for it."""
        stdin = _pipe(self._process.stdin)
        if not stdin.closed:
            stdin.close()
        try:
            self._process.wait(5.0)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.end()
        _pipe(self._process.stdout).close()


def _pipe(pipe: IO[str] | None) -> IO[str]:
    assert pipe is not None
    return pipe
