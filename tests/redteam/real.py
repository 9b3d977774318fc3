"""Every attack in front of a real engine: `python -m tests.redteam.real vllm smollm2-135m [ATTACK...]`.

Starts the engine (`--enforce-eager`, which starts soonest), puts each proxy in front of it in turn, the
control with every scenario, and prints what the scorer says. Some ten seconds an attack on two cores.
`--honest N` measures the engine itself N times before that, the scenarios in turn; `none` for ATTACK then
measures nothing else.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
import time
from pathlib import Path

from engines.contract import Config, Model
from engines.registry import engine
from engines.server import Server
from scenarios.measurement import Measurement
from scenarios.models import fetch, open_model
from scenarios.score import score
from tests.redteam.attacks import ATTACKS, PassThrough
from tests.redteam.proxy import Attack, Upstream
from tests.redteam.test_redteam import PROFILE, measure

SEED = 500
"""Of the first honest measurement; each takes its own."""
CONFIGS: dict[str, Config] = {"vllm": {"enforce-eager": True}}


def main(name: str, model: Model, chosen: list[str], honest: int) -> int:
    """The number of verdicts that are wrong."""
    wrong = 0
    with (
        tempfile.TemporaryDirectory() as place,
        Server(engine(name), CONFIGS.get(name, {}), model, log=Path(place) / "log") as server,
    ):
        for number in range(honest):
            letter = "ABCD"[number % 4]
            began = time.monotonic()
            measured = score(
                server.url, letter, profile=PROFILE, seed=SEED + number, model=model, text="sotu"
            )
            wrong += not _told(f"honest {letter}", measured, measured.valid, began)
        upstream = Upstream(server.url)
        for number, attack in enumerate(_line_up(upstream, chosen)):
            began = time.monotonic()
            if attack.limit is not None:
                attack.limit *= 10
            measured = measure(attack, model, "sotu", 100 + number)
            label = f"{type(attack).__name__} {attack.scenario}"
            wrong += not _told(label, measured, _right(attack, measured), began)
    return wrong


def _told(label: str, measured: Measurement, right: bool, began: float) -> bool:
    given = "; ".join(f"{reason.code}: {reason.detail}" for reason in measured.invalid_reasons)
    mark = "ok   " if right else "WRONG"
    seconds = time.monotonic() - began
    others = measured.metrics.get("bystander_cpu_share")
    beside = "" if others is None else f" (others' CPU {others:.0%})"
    print(f"{mark} {label} {seconds:.0f} s: {given or 'valid'}{beside}", flush=True)
    return right


def _line_up(honest: Upstream, chosen: list[str]) -> list[Attack]:
    controls: list[Attack] = []
    for letter in "ABCD":
        control = PassThrough(honest)
        control.scenario = letter
        controls.append(control)
    return [one for one in [*controls, *(kind(honest) for kind in ATTACKS)] if _named(one, chosen)]


def _named(attack: Attack, chosen: list[str]) -> bool:
    return not chosen or type(attack).__name__ in chosen


def _right(attack: Attack, measured: Measurement) -> bool:
    given = {reason.code for reason in measured.invalid_reasons}
    return bool(given & attack.codes) if attack.codes else measured.valid


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m tests.redteam.real", description=__doc__)
    parser.add_argument("engine")
    parser.add_argument("model")
    parser.add_argument("attacks", nargs="*", metavar="ATTACK")
    parser.add_argument("--honest", type=int, default=0, metavar="N")
    return parser


if __name__ == "__main__":
    given = _parser().parse_args()
    opened = open_model(fetch(given.model, print), max_length=2048)
    sys.exit(main(given.engine, opened, given.attacks, given.honest))
