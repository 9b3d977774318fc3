"""The scorer from end to end, on the simulated engine, whose ground truth is on record."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator, Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from engines import health
from engines.contract import Model, Value
from engines.host import this_host
from engines.nvml import NVML
from engines.registry import engine
from engines.server import Server
from scenarios import metrics, rows, tokenizer
from scenarios.load.driver import run
from scenarios.measurement import Measurement
from scenarios.models import open_model
from scenarios.remote import Remote, Unreachable
from scenarios.requests import reduce
from scenarios.roofline import Ideal, Roofline
from scenarios.scenario import Traffic
from scenarios.score import _bound, rescore, score
from tests.scenarios.mock_server import MockServer
from tests.scenarios.plain_text import write_jsonl
from tests.scenarios.request_sets import request_set, scenario
from tests.tiny_model import make_tiny_model

Place = pytest.TempPathFactory


@pytest.fixture(scope="module")
def model(tmp_path_factory: Place) -> Model:
    return open_model(make_tiny_model(tmp_path_factory.mktemp("model")), name="tiny")


@pytest.fixture(scope="module")
def text(tmp_path_factory: Place) -> str:
    return write_jsonl(tmp_path_factory.mktemp("text") / "text.jsonl", documents=40)


@pytest.fixture(scope="module")
def url(model: Model, tmp_path_factory: Place) -> Iterator[str]:
    with Server(engine("simulated"), {}, model, log=tmp_path_factory.mktemp("log") / "engine.log") as server:
        yield server.url


@pytest.fixture(scope="module")
def measured(url: str, model: Model, text: str, tmp_path_factory: Place) -> tuple[Measurement, Path]:
    out = tmp_path_factory.mktemp("run") / "rows"
    return score(url, "C", profile="smoke", seed=1, model=model, text=text, out=out), out


def test_a_measurement_says_all_that_it_must(measured: tuple[Measurement, Path]) -> None:
    data = json.loads(json.dumps(measured[0].to_json(), allow_nan=False))
    assert data["valid"]
    assert data["score"] > 0
    assert data["interval"][0] <= data["score"] <= data["interval"][1]
    assert data["requests"] == {"asked": 72, "completed": 72, "failed": 0, "short": 0}
    assert {"burst.req_per_s", "poisson.achieved_dispersion", "ttft_p50", "send_lag_p99"} <= data[
        "metrics"
    ].keys()
    assert data["mark"] == "simulated"
    made = data["provenance"]
    assert made["server"]["version"] == "1"
    assert made["server"]["model"] == "tiny"
    assert made["request_set"] == data["request_set"]
    assert made["plan"]["seed"] == 1
    assert made["host"]["cores"] > 0
    assert {"before", "after"} == made["load_average"].keys()
    assert Measurement.from_json(data) == Measurement.from_json(measured[0].to_json())


def test_rows_are_kept_and_score_the_same_again(measured: tuple[Measurement, Path]) -> None:
    one, out = measured
    assert one.rows == f"rows/{one.id}"
    place = out / one.id
    assert len(rows.read(place)) == 72 + 2 + 6
    assert rescore(place) == one
    assert sorted(path.suffix for path in place.iterdir()) == [".json", ".json", ".jsonl", ".parquet"]


def test_a_score_is_also_a_fraction_of_the_roofline(
    measured: tuple[Measurement, Path], tmp_path: Path
) -> None:
    one, out = measured
    for path in (out / one.id).iterdir():
        (tmp_path / path.name).write_bytes(path.read_bytes())
    facts = json.loads((tmp_path / "facts.json").read_text())
    assert facts["roofline"] is None and "of_roofline" not in one.metrics
    ideal = Ideal(1e12, 1e15, 1e9, 1e9, 0.0, 0.0, 0.0, None, "made up")
    facts["roofline"] = asdict(Roofline(0.0, 0.0, "made up", ideal))
    (tmp_path / "facts.json").write_text(json.dumps(facts))
    again = rescore(tmp_path)
    assert again.valid and again.score == one.score
    assert again.score is not None and 0 < again.metrics["of_roofline"] < 1
    assert again.metrics["of_roofline"] == again.score / again.metrics["roofline_req_per_s"]


def test_rows_that_were_tampered_with_score_otherwise(
    measured: tuple[Measurement, Path], tmp_path: Path
) -> None:
    one, out = measured
    for path in (out / one.id).iterdir():
        (tmp_path / path.name).write_bytes(path.read_bytes())
    frame = rows.read(tmp_path)
    writer = rows.Writer(tmp_path)
    (tmp_path / "part-00000.parquet").unlink()
    for record in frame.iloc[:40].to_dict("records"):
        writer.add(
            {key: None if value is pd.NA or value != value else value for key, value in _plain(record)}
        )
    writer.flush()
    again = rescore(tmp_path)
    assert not again.valid
    assert again.invalid_reasons[0].code == "failures"


def _plain(record: Mapping[Any, Any]) -> Iterator[tuple[str, Any]]:
    for key, value in record.items():
        yield str(key), list(value) if hasattr(value, "__len__") and not isinstance(value, str) else value


def test_the_observer_hears_warming_and_measuring(url: str, model: Model, text: str) -> None:
    heard: list[Mapping[str, Any]] = []
    score(url, "A", profile="smoke", seed=2, model=model, text=text, observer=heard.append)
    assert [event["phase"] for event in heard][:2] == ["warming", "measuring"]
    assert {event["event"] for event in heard} == {"phase"}


def test_the_same_seed_asks_the_same_and_another_asks_other(
    url: str, model: Model, text: str, tmp_path: Path
) -> None:
    runs = [
        score(url, "B", profile="smoke", seed=seed, model=model, text=text, out=tmp_path)
        for seed in (5, 5, 6)
    ]
    prompts = [set(rows.read(tmp_path / run.id).query("role == 'scored'")["prompt_sha256"]) for run in runs]
    assert runs[0].request_set == runs[1].request_set != runs[2].request_set
    assert prompts[0] == prompts[1]
    assert not prompts[0] & prompts[2]


def test_a_limit_makes_it_invalid(url: str, model: Model, text: str) -> None:
    run = score(url, "B", profile="smoke", seed=7, model=model, text=text, limit_seconds=0.3)
    assert not run.valid
    assert run.score is None
    assert run.invalid_reasons[0].code == "failures"
    assert run.requests["failed"] > 0


def test_random_weights_are_marked(url: str, model: Model, text: str) -> None:
    dummy = Model(model.path, model.name, model.max_length, "dummy")
    run = score(url, "B", profile="smoke", seed=8, model=dummy, text=text)
    assert run.valid, run.invalid_reasons
    assert run.mark == "simulated"


@pytest.mark.parametrize(
    ("address", "message"),
    [
        ("http://127.0.0.1:9", "nothing answers at http://127.0.0.1:9"),
        ("ftp://there", "write http://HOST:PORT"),
        ("http://", "write http://HOST:PORT"),
        ("http://[::1", "write http://HOST:PORT"),
    ],
)
def test_nobody_at_the_address_is_one_line(address: str, message: str, model: Model, text: str) -> None:
    with pytest.raises(Unreachable, match=message) as error:
        score(address, "A", profile="smoke", seed=1, model=model, text=text)
    assert "\n" not in str(error.value)


def test_neither_a_proxy_nor_the_caller_s_folder_comes_between(
    url: str, model: Model, text: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "uvloop.py").write_text("raise SystemExit('shadowed')\n")
    monkeypatch.chdir(tmp_path)
    for name in ("HTTP_PROXY", "http_proxy", "ALL_PROXY"):
        monkeypatch.setenv(name, "http://127.0.0.1:9")
    assert health.answers(url)
    made = score(url, "B", profile="smoke", seed=77, model=model, text=text)
    assert made.requests["completed"] == made.requests["asked"]


def test_a_cpu_bounds_only_what_was_launched_on_it(url: str, model: Model) -> None:
    real = Remote(("m",), {"owners": ["vllm"]})
    told = [
        _bound(url, model, real, NVML, this_host().devices, launched=launched) for launched in (True, False)
    ]
    assert (told[0] is not None, told[1]) == (True, None) or this_host().kind == "cuda"


def test_a_name_that_is_not_served_is_one_line(url: str, model: Model, text: str) -> None:
    with pytest.raises(Unreachable, match="does not serve 'other': name one of tiny"):
        score(url, "A", profile="smoke", seed=1, model=model, text=text, served_model="other")
    with MockServer(models=("a", "b")) as server, pytest.raises(Unreachable, match="serves a, b: name one"):
        score(server.url, "A", profile="smoke", seed=1, model=model, text=text)


@pytest.mark.parametrize(("chunk", "usage"), [(1, True), (3, False)])
def test_the_ground_truth_is_recovered(model: Model, tmp_path: Path, chunk: int, usage: bool) -> None:
    """At 64 streams: TTFT, TPOT and throughput within 1 % or 1 ms of what the server did."""
    config: dict[str, Value] = {
        "env.CEILING_SIM_FIXED": f"ttft=0.3,tpot=0.02,chunk={chunk}",
        "env.CEILING_SIM_TRUTH": str(tmp_path / "truth.jsonl"),
        "env.CEILING_SIM_USAGE": str(int(usage)),
    }
    traffic = Traffic("constant", "constant", 104, None, 41.0)
    words = tokenizer.load(model.path)
    with Server(engine("simulated"), config, model, log=tmp_path / "log") as server:
        run(
            server.url,
            request_set([traffic], 64),
            scenario(traffic),
            served_model=model.name,
            out=tmp_path / "rows",
            tokenizer=words,
            probes=0,
        )
        truth = _truth(tmp_path / "truth.jsonl", 105)
    reduced = reduce(rows.scan(tmp_path / "rows"))
    assert reduced.scored["usage_completion"].notna().all() == usage
    figures = metrics.metrics(reduced, scenario(traffic))
    first = truth["sent"].str[0] - truth["arrival"]
    pace = (truth["sent"].str[-1] - truth["sent"].str[0]) / (64 - 1)
    assert figures["ttft_p50"] == pytest.approx(first.median(), rel=0.01, abs=0.001)
    assert figures["tpot_p50"] == pytest.approx(pace.median(), rel=0.01)
    wall = truth["sent"].str[-1].max() - truth["arrival"].min()
    assert figures["constant.in_flight_max"] >= 63
    assert figures["constant.req_per_s"] == pytest.approx(104 / wall, rel=0.01)
    assert (reduced.scored["tokens"] == 64).all()


def _truth(path: Path, count: int) -> pd.DataFrame:
    """The server's own record of the scored requests (the first is the warm-up)."""
    deadline = time.monotonic() + 10
    while time.monotonic() < deadline:
        frame = pd.read_json(path, lines=True) if path.exists() else pd.DataFrame()
        if len(frame) >= count:
            break
        time.sleep(0.05)
    return frame.sort_values("arrival").iloc[1:]


def test_rows_without_a_measurement_are_named(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match="name the rows of one whole measurement"):
        rescore(tmp_path)
