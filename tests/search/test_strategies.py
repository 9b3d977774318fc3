"""Strategies, in a made-up world: what they ask, when they stop, and what they submit."""

from __future__ import annotations

import random
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import pytest

from engines.contract import Config
from engines.space import Parameter, Space
from scenarios import profiles
from scenarios.scenario import Fidelity, Plan
from scenarios.trial import Drop, State
from search.record import Ask, Job, Record
from search.result import result
from search.strategies import UnknownStrategy, strategy
from search.strategies.ceiling import SPARE
from search.strategies.compare import gap, readings
from search.strategies.final import verdict
from search.strategies.ladder import keeps_regime, ladder
from search.strategies.race import ERROR_RATE, GRACE, PATIENCE, Race, patience
from tests.search.landscape import score
from tests.search.world import Search, World, asks


def hill(engine: str, config: Config) -> float:
    return score(config)


def flat_but_default(engine: str, config: Config) -> float:
    return 10.0 if not config else 9.0


def trials(events: list[dict[str, Any]], *origins: str) -> list[dict[str, Any]]:
    return [event for event in events if event["event"] == "trial" and event["origin"] in origins]


def test_the_default_is_trial_0_and_the_rest_follows(tmp_path: Path) -> None:
    events = Search(tmp_path, World(hill), planner="tpe").begin()
    first = next(event for event in events if event["event"] == "ask")
    assert (first["trial"], first["origin"], first["config"]) == (0, "default", {})
    origins = [event["origin"] for event in events if event["event"] == "ask"]
    assert origins == sorted(origins, key=["default", "planner", "final"].index)
    finals = [event for event in events if event["event"] == "ask" and event["origin"] == "final"]
    seeds = {plan["seed"] for event in finals for plan in event["plans"]}
    assert seeds == {1337}
    explored = [event for event in events if event["event"] == "ask" and event["origin"] != "final"]
    assert {plan["seed"] for event in explored for plan in event["plans"]} == {21}


def with_experts(*configs: Config) -> Space:
    speed = Parameter("speed", (1, 2, 3, 4), 1, ordered=True)
    return Space("made-up", (speed, Parameter("mode", ("a", "b", "c"), "a")), experts=configs)


def test_expert_configs_follow_the_default_and_then_the_planner(tmp_path: Path) -> None:
    space = with_experts({"speed": 3}, {"speed": 1}, {"mode": "unknown here"}, {"mode": "c"}, {"speed": 3})
    world = World(lambda engine, config: 10.0)
    events = Search(tmp_path / "ceiling", world, engines={"made-up": space}).begin()
    asked = [(event["origin"], event["config"]) for event in events if event["event"] == "ask"]
    assert asked[:3] == [("default", {}), ("expert", {"speed": 3}), ("expert", {"mode": "c"})]
    assert asked[3][0] == "planner"
    published = Search(tmp_path / "published", world, strategy="published", engines={"made-up": space})
    assert not [event for event in published.begin() if event.get("origin") == "expert"]


def test_engines_take_turns_with_their_expert_configs(tmp_path: Path) -> None:
    engines = {"one": with_experts({"speed": 2}, {"speed": 3}), "two": with_experts({"mode": "b"})}
    events = Search(tmp_path, World(lambda engine, config: 10.0), engines=engines).begin()
    experts = [(event["engine"], event["config"]) for event in events if event.get("origin") == "expert"]
    asked = list(dict.fromkeys((engine, str(config)) for engine, config in experts))
    assert asked == [("one", "{'speed': 2}"), ("two", "{'mode': 'b'}"), ("one", "{'speed': 3}")]


def test_the_finals_bracket_the_candidates_with_the_default(tmp_path: Path) -> None:
    events = Search(tmp_path, World(hill), wall=3600.0, trials=25).begin()
    finals = [event for event in events if event["event"] == "ask" and event["origin"] == "final"]
    blocks = [[plan["fidelity"]["block"] for plan in event["plans"]] for event in finals]
    assert [bool(event["config"]) for event in finals] == [False, True, True, True, False]
    assert blocks == [[0], [0, 1], [0, 1], [0, 1], [1]]
    assert all(plan["fidelity"]["requests"] == 1.0 for event in finals for plan in event["plans"])


def test_a_better_config_is_found_and_submitted_with_its_ratio(tmp_path: Path) -> None:
    outcome = result(Search(tmp_path, World(hill), planner="tpe").begin())
    submitted = outcome["submitted"]
    assert submitted["valid"]
    assert submitted["config"]
    truth = score(submitted["config"]) / score({})
    assert truth > 1.2
    assert submitted["ratio"] == pytest.approx(truth, rel=0.06)
    assert submitted["ratio_interval"][0] > 1.0
    assert submitted["ratio_interval"][0] < truth < submitted["ratio_interval"][1]
    assert 0.3 < submitted["chance_best"] <= 1.0
    assert outcome["found"]["score"] >= outcome["default"]["score"]


def test_where_nothing_beats_the_default_it_is_the_answer(tmp_path: Path) -> None:
    """At the stated error rate of one in twenty, over 60 searches."""
    submitted = []
    for seed in range(60):
        world = World(lambda engine, config: 10.0, noise=0.02, seed=seed)
        search = Search(tmp_path / str(seed), world, seed=seed, trials=8, wall=None)
        submitted.append(result(search.begin())["submitted"])
    assert all(each["valid"] for each in submitted)
    defaults = [each for each in submitted if each["config"] == {}]
    assert len(defaults) >= 60 - 7
    assert all(each["reason"].startswith("the default") for each in defaults)


def test_clearly_slower_configs_are_dropped_after_one_block(tmp_path: Path) -> None:
    events = Search(tmp_path, World(flat_but_default)).begin()
    planned = trials(events, "planner")
    pruned = [trial for trial in planned if trial["state"] == "pruned"]
    assert len(pruned) == len(planned)
    assert {len(trial["measurements"]) for trial in pruned} == {1}
    assert "of trial 0 on the same requests" in pruned[0]["detail"]
    assert result(events)["submitted"]["reason"] == "the default: no trial read faster than it"


def test_a_config_as_good_as_its_rival_is_rarely_dropped(tmp_path: Path) -> None:
    """The stated error rate, with room for chance in 600 races."""
    search = Search(tmp_path, World(lambda engine, config: 10.0))
    plans = ladder(search.setting())
    assert len(plans) == 4
    world, dropped, races = search.world, 0, 600
    for number in range(races):
        draw = random.Random(number)
        level = [10.0 * pow(2.718281828, draw.gauss(0, 0.02)) for _ in range(2)]
        rival = tuple(world._measurement(plan, level[0], draw, False) for plan in plans)
        race = Race(plans, readings(rival), 0)
        done = [world._measurement(plans[0], level[1], draw, False)]
        while (step := race(tuple(done))) is not None and not isinstance(step, Drop):
            done.append(world._measurement(step, level[1], draw, False))
        dropped += isinstance(step, Drop)
    assert dropped / races < ERROR_RATE + 0.03


def test_a_winner_that_fails_a_gate_gives_way_to_the_runner_up(tmp_path: Path) -> None:
    best: list[Config] = []

    def first_candidate(config: Config, seed: int) -> bool:
        if seed == 1337 and config and not best:
            best.append(config)
        return seed == 1337 and bool(best) and config == best[0]

    events = Search(
        tmp_path, World(hill, invalid=first_candidate), planner="tpe", wall=3600.0, trials=25
    ).begin()
    submitted = result(events)["submitted"]
    assert submitted["valid"]
    assert submitted["config"] not in ({}, best[0])
    assert submitted["ratio"] > 1.0


def test_everything_ends_within_the_budget_and_the_finals_take_place(tmp_path: Path) -> None:
    for wall in (250.0, 400.0, 900.0, 2000.0):
        for devices in (1, 3):
            world = World(hill)
            search = Search(tmp_path / f"{wall}-{devices}", world, wall=wall, devices=devices)
            events = search.begin()
            assert max(end for _, end in world.starts) <= wall
            assert trials(events, "final")
            assert result(events)["submitted"]["valid"]


@pytest.mark.parametrize(("wall", "order"), [(307.0, [True, False]), (292.0, [False, True])])
def test_a_candidate_whose_kernels_took_long_is_still_compared(
    tmp_path: Path, wall: float, order: list[bool]
) -> None:
    """Its first start took 65 s, its next takes 20; where the estimate is short of both, it goes first."""
    engines = {"made-up": with_experts({"speed": 3})}
    world = World(lambda engine, config: 10.0 * float(config.get("speed", 1)), builds=45.0)
    events = Search(tmp_path, world, engines=engines, wall=wall).begin()
    assert [event["origin"] for event in events if event["event"] == "ask"][:2] == ["default", "expert"]
    assert [event["config"] == {} for event in trials(events, "final")] == order
    submitted = result(events)["submitted"]
    assert submitted["config"] == {"speed": 3}
    assert submitted["ratio"] == pytest.approx(3.0, rel=0.1)
    assert max(end for _, end in world.starts) <= wall


def test_an_engine_that_keeps_what_it_compiles_has_time_for_the_whole_comparison(tmp_path: Path) -> None:
    """Of 406 s the first trials take 182, and the whole comparison 223: 61 + 101 + 61."""
    engines = {"made-up": with_experts({"speed": 3})}

    def finals(run: Path, restarts: dict[str, float]) -> int:
        world = World(lambda engine, config: 10.0 * float(config.get("speed", 1)), builds=60.0)
        events = Search(run, world, engines=engines, wall=406.0, trials=2, restarts=restarts).begin()
        assert max(end for _, end in world.starts) <= 406.0
        return len(trials(events, "final"))

    assert finals(tmp_path / "keeps", {"made-up": 0.25}) == 3
    assert finals(tmp_path / "builds-anew", {}) == 2


def test_several_devices_serve_the_final_blocks_side_by_side(tmp_path: Path) -> None:
    world = World(hill)
    events = Search(tmp_path, world, wall=900.0, devices=4, trials=12).begin()
    finals = [event for event in events if event["event"] == "ask" and event["origin"] == "final"]
    blocks = [[plan["fidelity"]["block"] for plan in event["plans"]] for event in finals]
    assert blocks == [[0]] * 4 + [[1]] * 4
    assert [bool(event["config"]) for event in finals] == [False, *[True] * 6, False]
    submitted = result(events)["submitted"]
    assert submitted["valid"] and submitted["ratio"] > 1.0


def test_where_there_is_time_for_one_round_it_compares_as_many_as_there_are_devices(tmp_path: Path) -> None:
    events = Search(tmp_path, World(hill), wall=200.0, devices=3, trials=9).begin()
    finals = [event for event in events if event["event"] == "ask" and event["origin"] == "final"]
    assert [[plan["fidelity"]["block"] for plan in event["plans"]] for event in finals] == [[0]] * 3
    assert [bool(event["config"]) for event in finals] == [False, True, True]


def test_a_start_that_takes_far_longer_than_others_is_ended_and_taught(tmp_path: Path) -> None:
    world = World(hill, slow=lambda config: bool(config.get("eager")))
    events = Search(tmp_path, world, planner="tpe", wall=1500.0).begin()
    asked = [event for event in events if event["event"] == "ask"]
    limits = {event["start_limit"] for event in asked if event["origin"] in ("planner", "expert")}
    assert limits == {150.0}
    assert {event["start_limit"] for event in asked if event["origin"] in ("default", "final")} == {None}
    late = [event for event in trials(events, "planner") if event["crash"] == "start-timeout"]
    assert late and all(event["state"] == "crashed" for event in late)
    survey = Search(tmp_path / "survey", world, strategy="survey", wall=None, trials=8).begin()
    unhurried = {e["start_limit"] for e in survey if e["event"] == "ask" and e["origin"] == "planner"}
    assert unhurried == {60.0}
    published = Search(tmp_path / "published", World(hill), strategy="published", wall=1500.0).begin()
    assert {e["start_limit"] for e in published if e["event"] == "ask"} == {None}


def test_a_tenth_more_is_kept_than_the_finals_are_expected_to_take(tmp_path: Path) -> None:
    """The default's next start is expected to take half of its first; here it takes as long."""
    events = Search(tmp_path, World(hill), wall=500.0).begin()
    explored = [event for event in events if event["event"] == "ask" and event["origin"] == "planner"]
    finals = trials(events, "final")
    kept = explored[-1]["left"] - explored[-1]["seconds"]
    assert len(finals) == 2
    assert kept / SPARE < sum(event["gpu_seconds"] for event in finals) < kept


def test_what_ends_a_trial_is_named() -> None:
    exploring = Job("made-up", {}, "planner", (), seconds=60.0)
    final = Job("made-up", {}, "final", ())
    asks = [Ask(1, 0, exploring, 200.0), Ask(1, 1, exploring, 50.0), Ask(2, 0, final, 50.0)]
    assert [ask.seconds for ask in asks] == [60.0, 50.0, 50.0]
    assert [ask.limited_by for ask in asks] == ["the time ahead of the final trials", *["the budget"] * 2]
    assert Ask(3, 0, final, float("inf")).seconds is None


def test_a_budget_for_one_trial_only(tmp_path: Path) -> None:
    outcome = result(Search(tmp_path, World(hill), wall=70.0).begin())
    assert outcome["trials"] == 1
    assert outcome["submitted"] is None
    assert outcome["found"]["config"] == {}


def test_when_the_default_crashes_the_best_trial_goes_alone(tmp_path: Path) -> None:
    events = Search(tmp_path, World(hill, crashes=lambda engine, config: not config), trials=8).begin()
    outcome = result(events)
    assert outcome["default"] is None
    assert outcome["submitted"]["valid"]
    assert outcome["submitted"]["config"]
    assert outcome["submitted"]["ratio"] is None


@pytest.mark.parametrize("wall", [600.0, 1200.0, 1815.0, 3600.0])
@pytest.mark.parametrize("how", ["crashes", "invalid"])
def test_without_a_default_time_is_still_kept_to_measure_the_best_trial(
    tmp_path: Path, wall: float, how: str
) -> None:
    broken: dict[str, Any] = {
        "crashes": lambda engine, config: not config,
        "invalid": lambda config, seed: not config,
    }
    outcome = result(Search(tmp_path, World(hill, **{how: broken[how]}), wall=wall).begin())
    assert outcome["submitted"] is not None and outcome["submitted"]["valid"]
    assert outcome["gpu_seconds"] > 0.8 * wall


def test_a_default_without_time_for_a_candidate_says_so(tmp_path: Path) -> None:
    events = Search(tmp_path, World(hill), wall=900.0).begin()
    record = Record.of(events)
    for number, each in list(record.trials.items()):
        if each.origin == "final" and each.config:
            del record.trials[number]
    assert "no time was left" in verdict(record, rivals=1).reason
    assert "no trial read faster" in verdict(record).reason


def test_a_final_start_without_a_reading_is_no_start_of_the_comparison(tmp_path: Path) -> None:
    record = Record.of(Search(tmp_path, World(hill), wall=3600.0).begin())
    whole = verdict(record)
    (*_, last) = (each for each in record.ended("final") if not each.config)
    cut = replace(last, measurements=(), state=State.STOPPED, score=None)
    stopped = verdict(Record(record.asks, {**record.trials, last.number: cut}))
    gone = verdict(Record(record.asks, {n: t for n, t in record.trials.items() if n != last.number}))
    assert stopped.interval == gone.interval != whole.interval


def test_when_everything_crashes_there_is_nothing(tmp_path: Path) -> None:
    events = Search(tmp_path, World(hill, crashes=lambda engine, config: True), trials=6).begin()
    outcome = result(events)
    assert outcome["outcomes"] == {"crashed": 6}
    assert outcome["found"] is None
    assert outcome["submitted"] is None


def test_two_engines_race_in_one_space(tmp_path: Path) -> None:
    spaces = {
        "one": Space("one", (Parameter("a", (1, 2, 3), 1, ordered=True),)),
        "two": Space("two", (Parameter("b", (False, True), False),)),
    }

    def level(engine: str, config: Config) -> float:
        return {"one": 10.0, "two": 11.0}[engine] * (1.5 if config.get("b") else 1.0)

    events = Search(tmp_path, World(level), engines=spaces, trials=None, wall=None).begin()
    assert asks(events, "default") == [("one", {}), ("two", {})]
    assert sorted(asks(events, "planner"), key=str) == [
        ("one", {"a": 2}),
        ("one", {"a": 3}),
        ("two", {"b": True}),
    ]
    outcome = result(events)
    assert outcome["default"]["engine"] == "two"
    assert (outcome["submitted"]["engine"], outcome["submitted"]["config"]) == ("two", {"b": True})


def test_the_published_protocol(tmp_path: Path) -> None:
    events = Search(tmp_path, World(hill), strategy="published", scenario="C", trials=10).begin()
    first = next(event for event in events if event["event"] == "ask")
    assert [(plan["fidelity"]["requests"], plan["fidelity"]["serial"]) for plan in first["plans"]] == [
        (4 / 256, 4)
    ]
    finals = [event for event in events if event["event"] == "ask" and event["origin"] == "final"]
    assert len(finals) == 1
    assert finals[0]["plans"] == [asdict(Plan("C", "paper", 1337))]
    best = max(trials(events, "planner"), key=lambda trial: trial["score"] or 0.0)
    assert finals[0]["config"] == best["config"]
    assert result(events)["submitted"]["trial"] == 10


def test_the_published_protocol_never_weighs_the_default(tmp_path: Path) -> None:
    """It lost to it: where nothing is better, it submits something worse."""
    outcome = result(Search(tmp_path, World(flat_but_default), strategy="published", trials=5).begin())
    assert outcome["default"]["trial"] == 0
    assert outcome["submitted"]["config"]
    assert (
        max(score for _, score in outcome["curve"]) == outcome["found"]["score"] < outcome["default"]["score"]
    )
    alone = result(Search(tmp_path / "alone", World(hill), strategy="published", trials=1).begin())
    assert alone["submitted"]["config"] == {}


def test_whole_trials_and_one_finalist(tmp_path: Path) -> None:
    events = Search(tmp_path, World(hill), strategy="full", trials=5).begin()
    planned = [event for event in events if event["event"] == "ask"]
    assert {plan["fidelity"]["requests"] for event in planned for plan in event["plans"]} == {1.0}
    assert [event["origin"] for event in planned] == ["default", *["planner"] * 4, "final"]


@pytest.mark.parametrize(
    ("profile", "letter", "shares"),
    [
        ("paper", "A", (0.125, 0.125, 0.25, 0.5)),
        ("paper", "B", (0.125, 0.125, 0.25, 0.5)),
        ("paper", "C", (0.125, 0.125, 0.25, 0.5)),
        ("paper", "D", (0.125, 0.125, 0.25, 0.5)),
        ("cpu", "A", (0.25, 0.25, 0.5)),
        ("cpu", "B", (0.5, 0.5)),
        ("cpu", "C", (0.25, 0.25, 0.5)),
        ("gpu-short", "C", (0.25, 0.25, 0.5)),
    ],
)
def test_ladders_keep_the_regime(
    tmp_path: Path, profile: str, letter: str, shares: tuple[float, ...]
) -> None:
    setting = replace(
        Search(tmp_path, World(hill)).setting(),
        scenario=profiles.scenario(profile, letter),
        profile=profile,
    )
    plans = ladder(setting)
    assert tuple(plan.fidelity.requests for plan in plans) == shares
    assert [plan.fidelity.block for plan in plans] == list(range(len(shares)))
    assert all(plan.fidelity.output == 1.0 for plan in plans)
    assert not keeps_regime(profiles.scenario("paper", "C"), 4 / 256)


def test_the_gap_between_two_servers(tmp_path: Path) -> None:
    search = Search(tmp_path, World(hill))
    plans = ladder(search.setting())
    draw = random.Random(1)
    quiet = World(hill, noise=0.0)
    fast = readings(quiet._measurement(plan, 12.0, draw, False) for plan in plans)
    slow = readings(quiet._measurement(plan, 10.0, draw, False) for plan in plans[:2])
    apart = gap(fast, slow)
    assert apart is not None
    assert apart.blocks == 2
    assert apart.ratio == pytest.approx(1.2, rel=1e-9)
    low, high = apart.interval()
    assert low < 1.2 < high
    assert gap(fast, ()) is None
    again = gap(fast, slow, starts=(2, 2))
    assert again is not None
    assert again.error < apart.error


def test_a_survey_measures_every_config_in_every_scenario_and_submits_nothing(tmp_path: Path) -> None:
    search = Search(tmp_path, World(flat_but_default), strategy="survey", also=("B",), scenario="C", trials=6)
    events = search.begin()
    asked = [event for event in events if event["event"] == "ask"]
    assert [event["origin"] for event in asked] == ["default", *["planner"] * 5]
    first = {letter: ladder(replace(search.setting(), scenario=profiles.scenario("paper", letter)))[0]
             for letter in "CB"}  # fmt: skip
    assert all(event["plans"] == [asdict(first["B"]), asdict(first["C"])] for event in asked)
    kept = [event for event in events if event["event"] == "trial"]
    assert {event["state"] for event in kept} == {"complete"}
    assert all(len(event["measurements"]) == 2 for event in kept)
    outcome = result(events)
    assert outcome["submitted"] is None
    assert outcome["nothing_submitted"] == "a survey submits nothing"
    assert outcome["found"]["config"] == {}


def test_a_record_is_what_its_events_say(tmp_path: Path) -> None:
    events = Search(tmp_path, World(hill), trials=6).begin()
    record = Record.of(events)
    assert not record.in_flight
    assert record.next_number == len(record.trials)
    assert all(trial.state in (State.COMPLETE, State.PRUNED) for trial in record.trials.values())
    assert all(trial.measurements for trial in record.trials.values())


def test_an_unknown_strategy_names_the_known_ones(tmp_path: Path) -> None:
    with pytest.raises(UnknownStrategy, match="ceiling, published, full, survey"):
        strategy("greedy", Search(tmp_path, World(hill)).setting())


def test_fidelity_is_full_only_when_whole() -> None:
    assert Fidelity(block=1).full
    assert not Fidelity(requests=0.5).full


def test_a_block_may_take_three_times_the_rival_s_seconds(tmp_path: Path) -> None:
    record = Record.of(Search(tmp_path, World(hill)).begin())
    default = record.trials[0]
    slowest = max(each.seconds for each in default.measurements)
    assert patience(default) == PATIENCE * slowest + GRACE
    assert patience(None) is None


def test_what_was_cut_off_counts_as_far_below_the_default(tmp_path: Path) -> None:
    search = Search(tmp_path, World(hill))
    record = Record.of(search.begin())
    ceiling = strategy("ceiling", search.setting())
    default = record.trials[0]
    cut = replace(default, number=99, state=State.PRUNED, score=None, measurements=())
    value, reference = ceiling.value(record, cut), ceiling.value(record, default)
    assert value is not None and reference is not None
    assert value == pytest.approx(reference / PATIENCE)
    assert ceiling.value(record, replace(cut, state=State.CRASHED)) is None
