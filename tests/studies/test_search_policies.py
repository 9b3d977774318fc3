"""The race of search policies in virtual time: its world, its noise, its file and its figures."""

from __future__ import annotations

import json
import math
import random
import shutil
import subprocess
import sys
import xml.etree.ElementTree as ElementTree
from pathlib import Path

import pytest

from engines.simulated import performance
from engines.simulated.performance import step_seconds
from engines.simulated.scheduler import Scheduler, Sequence
from engines.simulated.settings import Settings
from engines.space import Parameter, Space
from scenarios import profiles
from scenarios.scenario import FULL, Fidelity, Traffic
from search.planners.draws import draw
from studies.benchmarks.search_policies import figures, picture, table
from studies.benchmarks.search_policies.play import Policy, Run, play
from studies.benchmarks.search_policies.race import Heat, heats, race, read
from studies.benchmarks.search_policies.recorded import RecordedWorld
from studies.benchmarks.search_policies.serving import SHAPE, Serving
from studies.benchmarks.search_policies.world import ENGINE, World
from studies.benchmarks.search_policies.worlds import RACED, world
from studies.errors import BadInput
from tests.search.world import START, Search
from tests.search.world import World as MadeUp

SHORT = "gpu-short/C"
RESULTS = Path(__file__).parents[2] / "studies" / "results"
SCENARIO = profiles.scenario("gpu-short", "C")


def stepped(settings: Settings, traffic: Traffic, count: int) -> float:
    """Seconds of a closed traffic by the real scheduler, step by step."""
    costs = performance.costs(settings, SHAPE)
    capacity = performance.kv_capacity(settings, SHAPE, performance.device_memory(SHAPE))
    scheduler, lengths = Scheduler(settings, capacity), random.Random(1)
    left, seconds = count, 0.0
    while True:
        while left and len(scheduler.running) + len(scheduler.waiting) < (traffic.concurrency or count):
            prompt, target = (round(size * lengths.uniform(0.8, 1.0)) for size in (1024, 256))
            scheduler.submit(Sequence(prompt, target))
            left -= 1
        step = scheduler.plan()
        if step is None:
            return seconds
        seconds += step_seconds(costs, step.work)
        scheduler.finish(step)


@pytest.mark.parametrize(
    "settings",
    [
        Settings(),
        Settings(max_num_seqs=16),
        Settings(quantization="fp8", attention_backend="FLASHINFER", kv_cache_dtype="fp8"),
        Settings(enforce_eager=True, max_num_batched_tokens=8192),
        Settings(enable_chunked_prefill=False, max_num_batched_tokens=8192),
    ],
)
def test_the_closed_form_agrees_with_the_scheduler(settings: Settings) -> None:
    traffic = SCENARIO.traffics[0]
    closed = Serving(settings, "default", 40, 2048).stretch(SCENARIO, traffic, traffic.requests)
    assert closed.seconds == pytest.approx(stepped(settings, traffic, traffic.requests), rel=0.12)


def test_a_survey_is_a_landscape_in_each_of_its_scenarios(tmp_path: Path) -> None:
    made_up = MadeUp(lambda engine, config: 10.0 + config.get("seqs", 128) / 128)
    space = Space("made-up", (Parameter("seqs", (16, 128, 512), 128, ordered=True),))
    Search(
        tmp_path / "run", made_up, strategy="survey", also=("B",), scenario="C", engines={"made-up": space}
    ).begin()
    worlds = {
        letter: RecordedWorld.load(
            tmp_path / "run", profiles.profile("paper"), profiles.scenario("paper", letter)
        )
        for letter in "BC"
    }
    for known in worlds.values():
        assert known.truth("made-up", {}) == pytest.approx(11.0, rel=0.2)
        assert known.truth("made-up", {"seqs": 512}) > known.truth("made-up", {"seqs": 16})
        assert known.start("made-up", {}).seconds == START
    assert worlds["B"].truth("made-up", {}) != worlds["C"].truth("made-up", {})


def test_landscapes_are_what_they_are_called() -> None:
    eager = world("eager-dominates", SHORT)
    assert eager.truth(ENGINE, {"enforce-eager": True}) > 1.4 * eager.truth(ENGINE, {})
    aged, young = world("fidelity-disagrees", SHORT), Fidelity(requests=4 / 192, serial=4)
    fast = {"attention-backend": "FLASHINFER"}
    quick = [aged.figures(ENGINE, config, young, 0).score for config in (fast, {})]
    assert quick[0] > quick[1]
    assert aged.truth(ENGINE, fast) < 0.85 * aged.truth(ENGINE, {})
    best = world("default-best", SHORT)
    assert all(best.truth(ENGINE, config) < best.truth(ENGINE, {}) for config in some_configs(best, 100))


def test_two_in_five_configs_crash_in_the_crashy_landscape() -> None:
    crashy = world("crashy", SHORT)
    launched = some_configs(crashy, 600)
    crashed = [config for config in launched if crashy.start(ENGINE, config).crash]
    assert 0.3 < len(crashed) / len(launched) < 0.5


def some_configs(there: World, count: int) -> list[dict[str, object]]:
    """Drawn ones that no static guard refuses."""
    rng = random.Random(0)
    drawn = [draw(there.spaces[ENGINE], rng) for _ in range(count)]
    return [config for config in drawn if config and there.refusal(ENGINE, config) is None]


@pytest.mark.parametrize("policy", ["ceiling-tpe", "ceiling-random-unaided", "published-random"])
def test_a_search_repeats_itself_and_keeps_its_budget(policy: str) -> None:
    there = world("crashy", SHORT)
    first, again = (play(there, Policy.parse(policy), 3, 1200.0) for _ in range(2))
    assert first == again
    assert str(first.policy) == policy
    assert first.spent <= 1200.0 + 5.01
    assert first.submitted is not None
    assert first.curve[0][1] == 1.0
    assert [at for at, _ in first.curve] == sorted(at for at, _ in first.curve)
    assert play(there, Policy.parse(policy), 4, 1200.0) != first


def test_published_trials_mislead_where_quick_and_full_disagree() -> None:
    there = world("fidelity-disagrees", SHORT)
    runs = [play(there, Policy.parse("published-random"), seed, 1800.0) for seed in (0, 1)]
    assert all((run.submitted or 0.0) < 1.0 for run in runs)
    own = [play(there, Policy.parse("ceiling-random"), seed, 1800.0) for seed in (0, 1)]
    assert all((run.submitted or 0.0) >= 1.0 for run in own)


def test_a_race_goes_on_where_it_was_cut_off(tmp_path: Path) -> None:
    file = tmp_path / "race.csv"
    asked = heats(("default-best",), [Policy.parse("ceiling-random")], 2, 900.0, SHORT, 0.5)
    assert [(heat.seed, heat.budget) for heat in asked] == [(0, 900.0), (0, 450.0), (1, 900.0), (1, 450.0)]
    assert list(race(asked[:2], file, 1))[-1] == (2, 2)
    whole = file.read_bytes()
    file.write_bytes(whole[:-30])
    assert list(read(file)) == [asked[0].key]
    assert next(iter(race(asked, file, 1))) == (1, 4)
    assert list(race(asked, file, 1))[-1] == (4, 4)
    runs = read(file)
    assert [heat.key for heat in asked if heat.key not in runs] == []
    assert runs[asked[0].key].submitted == 1.0


def a_run(
    policy: str, curve: list[tuple[float, float]], submitted: float | None, budget: float = 900.0
) -> Run:
    return Run(Policy.parse(policy), 0, budget, budget, submitted, tuple(curve), {"complete": 4})


def test_figures_of_runs_made_by_hand() -> None:
    runs = [
        a_run("ceiling-tpe", [(100.0, 1.0), (200.0, 1.5)], 1.5),
        a_run("ceiling-tpe", [(100.0, 1.0), (600.0, 1.6)], 1.0),
        a_run("ceiling-tpe", [(100.0, 1.0)], 1.0),
        a_run("ceiling-tpe", [(100.0, 1.0)], 0.9, budget=300.0),
        a_run("published-tpe", [(50.0, 0.5), (800.0, 1.2)], 1.2),
        a_run("published-gp", [(50.0, 0.5)], None),
    ]
    own, tpe, gp = figures.lines(runs)
    assert (own.runs, own.middle, own.worst, own.below, own.trials) == (3, 1.0, 1.0, 0.0, 4)
    assert (own.part, own.part_below) == (0.9, 1.0)
    assert (tpe.middle, gp.middle, gp.below) == (1.2, 0.0, 1.0)
    (chase,) = figures.chases(runs)
    assert (chase.rival, chase.goal) == ("published-tpe", 1.2)
    assert chase.share == pytest.approx(600 / 900)
    assert chase.within == pytest.approx(1 / 3)
    assert figures.reached(runs[2], 1.2) == math.inf
    assert [figures.quality_at(runs[0], at) for at in (0.0, 150.0, 250.0)] == [0.0, 1.0, 1.5]
    assert figures.quality_at(runs[1], 900.0) == 1.0


def test_the_picture_and_the_tables() -> None:
    runs = [
        a_run(policy, [(100.0, 1.0), (300.0, 1.4)], 1.4)
        for policy in ("ceiling-tpe", "ceiling-random", "published-tpe")
    ]
    drawn = ElementTree.fromstring(picture.svg({"crashy": runs, "default-best": runs}))
    paths = [each for each in drawn.iter() if each.tag.endswith("path")]
    assert len(paths) == 2 * 2 * len(runs)
    text = table.markdown({"crashy": runs})
    assert "| ceiling-tpe | 1.40x (1.40-1.40) | 1.40x | 0 of 1 |" in text
    assert "0.33 of its GPU-seconds" in text


TABLE = """engine,config,state,score,start,measure,stop
real,{},complete,10,30,20,1
real,"{""seqs"": 64}",complete,12,32,20,1
real,"{""seqs"": 64}",pruned,14,32,20,1
real,"{""seqs"": 128, ""kv"": ""fp8""}",crashed,,9,0,1
"""


def test_recorded_trials_answer_for_their_neighbours(tmp_path: Path) -> None:
    file = tmp_path / "trials.csv"
    file.write_text(TABLE)
    there = world(str(file), SHORT)
    assert set(there.spaces["real"].names) == {"seqs", "kv"}
    assert there.truth("real", {}) == 10.0
    assert there.truth("real", {"seqs": 64}) == 13.0
    assert there.start("real", {"kv": "fp8", "seqs": 128}).crash == "crashed"
    assert there.figures("real", {}, FULL, 0).seconds == pytest.approx(20.0)
    run = play(there, Policy.parse("ceiling-random"), 0, 1200.0)
    assert run.submitted == 1.3
    file.with_suffix(".csv").write_text(TABLE.replace("{},complete", '"{""seqs"": 8}",complete'))
    with pytest.raises(BadInput, match="no valid trial of the default of real"):
        world(str(file), "cpu/C")


def test_recorded_expert_configs_are_tried_as_such() -> None:
    there = world(str(RESULTS / "h200-survey"), SHORT)
    tried = [
        {"kv-cache-dtype": "fp8", "quantization": "fp8"},
        {"max-num-batched-tokens": 16384, "quantization": "fp8"},
    ]
    assert list(there.spaces["vllm"].experts) == tried
    best = max(there.truth("vllm", config) for config in tried)
    aided, unaided = (play(there, Policy.parse(f"ceiling-tpe{end}"), 0, 480.0) for end in ("", "-unaided"))
    assert aided.submitted == pytest.approx(best / there.truth("vllm", {}))
    assert unaided.submitted < aided.submitted


def test_surveys_of_one_setting_are_one_landscape(tmp_path: Path) -> None:
    survey = RESULTS / "h100-4x" / "C-B-survey"
    alone = [world(str(survey / name), SHORT).spaces["vllm"] for name in "1234"]
    together = world(str(survey), SHORT).spaces["vllm"]
    assert alone[0].names != alone[1].names
    assert {*together.names} == {name for space in alone for name in space.names}
    mixed = shutil.copytree(survey, tmp_path / "mixed")
    ledger = mixed / "2" / "ledger.jsonl"
    ledger.write_text(ledger.read_text().replace("8d036820e1099356", "another"))
    with pytest.raises(BadInput, match=r"mixed/2 is no more of .*mixed/1: its model is"):
        world(str(mixed), SHORT)


def test_a_run_directory_is_a_table_too(tmp_path: Path) -> None:
    from tests.search.landscape import score
    from tests.search.world import Search
    from tests.search.world import World as Made

    made = Search(tmp_path / "run", Made(lambda engine, config: score(config), noise=0.0), trials=8)
    made.begin()
    there = world(str(tmp_path / "run"), "paper/A")
    assert there.truth("made-up", {}) > 0
    assert there.spaces["made-up"].names


def test_the_command_refuses_bad_input_in_one_line(tmp_path: Path) -> None:
    for given, said in (
        (("--policy", "ceiling-magic"), "write STRATEGY-PLANNER"),
        (("--landscape", "moon"), "no landscape 'moon': one of default"),
        (("--scenario", "Z"), "unknown scenario Z"),
    ):
        done = subprocess.run(
            [
                sys.executable,
                "-m",
                "studies.benchmarks.search_policies",
                *given,
                "--file",
                str(tmp_path / "x"),
            ],
            capture_output=True,
            text=True,
            timeout=60,
        )
        assert done.returncode == 2
        assert len(done.stderr.splitlines()) == 1 and said in done.stderr


def test_the_command_tells_and_draws_what_the_file_holds(tmp_path: Path) -> None:
    file, svg = tmp_path / "race.csv", tmp_path / "race.svg"
    policies = [Policy.parse("ceiling-random"), Policy.parse("published-random")]
    list(race(heats(("default-best",), policies, 1, 600.0, SHORT, None), file, 1))
    given = ("--report", "--budget", "600s", "--part", "0", "--file", str(file), "--svg", str(svg))
    done = subprocess.run(
        [sys.executable, "-m", "studies.benchmarks.search_policies", *given],
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert (done.returncode, done.stderr) == (0, "")
    assert "**default-best**" in done.stdout and "crashy" not in done.stdout
    assert "| ceiling-random | 1.00x" in done.stdout
    assert ElementTree.parse(svg).getroot().tag.endswith("svg")


def test_raced_landscapes_exist() -> None:
    assert {world(name, SHORT).name for name in RACED} == set(RACED)
    assert Heat("crashy", SHORT, Policy.parse("ceiling-tpe"), 0, 1.0).key[1] == SHORT
    assert json.dumps(RACED)
