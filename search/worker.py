"""What runs on a device: one trial, its events reported to the driver, which alone writes the ledger."""

from __future__ import annotations

import base64
import json
import os
import pickle
import queue
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any

from scenarios.trial import Decide, TrialSpec

SIMULATION = "CEILING_SIM_"
"""Variables of the driver that its workers' simulated servers must see too."""


@dataclass(frozen=True)
class Task:
    """A trial on its way to a worker.

    Attributes:
        slots: devices by the driver's own count; None where Ray has assigned GPUs, all that a worker sees.
        deadline: Unix time at which the trial is stopped; None where the budget runs from its launch.
        variables: of the simulation.
    """

    spec: TrialSpec
    decide: Decide | None
    run_id: str
    slots: tuple[int, ...] | None
    deadline: float | None
    variables: Mapping[str, str]

    def packed(self) -> str:
        """As text, which Ray Tune carries in its config."""
        return base64.b85encode(pickle.dumps(self)).decode()

    @classmethod
    def unpacked(cls, text: str) -> Task:
        """The inverse of `packed`."""
        task = pickle.loads(base64.b85decode(text))
        assert isinstance(task, cls)
        return task


def trainable(config: Mapping[str, Any]) -> None:
    """Ray Tune's function: runs the trial beside the thread that reports, so that reports never delay it."""
    from ray import tune

    task = Task.unpacked(config["task"])
    events: queue.SimpleQueue[dict[str, Any] | None] = queue.SimpleQueue()
    threading.Thread(target=_run, args=(task, events), name="trial", daemon=True).start()
    while (event := events.get()) is not None:
        tune.report({"ceiling": json.dumps(event)})


def _run(task: Task, events: queue.SimpleQueue[dict[str, Any] | None]) -> None:
    from scenarios.trial_run import run_trial

    try:
        _adopt(task.variables)
        spec = replace(task.spec, devices=_devices(task), seconds_left=_seconds_left(task))
        trial = run_trial(spec, _putter(events), task.decide, task.run_id)
        events.put({"event": "trial", **trial.to_json(), "trial": trial.number})
    except Exception as error:
        events.put({"event": "failed", "why": f"{type(error).__name__}: {error}".splitlines()[0]})
    finally:
        events.put(None)


def _putter(events: queue.SimpleQueue[dict[str, Any] | None]) -> Callable[[Mapping[str, Any]], None]:
    return lambda event: events.put(dict(event))


def _devices(task: Task) -> tuple[int, ...]:
    return task.slots if task.slots is not None else tuple(range(len(task.spec.devices)))


def _seconds_left(task: Task) -> float | None:
    return task.spec.seconds_left if task.deadline is None else task.deadline - time.time()


def _adopt(variables: Mapping[str, str]) -> None:
    """Workers are reused: the variables are this trial's, whatever the last one's were."""
    for name in [name for name in os.environ if name.startswith(SIMULATION)]:
        del os.environ[name]
    os.environ.update(variables)
