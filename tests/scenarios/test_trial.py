"""A trial ends in exactly one state, and its events, rows, logs and charges say how."""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from engines.contract import Capabilities, Config, Launch, Model
from engines.nvml import Tenant
from engines.simulated.engine import Simulated
from scenarios import profiles
from scenarios.device_use import watched
from scenarios.ledger import Ledger
from scenarios.load.rehearsed import load_of
from scenarios.measurement import Measurement
from scenarios.models import open_model
from scenarios.scenario import Fidelity, Plan
from scenarios.trial import Drop, State, Trial, TrialSpec
from scenarios.trial_run import run_trial
from tests.engines.fake_gpus import GIB, FakeGpu, FakeGpus
from tests.rehearsing import rehearsing
from tests.scenarios.plain_text import write_jsonl
from tests.tiny_model import make_tiny_model

Events = list[dict[str, Any]]

SMOKE = Path(profiles.__file__).parent / "profiles" / "smoke.yaml"


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Model:
    return open_model(make_tiny_model(tmp_path_factory.mktemp("model")), max_length=1024)


@pytest.fixture(scope="module")
def text(tmp_path_factory: pytest.TempPathFactory) -> str:
    return write_jsonl(tmp_path_factory.mktemp("text") / "text.jsonl")


class Bench:
    """Runs trials of scenario A on the simulated engine and keeps their events."""

    def __init__(self, model: Model, text: str, run: Path) -> None:
        self.model, self.text, self.run = model, text, run
        self.events: Events = []
        self.limited_by = "the budget"
        self.heard: Callable[[Mapping[str, Any]], None] = lambda event: None

    def trial(
        self,
        config: Config,
        seconds: float | None = None,
        patience: float | None = None,
        plan: Plan | None = None,
        **more: Any,
    ) -> Trial:
        spec = TrialSpec(
            number=3,
            attempt=1,
            engine="simulated",
            config=config,
            origin="planner",
            model=self.model,
            plan=plan or self.plan(0),
            run=str(self.run),
            seconds_left=seconds,
            limited_by=self.limited_by,
            patience=patience,
        )
        return run_trial(spec, self.see, **more)

    def plan(self, block: int) -> Plan:
        return Plan("A", "smoke", 21, Fidelity(requests=0.5, block=block), self.text)

    def see(self, event: Mapping[str, Any]) -> None:
        self.events.append(dict(event))
        if event.get("phase") == "measuring":
            self.heard(event)

    @property
    def phases(self) -> list[str]:
        named = [event["phase"] for event in self.events if event["event"] == "phase"]
        return [name for name, before in zip(named, [None, *named], strict=False) if name != before]


@pytest.fixture
def bench(model: Model, text: str, tmp_path: Path) -> Bench:
    return Bench(model, text, tmp_path / "run")


def test_a_trial_that_completes(bench: Bench) -> None:
    trial = bench.trial({"max-num-seqs": 8})
    assert trial.state is State.COMPLETE, trial.detail
    assert (trial.number, trial.attempt, trial.origin) == (3, 1, "planner")
    measurement = trial.measurements[0]
    assert trial.score == measurement.score
    assert bench.phases == ["starting", "warming", "measuring", "stopping"]
    assert {(event["trial"], event["attempt"]) for event in bench.events} == {(3, 1)}
    told = next(event for event in bench.events if event["event"] == "measurement")
    assert told["id"] == measurement.id
    assert measurement.rows == f"rows/{measurement.id}"
    assert list((bench.run / measurement.rows).rglob("*.parquet"))
    assert (bench.run / "logs" / "trial-3-1.log").is_file()
    assert set(trial.seconds) == {"start", "measure", "stop"}
    assert sum(trial.seconds.values()) == pytest.approx(trial.gpu_seconds, abs=0.1)
    assert "--max-num-seqs 8" in trial.command


class OnGpus(Simulated):
    """The simulated engine, held to devices as a real one is."""

    real = True


def test_a_trial_says_what_it_held_and_took(bench: Bench) -> None:
    gpus = FakeGpus([FakeGpu("GPU-a", memory=3 * GIB, power=250.0, tenants=(Tenant(77, GIB),))])
    trial = bench.trial({}, engine=OnGpus(), inventory=gpus)
    assert trial.measurements, trial.detail
    assert trial.to_json()["held"] == {
        "devices": ["GPU-a"],
        "memory_before": [3 * GIB],
        "memory_after": [3 * GIB],
        "others_before": [[{"pid": 77, "memory": GIB}]],
        "others_after": [[{"pid": 77, "memory": GIB}]],
    }
    (measurement,) = trial.measurements
    (took,) = measurement.provenance["devices"]
    assert took["uuid"] == "GPU-a" and took["energy_from"] == "counter"
    assert measurement.metrics["energy_j"] == pytest.approx(250 * took["seconds"], rel=0.05)
    assert measurement.metrics["power_max_w"] == 250.0
    assert measurement.metrics["memory_peak_bytes"] == 3 * GIB
    tokens = measurement.metrics["output_tok_per_s"] * measurement.metrics["wall_s"]
    assert measurement.metrics["energy_j_per_output_token"] * tokens == pytest.approx(
        measurement.metrics["energy_j"]
    )
    assert took["seconds"] >= measurement.metrics["wall_s"]


class Unnamed(Simulated):
    """An engine that serves a model under its path, as TGI does."""

    capabilities = Capabilities(force_length=True, usage=True, logprobs=False, names_model=False)

    def command(self, config: Config, model: Model, host: str, port: int) -> Launch:
        return super().command(config, replace(model, name=str(model.path)), host, port)


def test_a_model_that_is_served_under_its_path_is_asked_for_by_it(bench: Bench) -> None:
    trial = bench.trial({}, engine=Unnamed())
    assert trial.measurements, trial.detail
    assert trial.measurements[0].provenance["server"]["model"] == str(bench.model.path)


def test_a_run_s_ledger_holds_the_gpus_before_and_after(tmp_path: Path) -> None:
    gpus = FakeGpus([FakeGpu("GPU-a"), FakeGpu("GPU-b", memory=2 * GIB)])
    with Ledger.create(tmp_path / "run", {"id": "x"}) as ledger:
        with pytest.raises(KeyboardInterrupt), watched(ledger, gpus):
            gpus.gpus[0].memory = 9 * GIB
            timer = threading.Timer(0.2, lambda: setattr(gpus.gpus[0], "memory", GIB))
            timer.start()
            raise KeyboardInterrupt
        timer.join()
        start, end = [event for event in ledger.events if event["event"] == "devices"]
        assert (start["when"], start["memory_before"]) == ("start", [GIB, 2 * GIB])
        assert (end["when"], end["memory_after"]) == ("end", [GIB, 2 * GIB])


def test_memory_that_a_server_leaves_is_a_crash_with_its_figures(bench: Bench) -> None:
    gpus = FakeGpus([FakeGpu("GPU-a")])
    bench.heard = lambda event: setattr(gpus.gpus[0], "memory", 9 * GIB)
    trial = bench.trial({}, engine=OnGpus(), inventory=gpus)
    assert (trial.state, trial.crash) == (State.CRASHED, "teardown")
    assert trial.held["memory_before"] == [GIB] and trial.held["memory_after"] == [9 * GIB]


def test_it_comes_back_from_the_ledger_s_json(bench: Bench) -> None:
    trial = bench.trial({}, seconds=60.0)
    kept = {each.id: each for each in trial.measurements}
    told = {**trial.to_json(), "trial": trial.number, "event": "trial"}
    assert Trial.from_json(told, kept) == trial


def test_decide_asks_for_more_and_prunes(bench: Bench) -> None:
    seen: list[int] = []

    def decide(measurements: tuple[Measurement, ...]) -> Plan | Drop | None:
        seen.append(len(measurements))
        return bench.plan(1) if len(measurements) == 1 else Drop("behind")

    trial = bench.trial({}, decide=decide)
    assert trial.state is State.PRUNED, trial.detail
    assert trial.detail == "behind"
    assert seen == [1, 2]
    first, second = trial.measurements
    assert first.request_set != second.request_set
    assert trial.score == second.score


def test_a_server_rehearses_once_for_each_scenario(bench: Bench, tmp_path: Path) -> None:
    chosen = rehearsing(SMOKE, tmp_path)
    first, *more = [
        replace(bench.plan(block), profile=chosen, scenario=letter)
        for letter, block in (("A", 0), ("A", 1), ("D", 0))
    ]
    more.append(replace(bench.plan(0), profile=chosen, scenario="B", fidelity=Fidelity(serial=2)))
    trial = bench.trial({}, plan=first, decide=lambda known: (more[len(known) - 1 :] or [None])[0])
    assert trial.state is State.COMPLETE, trial.detail
    stages = [[stage["name"] for stage in one.provenance["client"]["stages"]] for one in trial.measurements]
    assert [any(load_of(name) for name in names) for names in stages] == [True, False, True, False]
    assert all(names[0] == "warmup" for names in stages)


@pytest.mark.parametrize(
    ("config", "crash", "detail"),
    [
        ({"max-num-seqs": 256, "max-num-batched-tokens": 128}, "infeasible", "must be greater than"),
        ({"no-such-flag": 1}, "unsupported-flag", "--no-such-flag"),
    ],
)
def test_what_is_refused_costs_nothing(bench: Bench, config: Config, crash: str, detail: str) -> None:
    trial = bench.trial(config)
    assert trial.state is State.INFEASIBLE
    assert trial.crash == crash
    assert detail in trial.detail
    assert trial.gpu_seconds == 0
    assert bench.events == []
    assert not bench.run.exists()


def test_a_server_that_dies_while_it_starts(bench: Bench) -> None:
    trial = bench.trial({"kv-cache-dtype": "fp8", "attention-backend": "FLASH_ATTN"})
    assert trial.state is State.CRASHED
    assert trial.crash == "incompatible-flags"
    assert "kv_cache_dtype not supported" in trial.detail
    assert bench.phases == ["starting"]
    assert trial.gpu_seconds > 0
    assert trial.seconds["measure"] == 0.0
    assert trial.score is None


def test_a_server_that_dies_after_it_was_ready(bench: Bench) -> None:
    trial = bench.trial({"die-after": 5})
    assert trial.state is State.CRASHED, trial.detail
    assert trial.crash == "died-after-ready"
    assert bench.phases[-1] == "stopping"
    assert trial.score is None


def test_a_measurement_that_fails_a_gate(bench: Bench) -> None:
    asked: list[object] = []
    trial = bench.trial({"fixed": "ttft=0.0001,tpot=0.00001"}, decide=asked.append)
    assert trial.state is State.INVALID
    assert trial.detail.startswith(f"{trial.measurements[0].invalid_reasons[0].code}: ")
    assert trial.score is None
    assert asked == []


def test_the_budget_ends_a_start(bench: Bench) -> None:
    trial = bench.trial({"start-seconds": 60}, seconds=1.0)
    assert trial.state is State.STOPPED
    assert trial.detail == "the budget ended before the server was ready"
    assert 1.0 <= trial.gpu_seconds < 6.0
    assert trial.score is None


def test_a_hopeless_measurement_is_cut_off(bench: Bench) -> None:
    trial = bench.trial({"fixed": "ttft=0.5,tpot=0.5"}, patience=2.0)
    assert trial.state is State.PRUNED, trial.detail
    assert trial.detail == "not done after 2 s: clearly behind"
    assert trial.score is None
    assert trial.seconds["measure"] < 6.0
    assert not trial.measurements[0].valid


def test_patience_changes_nothing_for_who_is_done_in_time(bench: Bench) -> None:
    assert bench.trial({}, patience=30.0).state is State.COMPLETE


def test_its_time_ends_a_measurement(bench: Bench) -> None:
    bench.limited_by = "the time ahead of the final trials"
    trial = bench.trial({"fixed": "ttft=0.5,tpot=0.5"}, seconds=3.0)
    assert trial.state is State.STOPPED, trial.detail
    assert trial.detail == "the time ahead of the final trials ended during the measurement"
    assert trial.gpu_seconds < 9.0
    assert trial.score is None
    assert bench.phases[-1] == "stopping"
