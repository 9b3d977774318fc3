"""Cells of a study side by side, each in a process of its own that sees only devices and cores of its own."""

from __future__ import annotations

import asyncio
import ctypes
import json
import os
import signal
import sys
import tempfile
from collections.abc import Iterable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from engines.host import Host
from studies.cell import Cell
from studies.errors import BadInput
from studies.setting import is_real
from studies.study_run import CellState, Outcome, Say, check_begun

PR_SET_PDEATHSIG = 1
VISIBLE = "CUDA_VISIBLE_DEVICES"


@dataclass(frozen=True)
class Lane:
    """What one cell at a time has to itself.

    `selectors` is what $CUDA_VISIBLE_DEVICES must hold, empty where there are no GPUs to choose from; `cores`
    are the CPUs that its processes may run on.
    """

    selectors: tuple[str, ...]
    cores: frozenset[int]

    @property
    def title(self) -> str:
        """For people, as in ` on GPU 0`; empty without one."""
        return f" on GPU {','.join(self.selectors)}" if self.selectors else ""


def lanes(cells: Sequence[Cell], at_once: int, host: Host) -> list[Lane]:
    """So many lanes, each with as many GPUs as the largest cell needs and its share of the cores.

    Simulated engines hold no device, so that any number of them may run. Raises BadInput.
    """
    devices = max((cell.devices for cell in cells), default=1)
    if all(not is_real(engine) for cell in cells for engine in cell.engines):
        selectors: list[tuple[str, ...]] = [()] * at_once
    else:
        there = [str(device.selector) for device in host.devices if device.kind == "cuda"]
        if len(there) < at_once * devices:
            raise BadInput(
                f"--at-once {at_once}: {at_once * devices} GPUs are needed and {len(there)} are here "
                f"({VISIBLE}): lower it, or leave it out and let cells run one after another"
            )
        selectors = [tuple(there[at * devices : (at + 1) * devices]) for at in range(at_once)]
    return [Lane(own, cores) for own, cores in zip(selectors, _shared(at_once), strict=True)]


def _shared(parts: int) -> Iterator[frozenset[int]]:
    """This process's cores in equal parts, neighbours together; all of them each where there are too few."""
    cores = sorted(os.sched_getaffinity(0))
    size = len(cores) // parts
    for part in range(parts):
        yield frozenset(cores[part * size : (part + 1) * size] or cores)


def run_at_once(
    found: Sequence[CellState], file: Path, runs: Path, places: Sequence[Lane], say: Say, *, resume: bool
) -> list[CellState]:
    """Run what is not done, a cell a lane; as `run_cells`, and Ctrl-C interrupts all cells that run.

    Every cell's own output goes to NAME.log beside its directory. Raises BadInput when cells were begun and
    `resume` is False.
    """
    check_begun(found, resume=resume)
    study = _Study(file, runs, say, resume=resume)
    for state in found:
        if state.outcome != "done":
            state.path.parent.mkdir(parents=True, exist_ok=True)
    with suppress(KeyboardInterrupt):
        asyncio.run(study.run(found, places))
    return [study.ended.get(state.cell.name, state) for state in found]


class _Study:
    def __init__(self, file: Path, runs: Path, say: Say, *, resume: bool) -> None:
        self.ended: dict[str, CellState] = {}
        self._file = file
        self._runs = runs
        self._say = say
        self._resume = resume

    async def run(self, found: Sequence[CellState], places: Iterable[Lane]) -> None:
        """Every lane takes the next cell until there is none left."""
        waiting = iter([(n, state) for n, state in enumerate(found, 1) if state.outcome != "done"])
        async with asyncio.TaskGroup() as group:
            for lane in places:
                group.create_task(self._lane(lane, waiting, len(found)))

    async def _lane(self, lane: Lane, waiting: Iterator[tuple[int, CellState]], of: int) -> None:
        for number, state in waiting:
            self._say(f"cell {number} of {of}: {state.cell.name}{lane.title}")
            ended = await self._cell(number, state, lane)
            self.ended[state.cell.name] = ended
            self._say(f"cell {number} of {of}: {ended.outcome} {ended.detail}".rstrip())

    async def _cell(self, number: int, state: CellState, lane: Lane) -> CellState:
        log = state.path.with_name(f"{state.path.name}.log")
        log.write_bytes(b"")
        with tempfile.TemporaryDirectory(prefix="ceiling-cell-") as scratch, log.open("ab") as output:
            told = Path(scratch) / "told.json"
            process = await asyncio.create_subprocess_exec(
                *self._command(state.cell, told),
                stdin=asyncio.subprocess.DEVNULL,
                stdout=output,
                stderr=asyncio.subprocess.PIPE,
                env={**os.environ, **({VISIBLE: ",".join(lane.selectors)} if lane.selectors else {})},
                start_new_session=True,
                preexec_fn=lambda: _own(lane.cores),
            )
            try:
                await self._follow(process, number, log)
                code = await process.wait()
            except asyncio.CancelledError:
                with suppress(ProcessLookupError):
                    process.send_signal(signal.SIGINT)
                await self._follow(process, number, log)
                await process.wait()
                self.ended[state.cell.name] = CellState(state.cell, state.path, "interrupted")
                raise
            outcome, detail = _outcome(told, code, log)
        return CellState(state.cell, state.path, outcome, detail)

    def _command(self, cell: Cell, told: Path) -> list[str]:
        start = [sys.executable, "-P", "-c", "from studies.cli import main; main()"]
        where = ["study", str(self._file), "--cell", cell.name, "--runs", str(self._runs)]
        return [*start, *where, "--json", str(told), *(["--resume"] if self._resume else [])]

    async def _follow(self, process: asyncio.subprocess.Process, number: int, log: Path) -> None:
        """What it says on stderr, into its log and on to ours."""
        assert process.stderr is not None
        with log.open("ab") as file:
            async for line in process.stderr:
                file.write(line)
                file.flush()
                self._say(f"[{number}] {line.decode(errors='replace').rstrip()}")


def _own(cores: frozenset[int]) -> None:
    """In the new process: its cores, and a SIGTERM should the study die without a word."""
    os.sched_setaffinity(0, cores)
    ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGTERM, 0, 0, 0)


def _outcome(told: Path, code: int, log: Path) -> tuple[Outcome, str]:
    """What its process said of a cell, or how it died."""
    if told.is_file():
        cell = json.loads(told.read_text())["cells"]["cells"][0]
        return cell["outcome"], cell["detail"]
    lines = log.read_text(errors="replace").split("\n")
    last = next((line for line in reversed(lines) if line.strip()), "")
    return "failed", f"its process ended with {code}: {last.strip()} (log: {log})"
