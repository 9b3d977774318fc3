"""Every attack comes back invalid, with its code and without a score; the control comes back valid."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from pathlib import Path

import pytest

from engines.contract import Model
from engines.registry import engine
from engines.server import Server
from scenarios import rows
from scenarios.measurement import Measurement
from scenarios.models import open_model
from scenarios.score import rescore, score
from scenarios.validity import CODES
from tests.redteam.attacks import ATTACKS, PassThrough, Stumbles
from tests.redteam.proxy import Attack, Upstream
from tests.rehearsing import rehearsing
from tests.scenarios.plain_text import write_jsonl
from tests.tiny_model import make_tiny_model

PROFILE = str(Path(__file__).with_name("redteam.yaml"))
SEEDS = itertools.count(100)
"""A test that is taken again meets the same server, which knows the prompts of any earlier seed."""


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Model:
    return open_model(make_tiny_model(tmp_path_factory.mktemp("model")))


@pytest.fixture(scope="module")
def text(tmp_path_factory: pytest.TempPathFactory) -> str:
    return write_jsonl(tmp_path_factory.mktemp("text") / "text.jsonl", documents=40)


@pytest.fixture(scope="module")
def honest(model: Model, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Upstream]:
    with Server(engine("simulated"), {}, model, log=tmp_path_factory.mktemp("log") / "engine.log") as server:
        yield Upstream(server.url)


def measure(
    attack: Attack,
    model: Model,
    text: str,
    seed: int,
    *,
    profile: str = PROFILE,
    check_text: bool = False,
) -> Measurement:
    with attack.server() as proxy:
        for _ in range(attack.rounds):
            measured = score(
                proxy.url,
                attack.scenario,
                profile=profile,
                seed=seed,
                model=model,
                text=text,
                limit_seconds=attack.limit,
                check_text=check_text,
            )
    return measured


@pytest.mark.parametrize("kind", ATTACKS, ids=lambda kind: kind.__name__)
def test_an_attack_is_caught(kind: type[Attack], honest: Upstream, model: Model, text: str) -> None:
    measured = measure(kind(honest), model, text, 10 + ATTACKS.index(kind))
    given = {reason.code for reason in measured.invalid_reasons}
    assert given & kind.codes, measured.invalid_reasons
    assert given <= CODES.keys()
    assert measured.score is None
    assert measured.interval is None


@pytest.mark.parametrize(("letter", "rehearsal"), [*((one, False) for one in "ABCD"), ("C", True)])
def test_a_plain_proxy_is_valid(
    letter: str, rehearsal: bool, honest: Upstream, model: Model, text: str, tmp_path: Path
) -> None:
    control = PassThrough(honest)
    control.scenario = letter
    chosen = rehearsing(Path(PROFILE), tmp_path) if rehearsal else PROFILE
    measured = measure(control, model, text, next(SEEDS), profile=chosen)
    assert measured.invalid_reasons == ()
    assert measured.score is not None
    assert measured.score > 0


@pytest.mark.parametrize("rehearsed", [0, 7])
def test_a_server_that_stumbles_while_it_is_probed_is_probed_again(
    rehearsed: int, honest: Upstream, model: Model, text: str, tmp_path: Path
) -> None:
    stumbles = Stumbles(honest)
    stumbles.after, stumbles.until = Stumbles.after + rehearsed, Stumbles.until + rehearsed
    chosen = rehearsing(Path(PROFILE), tmp_path) if rehearsed else PROFILE
    with stumbles.server() as proxy:
        seed = next(SEEDS)
        measured = score(proxy.url, "D", profile=chosen, seed=seed, model=model, text=text, out=tmp_path)
    assert measured.invalid_reasons == ()
    frame = rows.read(tmp_path / measured.id)
    assert (frame["role"] == rows.REHEARSAL).sum() == rehearsed
    assert frame["key"].is_unique
    fresh = frame.query("role == 'fresh'")
    assert len(fresh) == 6
    assert fresh["prompt_sha256"].is_unique
    assert rescore(tmp_path / measured.id) == measured
