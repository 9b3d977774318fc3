"""Measures many honest servers: `python -m tests.redteam.honest 200` prints every reason that was given.

The simulated engine in configs drawn from its space, at various speeds and noises, all scenarios in turn.
"""

from __future__ import annotations

import random
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

from engines.contract import Config, Infeasible, Model, ServerCrashed, Value
from engines.host import this_host
from engines.registry import engine
from engines.server import Server
from scenarios.measurement import Measurement
from scenarios.models import open_model
from scenarios.score import score
from tests.scenarios.plain_text import write_jsonl
from tests.tiny_model import make_tiny_model

A_SERVER = 4
"""Measurements of one server, each of another scenario and with prompts of its own."""


def drawn(draw: random.Random) -> Config:
    """A config of the simulated engine's space, and how the simulation goes."""
    space = engine("simulated").space(this_host())
    values: dict[str, Value] = {one.name: draw.choice(one.choices) for one in space}
    config = dict(space.canonical(values))
    config["env.CEILING_SIM_SPEED"] = str(draw.choice([0.5, 1.0, 1.5]))
    config["env.CEILING_SIM_NOISE"] = str(draw.choice([0.0, 1.0, 3.0]))
    if config.get("speculative-method") != "ngram":
        config["env.CEILING_SIM_LOOPING"] = str(draw.choice([0.0, 0.5]))
    return config


def measurements(
    count: int, model: Model, text: str, log: Path, seed: int = 0, profile: str = "smoke"
) -> Iterator[tuple[Config, Measurement]]:
    """`count` measurements of honest servers; configs that do not start are passed over."""
    draw, made = random.Random(seed), 0
    while made < count:
        config = drawn(draw)
        try:
            engine("simulated").check(config, model, this_host())
            with Server(engine("simulated"), config, model, log=log) as server:
                for letter in draw.sample("ABCD", min(A_SERVER, count - made)):
                    made += 1
                    yield (
                        config,
                        score(server.url, letter, profile=profile, seed=made, model=model, text=text),
                    )
        except (Infeasible, ServerCrashed):
            continue


def main(count: int, seed: int) -> int:
    """Print what was given; the number of measurements that were not valid."""
    alarms = 0
    with tempfile.TemporaryDirectory() as place:
        model = open_model(make_tiny_model(Path(place) / "model"))
        text = write_jsonl(Path(place) / "text.jsonl", documents=120)
        for number, (config, made) in enumerate(
            measurements(count, model, text, Path(place) / "log", seed), start=1
        ):
            alarms += not made.valid
            for reason in made.invalid_reasons:
                where = f"{number} {made.scenario} {config}"
                print(f"{where} {reason.code}: {reason.detail} {dict(reason.evidence)}", flush=True)
    print(f"{count} measurements of honest servers, {alarms} false alarms")
    return alarms


if __name__ == "__main__":
    sys.exit(1 if main(int(sys.argv[1]), int(sys.argv[2]) if len(sys.argv) > 2 else 0) else 0)
