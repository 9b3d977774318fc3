"""Every attack in front of a real engine: `python -m tests.redteam.real vllm smollm2-135m [ATTACK...]`.

Starts the engine (`--enforce-eager`, which starts soonest), puts each proxy in front of it in turn, the
control with every scenario, and prints what the scorer says. Some ten seconds an attack on two cores.
"""

from __future__ import annotations

import sys
import tempfile
import time
from pathlib import Path

from engines.contract import Config, Model
from engines.registry import engine
from engines.server import Server
from scenarios.measurement import Measurement
from scenarios.models import fetch, open_model
from tests.redteam.attacks import ATTACKS, PassThrough
from tests.redteam.proxy import Attack, Upstream
from tests.redteam.test_redteam import measure

CONFIGS: dict[str, Config] = {"vllm": {"enforce-eager": True}}


def main(name: str, model: Model, chosen: list[str]) -> int:
    """The number of verdicts that are wrong."""
    wrong = 0
    with (
        tempfile.TemporaryDirectory() as place,
        Server(engine(name), CONFIGS.get(name, {}), model, log=Path(place) / "log") as server,
    ):
        honest = Upstream(server.url)
        for number, attack in enumerate(_line_up(honest, chosen)):
            began = time.monotonic()
            if attack.limit is not None:
                attack.limit *= 10
            measured = measure(attack, model, "sotu", 100 + number)
            right = _right(attack, measured)
            wrong += not right
            given = "; ".join(f"{reason.code}: {reason.detail}" for reason in measured.invalid_reasons)
            mark = "ok   " if right else "WRONG"
            seconds = time.monotonic() - began
            print(
                f"{mark} {type(attack).__name__} {attack.scenario} {seconds:.0f} s: {given or 'valid'}",
                flush=True,
            )
    return wrong


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


if __name__ == "__main__":
    sys.exit(main(sys.argv[1], open_model(fetch(sys.argv[2], print), max_length=2048), sys.argv[3:]))
