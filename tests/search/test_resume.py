"""A search cut off anywhere and resumed: the same proposals, nothing lost, nothing measured twice."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from scenarios.ledger import FILE, Ledger, LedgerError
from search.course import ATTEMPTS
from search.record import Record
from search.result import result
from tests.search.landscape import SMALL, crashes, score
from tests.search.world import Search, World, asks

Events = list[dict[str, Any]]


def world() -> World:
    return World(lambda engine, config: score(config), crashes=lambda engine, config: crashes(config))


def cut(source: Path, target: Path, lines: int, torn: int = 0) -> None:
    """A copy of a run as a SIGKILL leaves it: so many whole lines, and some bytes of the next."""
    whole = (source / FILE).read_bytes().splitlines(keepends=True)
    target.mkdir()
    (target / FILE).write_bytes(b"".join(whole[:lines]) + whole[lines][:torn])


def check_whole(events: Events) -> None:
    """Every trial ends once, and none is asked again after its end."""
    ends = Counter(event["trial"] for event in events if event["event"] == "trial")
    asked = {event["trial"] for event in events if event["event"] == "ask"}
    assert set(ends) == asked
    assert set(ends.values()) == {1}
    ended: set[int] = set()
    for event in events:
        if event["event"] == "trial":
            ended.add(event["trial"])
        if event["event"] == "ask":
            assert event["trial"] not in ended
    counted = Counter(event["id"] for event in events if event["event"] == "measurement")
    assert set(counted.values()) <= {1}


@pytest.mark.parametrize(("planner", "step"), [("random", 1), ("tpe", 4), ("gp", 7)])
def test_cut_anywhere_it_proposes_what_it_would_have(tmp_path: Path, planner: str, step: int) -> None:
    whole = Search(tmp_path / "whole", world(), planner=planner, wall=None, trials=9)
    events = whole.begin()
    for lines in range(1, len(events) - 1, step):
        cut(tmp_path / "whole", tmp_path / f"{lines}", lines, torn=lines % 3 * 20)
        again = Search(tmp_path / f"{lines}", world(), planner=planner, wall=None, trials=9)
        resumed = again.resume()
        check_whole(resumed)
        assert asks(resumed) == asks(events)
        assert result(resumed)["submitted"]["config"] == result(events)["submitted"]["config"]


@pytest.mark.parametrize("planner", ["random", "tpe", "smac"])
def test_with_trials_in_flight(tmp_path: Path, planner: str) -> None:
    """What was asked before the cut is asked again, in order; from there on the tells decide."""
    events = Search(tmp_path / "whole", world(), planner=planner, wall=None, trials=10, devices=3).begin()
    for lines in range(2, len(events) - 1, 5 if planner == "random" else 11):
        cut(tmp_path / "whole", tmp_path / f"{lines}", lines)
        before = Record.of(events[:lines])
        flying = {ask.number for ask in before.in_flight}
        again = Search(tmp_path / f"{lines}", world(), planner=planner, wall=None, trials=10, devices=3)
        resumed = again.resume()
        check_whole(resumed)
        assert asks(resumed)[: len(before.asks)] == asks(events[:lines])
        lost = {event["trial"] for event in resumed if event["event"] == "lost"}
        assert lost == flying
        second = [event["trial"] for event in resumed if event["event"] == "ask" and event["attempt"] == 1]
        assert second == sorted(flying)


def test_killed_again_and_again(tmp_path: Path) -> None:
    events = Search(tmp_path / "0", world(), planner="tpe", wall=None, trials=8, devices=2).begin()
    for kill in range(1, 6):
        source = tmp_path / f"{kill - 1}"
        cut(source, tmp_path / f"{kill}", len((source / FILE).read_text().splitlines()) * kill // 7 + 1)
        events = Search(tmp_path / f"{kill}", world(), planner="tpe", wall=None, trials=8, devices=2).resume()
        check_whole(events)
    assert result(events)["submitted"]["valid"]


def test_a_budget_that_was_spent_before_the_kill_stays_spent(tmp_path: Path) -> None:
    events = Search(tmp_path / "whole", world(), wall=900.0).begin()
    cut(tmp_path / "whole", tmp_path / "cut", len(events) // 2)
    again = Search(tmp_path / "cut", world(), wall=900.0, now=450.0)
    resumed = again.resume()
    check_whole(resumed)
    assert max(end for _, end in again.world.starts) <= 900.0


def test_a_ledger_of_another_course_is_refused(tmp_path: Path) -> None:
    Search(tmp_path / "run", world(), planner="random", wall=None, trials=6).begin()
    with pytest.raises(LedgerError, match=r"trial 0 had plans .*, but this version proposes"):
        Search(tmp_path / "run", world(), planner="random", wall=None, trials=6, seed=22).resume()


def test_a_space_that_changed_is_refused(tmp_path: Path) -> None:
    events = Search(tmp_path / "run", world(), planner="random", wall=None, trials=6).begin()
    assert any("kv" in config for _, config in asks(events))
    other = Search(tmp_path / "run", world(), planner="random", wall=None, trials=6)
    other.engines = {"made-up": SMALL}
    with pytest.raises(LedgerError, match=r"but this version proposes|the space has changed"):
        other.resume()


def test_a_config_that_keeps_killing_its_worker_is_given_up(tmp_path: Path) -> None:
    search = Search(tmp_path, world(), wall=None, trials=3)
    with Ledger.create(tmp_path, search.header()) as ledger:
        course = search.course(ledger)
        for attempt in range(ATTEMPTS):
            ask = course.ask(100.0)
            assert ask is not None
            assert (ask.number, ask.attempt) == (0, attempt)
            course.lose(ask, "its worker died", 5.0, counts=True)
        following = course.ask(100.0)
        assert following is not None
        assert following.number == 1
        ended = course.record.trials[0]
        assert (ended.state, ended.crash) == ("crashed", "worker-lost")


def test_losses_that_are_nobody_s_fault_do_not_count(tmp_path: Path) -> None:
    search = Search(tmp_path, world(), wall=None, trials=3)
    with Ledger.create(tmp_path, search.header()) as ledger:
        course = search.course(ledger)
        for attempt in range(2 * ATTEMPTS):
            ask = course.ask(100.0)
            assert ask is not None
            assert (ask.number, ask.attempt) == (0, attempt)
            course.lose(ask, "interrupted", 5.0, counts=False)


def test_a_lost_trial_that_no_longer_fits_is_not_begun(tmp_path: Path) -> None:
    search = Search(tmp_path, world(), wall=None, trials=3)
    with Ledger.create(tmp_path, search.header()) as ledger:
        course = search.course(ledger)
        first = course.ask(100.0)
        assert first is not None
        course.lose(first, "its worker died", 5.0, counts=True)
        assert course.ask(0.0) is None
        assert course.record.lost == {0: "its worker died"}
