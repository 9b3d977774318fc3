"""Every attack in front of a real engine: `python -m tests.redteam.real vllm smollm2-135m [ATTACK...]`.

Starts the engine (`--enforce-eager`, which starts soonest), puts each proxy in front of it in turn, the
control with every scenario, and prints what the scorer says. Some ten seconds an attack on two cores.
`--honest N` measures the engine itself N times before that, the scenarios in turn; `none` for ATTACK then
measures nothing else. What is valid so far is then held against the model (with the torch engine). Last,
the torch engine serves a smaller model of the family under the model's name.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
import time
from dataclasses import replace
from pathlib import Path

from engines.contract import Config, Model
from engines.registry import engine
from engines.server import Server
from scenarios import tokenizer
from scenarios.measurement import Measurement
from scenarios.models import fetch, open_model
from scenarios.score import score
from tests.redteam.attacks import ATTACKS, PassThrough
from tests.redteam.other_model import without_layers
from tests.redteam.proxy import Attack, Upstream
from tests.redteam.test_redteam import PROFILE, measure
from tests.redteam.text_attacks import TEXT_ATTACKS

SEED = 500
"""Of the first honest measurement; each takes its own."""
LAYERS = 3
"""That another model lacks of 30: few enough for text that reads well, so that nothing else gives it away."""
CONFIGS: dict[str, Config] = {"vllm": {"enforce-eager": True}}


class OtherModel(PassThrough):
    """The server behind it runs another model."""

    codes = frozenset({"text-not-from-model"})


def main(name: str, model: Model, chosen: list[str], honest: int, text: bool) -> int:
    """The number of verdicts that are wrong."""
    with tempfile.TemporaryDirectory() as place:
        log = Path(place) / "log"
        with Server(engine(name), CONFIGS.get(name, {}), model, log=log) as server:
            wrong = _honest(server.url, model, honest, text)
            for number, attack in enumerate(_line_up(Upstream(server.url), model, chosen)):
                wrong += not _attacked(attack, model, 100 + number, text)
        if name == "torch" and _named(OtherModel, chosen):
            smaller = replace(model, path=without_layers(model.path, Path(place) / "smaller", LAYERS))
            with Server(engine(name), {}, smaller, log=log) as server:
                wrong += not _attacked(OtherModel(Upstream(server.url)), model, 99, True)
    return wrong


def _honest(url: str, model: Model, count: int, text: bool) -> int:
    wrong = 0
    for number in range(count):
        letter, seed, began = "ABCD"[number % 4], SEED + number, time.monotonic()
        measured = score(url, letter, profile=PROFILE, seed=seed, model=model, text="sotu", check_text=text)
        wrong += not _told(f"honest {letter}", measured, measured.valid, began)
    return wrong


def _attacked(attack: Attack, model: Model, seed: int, text: bool) -> bool:
    began = time.monotonic()
    if attack.limit is not None:
        attack.limit *= 10
    measured = measure(attack, model, "sotu", seed, check_text=text)
    return _told(f"{type(attack).__name__} {attack.scenario}", measured, _right(attack, measured), began)


def _told(label: str, measured: Measurement, right: bool, began: float) -> bool:
    given = "; ".join(f"{reason.code}: {reason.detail}" for reason in measured.invalid_reasons)
    mark = "ok   " if right else "WRONG"
    seconds = time.monotonic() - began
    others = measured.metrics.get("bystander_cpu_share")
    beside = "" if others is None else f" (others' CPU {others:.0%})"
    figures = ", ".join(f"{key[5:]} {value:.3f}" for key, value in measured.metrics.items() if "text_" in key)
    text = f" (text {measured.text['verdict']} {figures})" if measured.text else ""
    print(f"{mark} {label} {seconds:.0f} s: {given or 'valid'}{beside}{text}", flush=True)
    return right


def _line_up(honest: Upstream, model: Model, chosen: list[str]) -> list[Attack]:
    controls: list[Attack] = []
    for letter in "ABCD":
        control = PassThrough(honest)
        control.scenario = letter
        controls.append(control)
    words = tokenizer.load(model.path)
    own = [kind(honest, words) for kind in TEXT_ATTACKS]
    attacks = [*controls, *(kind(honest) for kind in ATTACKS), *own]
    return [one for one in attacks if _named(type(one), chosen)]


def _named(attack: type[Attack], chosen: list[str]) -> bool:
    return not chosen or attack.__name__ in chosen


def _right(attack: Attack, measured: Measurement) -> bool:
    given = {reason.code for reason in measured.invalid_reasons}
    return bool(given & attack.codes) if attack.codes else measured.valid


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m tests.redteam.real", description=__doc__)
    parser.add_argument("engine")
    parser.add_argument("model")
    parser.add_argument("attacks", nargs="*", metavar="ATTACK")
    parser.add_argument("--honest", type=int, default=0, metavar="N")
    parser.add_argument(
        "--no-text", dest="text", action="store_false", help="leave out the check of the text"
    )
    return parser


if __name__ == "__main__":
    given = _parser().parse_args()
    opened = open_model(fetch(given.model, print), max_length=2048)
    sys.exit(main(given.engine, opened, given.attacks, given.honest, given.text))
