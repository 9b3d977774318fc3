"""Profiles hold the published figures, and a person's own file is checked field by field."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml

from scenarios.profiles import names, profile, scenario
from scenarios.scenario import Profile, Scenario, ScenarioError, Score

PUBLISHED = {
    "A": (8192, 1024, [("closed", 128, 1, None)], 0.2, Score.TTFT),
    "B": (1024, 8192, [("closed", 64, 1, None)], 0.7, Score.TPOT),
    "C": (
        1024,
        1024,
        [("burst", 256, 64, None), ("poisson", 256, 32, 32.0), ("constant", 256, 16, 16.0)],
        0.3,
        Score.THROUGHPUT,
    ),
    "D": (4096, 2048, [("closed", 96, 4, None)], 0.4, Score.ALL),
}


def regime(part: Scenario) -> list[int | None]:
    return [traffic.concurrency for traffic in part.traffics]


def test_the_profiles_that_come_with_it() -> None:
    assert set(names()) >= {"paper", "gpu-short", "cpu", "smoke"}


@pytest.mark.parametrize("letter", "ABCD")
def test_paper_is_the_published_benchmark(letter: str) -> None:
    part = scenario("paper", letter)
    traffics = [(t.kind, t.requests, t.concurrency, t.rate) for t in part.traffics]
    found = (part.input_tokens, part.output_tokens, traffics, part.temperature_published, part.score)
    assert found == PUBLISHED[letter]
    assert part.spread == 0.8
    assert profile("paper").max_length == 32768
    assert profile("paper").text == "longbench-v2"


@pytest.mark.parametrize("name", names())
def test_every_profile_has_all_four_scenarios_in_one_shape(name: str) -> None:
    sizes = profile(name)
    assert sizes.name == name
    assert list(sizes.scenarios) == ["A", "B", "C", "D"]
    assert [part.score for part in sizes.scenarios.values()] == [PUBLISHED[x][4] for x in "ABCD"]
    assert [t.kind for t in sizes.scenarios["C"].traffics] == ["burst", "poisson", "constant"]
    assert all(part.warmup_requests >= 1 for part in sizes.scenarios.values())


def test_gpu_short_keeps_the_published_regimes() -> None:
    for letter, concurrency in {"A": [1], "B": [1], "D": [4]}.items():
        part = scenario("gpu-short", letter)
        assert part.input_tokens == PUBLISHED[letter][0]
        assert regime(part) == concurrency
    assert scenario("gpu-short", "C").input_tokens == 1024
    assert regime(scenario("gpu-short", "C"))[0] == 64


def test_unknown_names_list_the_choices() -> None:
    with pytest.raises(ScenarioError, match=r"unknown profile papr: choose cpu, .*paper"):
        profile("papr")
    with pytest.raises(ScenarioError, match="unknown scenario E: profile cpu has A, B, C, D"):
        scenario("cpu", "E")


TINY = {
    "name": "mine",
    "scenarios": {
        "B": {
            "bottleneck": "decode",
            "score": "1 / TPOT p50",
            "input_tokens": 64,
            "output_tokens": 16,
            "traffics": [{"name": "closed", "kind": "closed", "requests": 4, "concurrency": 1}],
        }
    },
}


def written(tmp_path: Path, text: str) -> str:
    file = tmp_path / "mine.yaml"
    file.write_text(text, encoding="utf-8")
    return str(file)


def test_a_profile_of_ones_own(tmp_path: Path) -> None:
    mine = profile(written(tmp_path, yaml.safe_dump(TINY)))
    assert isinstance(mine, Profile)
    assert scenario(mine, "B").output_tokens == 16
    assert scenario(mine, "B").spread == 0.8


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("requests: 4", "requests: 0", r"scenarios\.B\.traffics\.0\.requests: .*greater than 0"),
        ("requests: 4", "request: 4", r"scenarios\.B\.traffics\.0\.requests: Field required"),
        ("concurrency: 1", "cap: 1", r"scenarios\.B\.traffics\.0\.cap: Extra inputs"),
        ("concurrency: 1", "rate: 1", r"scenarios\.B\.traffics\.0: .*closed traffic needs a concurrency"),
        ("kind: closed", "kind: poisson", r"poisson traffic needs a rate"),
        ("kind: closed", "kind: replay", r"replay traffic needs a trace"),
        ("output_tokens: 16", "output_tokens: many", r"scenarios\.B\.output_tokens: .*integer"),
        ("name: mine", "name: mine\nmax_length: 70", r"scenario B needs 80 tokens, max_length is 70"),
        ("name: mine", "name: [mine", r"is not YAML"),
        ("B:", "F:", r"scenarios\.F"),
    ],
)
def test_a_mistake_is_named_by_file_and_field(tmp_path: Path, old: str, new: str, message: str) -> None:
    text = yaml.safe_dump(TINY)
    assert old in text
    with pytest.raises(ScenarioError, match=message) as raised:
        profile(written(tmp_path, text.replace(old, new, 1)))
    assert "mine.yaml" in str(raised.value)
    assert "\n" not in str(raised.value)


def test_a_trace_file_lies_beside_the_profile(tmp_path: Path) -> None:
    replay = "kind: replay\n      trace_file: sends.txt"
    path = written(tmp_path, yaml.safe_dump(TINY).replace("kind: closed", replay, 1))
    (tmp_path / "sends.txt").write_text("0\n0.5\n\n0.25\n2\n")
    assert profile(path).scenarios["B"].traffics[0].trace == (0.0, 0.25, 0.5, 2.0)


@pytest.mark.parametrize(
    ("trace", "message"),
    [
        (None, "is not a file"),
        ("0\nsoon\n", "line 2: not a number of seconds: soon"),
        ("0\n1\n", "2 offsets"),
    ],
)
def test_a_bad_trace_file_is_one_line(tmp_path: Path, trace: str | None, message: str) -> None:
    replay = "kind: replay\n      trace_file: sends.txt"
    path = written(tmp_path, yaml.safe_dump(TINY).replace("kind: closed", replay, 1))
    if trace is not None:
        (tmp_path / "sends.txt").write_text(trace)
    with pytest.raises(ScenarioError, match=message):
        profile(path)
