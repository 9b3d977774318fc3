"""The simulated engine: its adapter and command line, what crashes, and its landscapes."""

from __future__ import annotations

import random
from collections.abc import Iterator
from dataclasses import replace

import pytest

from engines.contract import CrashClass, Infeasible, Model, UnsupportedFlag
from engines.host import Device, Host
from engines.model_shape import ModelShape, shape_of
from engines.registry import engine
from engines.simulated import crashes, landscape, performance
from engines.simulated.engine import Simulated
from engines.simulated.settings import LANDSCAPES, Fixed, Settings, Simulation, parse
from tests.engines.simulation import burst, seconds
from tests.tiny_model import make_tiny_model

ONE_CPU = Host((Device(0, "cpu", "cpu", 8 << 30),), 2, 8 << 30)
DEFAULT = Settings()


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Model:
    return Model(make_tiny_model(tmp_path_factory.mktemp("tiny")), "tiny")


@pytest.fixture(scope="module")
def shape(model: Model) -> ModelShape:
    found = shape_of(model)
    assert found is not None
    return found


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        ({"max_num_seqs": 512, "max_num_batched_tokens": 256}, CrashClass.INCOMPATIBLE_FLAGS),
        ({"enable_chunked_prefill": False}, CrashClass.INCOMPATIBLE_FLAGS),
        ({"tensor_parallel_size": 2}, CrashClass.INCOMPATIBLE_FLAGS),
        ({"speculative_method": "ngram", "async_scheduling": True}, CrashClass.INCOMPATIBLE_FLAGS),
        ({"kv_cache_dtype": "fp8"}, CrashClass.INCOMPATIBLE_FLAGS),
        ({"gpu_memory_utilization": 0.05}, CrashClass.OUT_OF_MEMORY),
        ({"gpu_memory_utilization": 0.95, "max_num_seqs": 512}, CrashClass.OUT_OF_MEMORY),
    ],
)
def test_bad_settings_crash_with_a_log_that_says_why(
    change: dict[str, int | str | bool | float], expected: CrashClass, shape: ModelShape
) -> None:
    memory = performance.device_memory(shape)
    crash = crashes.crash(replace(DEFAULT, **change), shape, 8192, memory)  # type: ignore[arg-type]
    assert crash is not None
    assert Simulated().crash(f"INFO loading\nTraceback (most recent call last):\n{crash.error}") is expected


@pytest.mark.parametrize("name", LANDSCAPES)
def test_the_default_starts_everywhere(name: str, shape: ModelShape) -> None:
    assert crashes.crash(DEFAULT, shape, 8192, performance.device_memory(shape), name) is None


def drawn(count: int) -> Iterator[Settings]:
    """Settings drawn uniformly from the space of a host with one device."""
    space = Simulated().space(ONE_CPU)
    draw = random.Random(1)
    for _ in range(count):
        config = space.canonical({each.name: draw.choice(each.choices) for each in space})
        yield replace(DEFAULT, **{name.replace("-", "_"): value for name, value in config.items()})  # type: ignore[arg-type]


@pytest.mark.parametrize(("name", "low", "high"), [("default", 0.1, 0.3), ("crashy", 0.35, 0.45)])
def test_the_share_of_configs_that_crash(name: str, low: float, high: float, shape: ModelShape) -> None:
    memory = performance.device_memory(shape)
    settings = [each for each in drawn(800) if crashes.incompatible(each, shape, 2048) is None]
    crashed = [crashes.crash(each, shape, 2048, memory, name) is not None for each in settings]
    assert low < sum(crashed) / len(crashed) < high


def throughput(settings: Settings, shape: ModelShape, name: str, served: int = 0, count: int = 48) -> float:
    costs = performance.costs(settings, shape, name)
    return count / (seconds(settings, costs, burst(count)) * landscape.aging(name, settings, served, 40))


def test_eager_dominates(shape: ModelShape) -> None:
    eager = throughput(replace(DEFAULT, enforce_eager=True), shape, "eager-dominates")
    others = [throughput(replace(each, enforce_eager=False), shape, "eager-dominates") for each in drawn(60)]
    assert eager > max(others)
    assert throughput(replace(DEFAULT, enforce_eager=True), shape, "default") < throughput(
        DEFAULT, shape, "default"
    )


def test_nothing_beats_the_default_where_it_is_best(shape: ModelShape) -> None:
    others = [each for each in drawn(120) if each != DEFAULT]
    assert max(throughput(each, shape, "default-best") for each in others) < throughput(
        DEFAULT, shape, "default-best"
    )
    assert max(throughput(each, shape, "default") for each in others) > 1.1 * throughput(
        DEFAULT, shape, "default"
    )


def test_young_and_old_servers_rank_configs_differently(shape: ModelShape) -> None:
    settings = [
        replace(DEFAULT, attention_backend=name) for name in ("FLASH_ATTN", "FLASHINFER", "TRITON_ATTN")
    ]
    young, old = (
        [throughput(each, shape, "fidelity-disagrees", served) for each in settings] for served in (0, 40)
    )
    assert young[1] > young[0] > young[2]
    assert old[2] > old[0] > old[1]
    assert len({throughput(DEFAULT, shape, "default", served) for served in (0, 40)}) == 1


def test_the_registry_knows_it_as_no_real_engine() -> None:
    found = engine("simulated")
    assert isinstance(found, Simulated)
    assert (found.real, found.runtime().version, found.default_config) == (False, "1", {})


def test_every_parameter_of_the_space_is_a_flag_at_its_default() -> None:
    space = Simulated().space(Host((Device(0, "cuda", "x", 1 << 30),) * 4, 2, 1 << 30))
    assert space["tensor-parallel-size"].choices == (1, 2, 4)
    assert "tensor-parallel-size" in Simulated().space(ONE_CPU).left_out
    defaults = {each.name.replace("-", "_"): each.default for each in space}
    assert Settings(**defaults) == DEFAULT  # type: ignore[arg-type]


def test_a_command_is_parsed_back_to_its_config(model: Model) -> None:
    config = {"max-num-seqs": 8, "enable-prefix-caching": False, "enforce-eager": True}
    launch = Simulated().command({**config, "env.CEILING_SIM_SPEED": 10}, model, "127.0.0.1", 8001)
    options = parse(launch.argv[3:])
    assert options.settings == replace(
        DEFAULT, max_num_seqs=8, enable_prefix_caching=False, enforce_eager=True
    )
    assert (options.port, options.served_model_name) == (8001, "tiny")
    assert launch.env["CEILING_SIM_SPEED"] == "10"
    with pytest.raises(UnsupportedFlag, match=r"max-num-seqss.*did you mean --max-num-seqs"):
        Simulated().command({"max-num-seqss": 8}, model, "127.0.0.1", 8001)


@pytest.mark.parametrize(
    "config",
    [
        {"tensor-parallel-size": 2},
        {"max-num-batched-tokens": 512, "max-num-seqs": 1024},
        {"enable-chunked-prefill": False},
    ],
)
def test_contradictions_are_refused_before_launch(config: dict[str, int | bool], model: Model) -> None:
    with pytest.raises(Infeasible):
        Simulated().check(config, model, ONE_CPU)
    Simulated().check({"enable-chunked-prefill": False}, replace(model, max_length=2048), ONE_CPU)


def test_the_harness_hands_its_simulation_on(model: Model) -> None:
    with pytest.MonkeyPatch.context() as environment:
        environment.setenv("CEILING_SIM_LANDSCAPE", "crashy")
        environment.setenv("CEILING_SIM_START_SECONDS", "100")
        environment.setenv("CEILING_OTHER", "1")
        launch = Simulated().command({}, model, "127.0.0.1", 8001)
        assert parse(launch.argv[3:]).simulation == Simulation(landscape="crashy", start_seconds=100)
        assert Simulated().start_timeout({}) == 430
    assert launch.env["CEILING_SIM_LANDSCAPE"] == "crashy"
    assert "CEILING_OTHER" not in launch.env
    assert Simulated().start_timeout({"env.CEILING_SIM_START_SECONDS": 10}) == 70


def test_fixed_timing_is_read_and_nonsense_is_not() -> None:
    assert Fixed.parse("ttft=0.05,tpot=0.01,chunk=3") == Fixed(0.05, 0.01, 3)
    assert parse(["--model", ".", "--fixed", "ttft=1,tpot=2"]).simulation == Simulation(fixed=Fixed(1, 2))
    for text in ("", "ttft=1", "ttft=1,tpot=x", "ttft=1,tpot=1,chunk=0", "ttft=1,tpot=1,more=2"):
        with pytest.raises(ValueError, match="fixed timing reads ttft="):
            Fixed.parse(text)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--max-num-sequences", "4"], "unrecognized arguments: --max-num-sequences 4"),
        (["--block-size", "24"], "argument --block-size: invalid choice: 24"),
        (["--landscape", "flat"], "no landscape 'flat': one of default, eager-dominates"),
        (["--fixed", "ttft"], "fixed timing reads"),
        (["--gpu-memory-utilization", "1.5"], "1.5 is not in"),
    ],
)
def test_a_wrong_command_line_exits_with_2(
    arguments: list[str], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as raised:
        parse(["--model", ".", *arguments])
    assert raised.value.code == 2
    said = " ".join(capsys.readouterr().err.split())
    assert message in said
    if not message.startswith(("no landscape", "fixed", "1.5")):
        assert Simulated().crash(said) is CrashClass.UNSUPPORTED_FLAG
