"""Comparison of hand-made runs, against exact values."""

from __future__ import annotations

import csv
import json
import math
from pathlib import Path

import pytest

from studies.compare import Table, compare, load
from studies.compare_data import as_json, write_csv
from studies.errors import BadInput
from studies.record import open_run
from studies.verdict import over_default, verdicts
from tests.studies.conftest import HOST, MODEL, MakeRun

PAIRS = ((21, 1337), (248, 428), (999, 777))


def only(*paths: Path) -> Table:
    tables = compare(load(paths))
    assert len(tables) == 1
    return tables[0]


def methods(table: Table, focus: str | None = None) -> list[str]:
    return [row.method for row in table.ranked(focus)]


def test_mean_and_standard_error_over_seed_pairs(make_run: MakeRun, tmp_path: Path) -> None:
    for pair, submitted in zip(PAIRS, (2.0, 3.0, 4.0), strict=True):
        make_run(f"s{pair[0]}", seeds=pair, submitted=submitted, baseline=1.0, scores=(1.5, 4.0))
    entry = only(tmp_path / "runs").rows[0].entries["C"]
    assert (entry.speedup.mean, entry.speedup.n) == (3.0, 3)
    assert entry.speedup.sem == pytest.approx(1 / 3**0.5)
    assert entry.over_default is not None and entry.over_default.mean == pytest.approx(2.0)
    assert entry.found is not None and entry.found.mean == pytest.approx(4.0)
    assert (entry.gpu_seconds, entry.configs, entry.outcomes) == (20.0, 2.0, {"complete": 6})


def test_a_lone_run_says_how_sure_it_is_by_its_own_requests(make_run: MakeRun, tmp_path: Path) -> None:
    make_run("a", submitted=2.6, scores=(2.0, 2.5), ratio=1.3)
    (one,) = verdicts(only(tmp_path / "runs"))
    assert one.sure.endswith("on the same held-out requests 1.30x the default (95 % 1.17 to 1.43)")
    make_run("b", seeds=(248, 428), submitted=2.6, scores=(2.0, 2.5), ratio=1.3)
    (two,) = verdicts(only(tmp_path / "runs"))
    assert "held-out" not in two.sure


def test_the_aggregate_over_the_default_has_an_interval(make_run: MakeRun, tmp_path: Path) -> None:
    for letter, ratio in (("A", 1.2), ("B", 1.5)):
        make_run(letter, scenario=letter, submitted=2.6, scores=(2.0, 2.5), ratio=ratio)
    (one,) = over_default(only(tmp_path / "runs"))
    assert (one.scenarios, one.ratio) == (("A", "B"), pytest.approx((1.2 * 1.5) ** 0.5))
    low, high = one.interval
    assert low < one.ratio < high
    assert math.log(high / low) == pytest.approx(math.log(1.1 / 0.9) / 2**0.5)
    assert one.words.startswith("AB: tpe (vllm) reads 1.34x the engine default by geometric mean (95 % 1.2")
    make_run("C", scenario="C", submitted="unreachable: gone", scores=(2.0, 2.5))
    assert over_default(only(tmp_path / "runs")) == []


def test_it_comes_from_seed_pairs_where_there_are_several(make_run: MakeRun, tmp_path: Path) -> None:
    for letter in "AB":
        for number, (pair, ratio) in enumerate(zip(PAIRS, (1.2, 1.3, 1.4), strict=True)):
            make_run(f"{letter}{number}", scenario=letter, seeds=pair, submitted=2.6, ratio=ratio)
    (one,) = over_default(only(tmp_path / "runs"))
    assert one.ratio == pytest.approx(1.3)
    spread = 2.776445 * (0.1 / 3**0.5 / 1.3) / 2**0.5
    assert one.interval == pytest.approx((1.3 * math.exp(-spread), 1.3 * math.exp(spread)), rel=1e-5)


def test_the_published_protocol_does_not_hold_the_default(make_run: MakeRun, tmp_path: Path) -> None:
    spec = {"spec": {"strategy": "published"}}
    run = open_run(make_run("a", scores=(9.0, 2.0, 3.0), header=spec))
    assert [point.score for point in run.curve] == [2.0, 3.0]
    assert [point.score for point in open_run(make_run("b", scores=(9.0, 2.0))).curve] == [9.0]


def test_repeats_of_a_seed_pair_are_one_draw(make_run: MakeRun, tmp_path: Path) -> None:
    make_run("a", submitted=2.0)
    make_run("b", submitted=4.0)
    make_run("c", seeds=(248, 428), submitted=5.0)
    entry = only(tmp_path / "runs").rows[0].entries["C"]
    assert (entry.speedup.mean, entry.speedup.n) == (4.0, 2)


@pytest.mark.parametrize(
    ("submitted", "reason"),
    [
        ("unreachable: nothing answered", "unreachable: nothing answered"),
        (0.5, "slower than the torch baseline (0.50x)"),
        (None, "nothing was submitted"),
    ],
)
def test_what_cannot_count_is_1x_with_its_reason(
    make_run: MakeRun, tmp_path: Path, submitted: float | str | None, reason: str
) -> None:
    make_run("regressor", method="agent:regressor", kind="agent", scores=(2.0, 6.0), submitted=submitted)
    row = only(tmp_path / "runs").rows[0]
    row = next(r for r in only(tmp_path / "runs").rows if r.kind == "agent")
    entry = row.entries["C"]
    assert entry.speedup.mean == 1.0
    assert entry.reasons == {reason: 1}
    assert entry.found is not None and entry.found.mean == 6.0
    assert entry.over_default is not None and entry.over_default.mean == pytest.approx(0.5)


def test_aggregate_is_geometric_over_the_scenarios_present(make_run: MakeRun, tmp_path: Path) -> None:
    for letter, submitted in zip("ABCD", (5.06, 15.23, 89.0, 6.1), strict=True):
        make_run(letter, scenario=letter, submitted=submitted, scores=(1.0, 100.0))
    make_run("random", method="random", scenario="C", submitted=500.0, scores=(1.0, 500.0))
    table = only(tmp_path / "runs")
    tpe = next(row for row in table.rows if row.method == "tpe (vllm)")
    assert tpe.aggregate is not None and tpe.aggregate.mean == pytest.approx(14.30, abs=0.01)
    assert methods(table)[0] == "tpe (vllm)", "a method with one scenario is not ranked above a whole one"
    assert methods(table, "C")[0] == "random (vllm)"
    random = next(row for row in table.rows if row.method == "random (vllm)")
    assert not table.complete(random) and table.complete(tpe)


def test_default_and_baseline_are_in_the_race(make_run: MakeRun, tmp_path: Path) -> None:
    make_run("a", scores=(48.0, 47.0), submitted=46.0, baseline=1.0)
    assert methods(only(tmp_path / "runs"), "C") == ["vllm default", "tpe (vllm)", "torch baseline"]


def test_a_baseline_that_runs_share_counts_once(make_run: MakeRun, tmp_path: Path) -> None:
    make_run("a", baseline=1.0, measured="one", submitted=4.0)
    make_run("b", method="random", baseline=1.0, measured="one", submitted=4.0)
    make_run("c", method="gp", baseline=3.0, measured="other", submitted=4.0)
    assert all(row.entries["C"].speedup.mean == 2.0 for row in only(tmp_path / "runs").rows[:3])


def test_submitted_is_held_against_the_default_on_the_same_requests(
    make_run: MakeRun, tmp_path: Path
) -> None:
    """Held-out requests may be easier for every server: that is no speedup."""
    make_run("search", scores=(54.0, 56.0), submitted=64.0, ratio=0.99, baseline=10.0)
    make_run("agent", method="agent:x", kind="agent", scores=(None, 54.0), submitted=64.0, baseline=12.0)
    table = only(tmp_path / "runs")
    rows = {row.method: row.entries["C"] for row in table.rows}
    search, agent = rows["tpe (vllm)"], rows["agent:x (vllm)"]
    assert search.over_default is not None and search.over_default.mean == 0.99
    assert agent.over_default is not None and agent.over_default.mean == pytest.approx(0.99)
    assert search.speedup.mean == agent.speedup.mean == pytest.approx(64 / 12), "held out against held out"
    assert search.found is not None and search.found.mean == pytest.approx(56 / 10), "dev against dev"
    assert rows["vllm default"].speedup.mean == pytest.approx(64 / 0.99 / 12)


def test_a_search_on_parts_of_the_scenario_is_read_against_its_own_default(
    make_run: MakeRun, tmp_path: Path
) -> None:
    """At half the requests every server scores lower: 3.0 against 2.0 there is what 9.0 against 6.0 is."""
    make_run("search", scores=(2.0, 3.0), share=0.5, submitted=9.0, ratio=1.5, baseline=4.0)
    make_run("agent", method="agent:x", kind="agent", scores=(None, 6.0), submitted=6.0, baseline=4.0)
    table = only(tmp_path / "runs")
    rows = {row.method: row.entries["C"] for row in table.rows}
    found = {name: entry.found.mean for name, entry in rows.items() if entry.found}
    assert found == {"tpe (vllm)": pytest.approx(9.0 / 4.0), "agent:x (vllm)": pytest.approx(6.0 / 4.0)}
    assert rows["vllm default"].speedup.mean == pytest.approx(6.0 / 4.0)
    assert rows["agent:x (vllm)"].over_default == rows["vllm default"].over_default


def test_a_run_without_any_reference_is_left_out_and_named(make_run: MakeRun, tmp_path: Path) -> None:
    path = make_run("a", scores=(None, 2.0), baseline=None, submitted=2.0)
    table = only(tmp_path / "runs")
    assert not table.rows
    assert any(str(path) in note for note in table.notes)


def test_agents_take_the_default_that_others_measured(make_run: MakeRun, tmp_path: Path) -> None:
    make_run("search", scores=(2.0, 3.0))
    make_run("agent", method="agent:greedy", kind="agent", scores=(None, 6.0), submitted=6.0, baseline=None)
    agent = next(row for row in only(tmp_path / "runs").rows if row.kind == "agent")
    assert agent.entries["C"].speedup.mean == 6.0
    over = agent.entries["C"].over_default
    assert over is not None and over.mean == 3.0


def test_simulated_runs_stand_apart_and_say_so(make_run: MakeRun, tmp_path: Path) -> None:
    make_run("real")
    make_run("sim", engines=("simulated",), baseline=None, scores=(2.0, 4.0), submitted=4.0)
    real, simulated = compare(load([tmp_path / "runs"]))
    assert (real.reference, simulated.reference) == ("torch", "default")
    assert not real.setting.simulated and simulated.setting.simulated
    assert simulated.setting.title.startswith("SIMULATION")
    assert simulated.rows[0].entries["C"].speedup.mean == 2.0


@pytest.mark.parametrize(
    "header",
    [
        {"profile": "gpu-short"},
        {"model": {**MODEL, "digest": "d2"}},
        {"model": {**MODEL, "weights": "dummy"}},
        {"host": {**HOST, "cores": 64}},
        {"devices": 2},
        {"spec": {"text": "longbench-v2"}},
        {"spec": {"forced": {"max-num-seqs": 1}}},
    ],
)
def test_unlike_settings_are_never_in_one_table(
    make_run: MakeRun, tmp_path: Path, header: dict[str, object]
) -> None:
    make_run("a")
    make_run("b", header=header)
    assert [len(table.runs) for table in compare(load([tmp_path / "runs"]))] == [1, 1]


def test_a_profile_of_one_s_own_that_was_edited_is_another(make_run: MakeRun, tmp_path: Path) -> None:
    for name, digest in (("a", "one"), ("b", "other"), ("c", "other")):
        make_run(name, header={"profile": "/home/own.yaml+natural", "provenance": {"profile": digest}})
    tables = compare(load([tmp_path / "runs"]))
    assert [len(table.runs) for table in tables] == [2, 1]
    assert [table.setting.title.split(",")[0] for table in tables] == [
        "profile /home/own.yaml+natural (other)",
        "profile /home/own.yaml+natural (one)",
    ]
    for name, digest in (("d", "one"), ("e", "other")):
        make_run(name, header={"provenance": {"profile": digest}})
    assert [len(table.runs) for table in compare(load([tmp_path / "runs"]))] == [2, 2, 1]


def test_flags_that_every_server_had_are_in_the_title(make_run: MakeRun, tmp_path: Path) -> None:
    make_run("a", header={"spec": {"forced": {"max-num-seqs": 1, "dtype": "auto"}}})
    assert ", --set dtype=auto --set max-num-seqs=1" in only(tmp_path / "runs").setting.title


def test_a_narrowed_space_is_another_method(make_run: MakeRun, tmp_path: Path) -> None:
    make_run("a", submitted=2.0)
    make_run("b", submitted=3.0, header={"spec": {"fixed": {"enforce-eager": "default"}}})
    spaces = [{"path": "/home/mine.yaml", "digest": "d"}]
    make_run("c", submitted=4.0, header={"spec": {"space_files": spaces}})
    assert methods(only(tmp_path / "runs"), "C")[:3] == [
        "tpe (vllm, --space mine.yaml)",
        "tpe (vllm, --fix enforce-eager=default)",
        "tpe (vllm)",
    ]


def test_a_survey_has_no_place_in_the_race(make_run: MakeRun, tmp_path: Path) -> None:
    make_run("a", submitted=2.0)
    make_run("b", method="survey-random")
    table = only(tmp_path / "runs")
    assert methods(table, "C") == ["tpe (vllm)", "vllm default", "torch baseline"]
    assert any("a survey submits nothing" in note for note in table.notes)


def test_dummy_weights_are_marked(make_run: MakeRun, tmp_path: Path) -> None:
    make_run("a", header={"model": {**MODEL, "weights": "dummy"}})
    assert only(tmp_path / "runs").setting.title.endswith("speed only")


@pytest.mark.parametrize("end", [None, "interrupted"])
def test_unfinished_runs_are_left_out_and_named(make_run: MakeRun, tmp_path: Path, end: str | None) -> None:
    make_run("done", submitted=2.0)
    path = make_run("cut", submitted=9.0, seeds=(248, 428), end=end)
    table = only(tmp_path / "runs")
    assert table.rows[0].entries["C"].speedup.n == 1
    assert any(str(path) in note for note in table.notes)


def test_budgets_tell_methods_apart(make_run: MakeRun, tmp_path: Path) -> None:
    make_run("short", budget=600.0, submitted=2.0)
    make_run("long", budget=7200.0, submitted=3.0)
    assert methods(only(tmp_path / "runs"), "C")[:2] == ["tpe (vllm) 2h", "tpe (vllm) 10m"]


def test_scripts_say_that_they_are(make_run: MakeRun, tmp_path: Path) -> None:
    make_run("a", method="agent:greedy", kind="agent", header={"scripted": True})
    assert methods(only(tmp_path / "runs"), "C")[0] == "agent:greedy (vllm, script)"


def test_several_versions_of_an_engine_are_noted(make_run: MakeRun, tmp_path: Path) -> None:
    make_run("old", header={"provenance": {"engines": {"vllm": "0.23"}}})
    make_run("new", header={"provenance": {"engines": {"vllm": "0.24"}}})
    assert only(tmp_path / "runs").notes == ("several versions of vllm are in this table: 0.23, 0.24",)


def test_a_missing_baseline_is_noted(make_run: MakeRun, tmp_path: Path) -> None:
    make_run("a", scenario="A", baseline=None)
    make_run("c")
    table = only(tmp_path / "runs")
    assert table.reference == "default"
    assert "scenario A has no torch baseline" in table.notes[0]


def test_nothing_to_compare_is_one_line(tmp_path: Path) -> None:
    with pytest.raises(BadInput, match="holds no run"):
        load([tmp_path])


def test_a_torn_line_is_skipped_and_reported(make_run: MakeRun, tmp_path: Path) -> None:
    path = make_run("a")
    with (path / "ledger.jsonl").open("a") as ledger:
        ledger.write('{"schema":1,"event":"no')
    table = only(path)
    assert table.rows[0].entries["C"].speedup.mean == pytest.approx(2.9)
    assert any("1 unreadable ledger line" in note for note in table.notes)


def test_json_and_csv_keep_published_figures_apart(make_run: MakeRun, tmp_path: Path) -> None:
    make_run("a", submitted=2.9)
    tables = compare(load([tmp_path / "runs"]))
    data = json.loads(json.dumps(as_json(tables, "C", published=True)))
    assert data["tables"][0]["leaderboard"][0]["scenarios"]["C"]["speedup"] == {
        "mean": 2.9,
        "sem": None,
        "n": 1,
    }
    assert data["tables"][0]["search_ceiling"]["C"]["method"] == "tpe (vllm)"
    assert data["published"]["methods"][0]["aggregate"] == 11.53
    assert "published" not in as_json(tables, None, published=False)
    write_csv(tmp_path / "out.csv", tables, published=True)
    with (tmp_path / "out.csv").open() as lines:
        rows = list(csv.DictReader(lines))
    ours = next(row for row in rows if row["method"] == "tpe (vllm)" and row["scenario"] == "C")
    assert (ours["speedup"], ours["published_speedup"]) == ("2.9", "43.46")
    theirs = [row for row in rows if row["table"] == "published"]
    assert theirs and all(row["speedup"] == "" and "[published]" in row["method"] for row in theirs)
