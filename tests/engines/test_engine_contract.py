"""What every engine must keep, whoever wrote it: the same tests for each registered name."""

from __future__ import annotations

import pickle
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from engines.contract import (
    Config,
    CrashClass,
    Engine,
    EngineError,
    Infeasible,
    Model,
    UnsupportedFlag,
    Value,
)
from engines.host import Host
from engines.ports import held_port
from engines.registry import engine, names
from engines.space import Space
from tests.engines import stand_ins
from tests.engines.hosts import CPU, H100, H100_X4
from tests.tiny_model import make_tiny_model

PORT = 18123


@pytest.fixture(scope="module", autouse=True)
def installed(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Stand-ins take the place of the engines' programs; no real engine is started here."""
    with pytest.MonkeyPatch.context() as environment:
        for name, value in stand_ins.make(tmp_path_factory.mktemp("installed")).items():
            environment.setenv(name, value)
        yield


@pytest.fixture(params=names())
def subject(request: pytest.FixtureRequest) -> Engine:
    return engine(request.param)


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Model:
    return Model(make_tiny_model(tmp_path_factory.mktemp("model") / "tiny"), "tiny", max_length=4096)


@pytest.fixture(params=[CPU, H100, H100_X4], ids=["cpu", "h100", "h100x4"])
def host(request: pytest.FixtureRequest) -> Host:
    chosen: Host = request.param
    return chosen


def one_flag_configs(space: Space) -> Iterator[Config]:
    """Every choice that is not a default, with what makes it active."""
    for parameter in space:
        for choice in parameter.choices:
            if choice != parameter.default:
                yield space.canonical({**parents(space, parameter.name), parameter.name: choice})


def parents(space: Space, name: str) -> dict[str, Value]:
    values: dict[str, Value] = {}
    for parent, allowed in space[name].when.items():
        values |= parents(space, parent) | {parent: allowed[0]}
    return values


def test_it_is_an_engine_that_knows_its_name(subject: Engine) -> None:
    assert isinstance(subject, Engine)
    assert engine(subject.name) is subject
    assert subject.default_config == {}
    assert subject.real is (subject.name != "simulated")


def test_it_travels_to_workers(subject: Engine) -> None:
    assert pickle.loads(pickle.dumps(subject)).name == subject.name


def test_its_program_is_found_with_a_version(subject: Engine) -> None:
    runtime = subject.runtime()
    assert Path(runtime.program[0]).is_absolute()
    assert runtime.version == stand_ins.VERSIONS.get(subject.name, runtime.version) != ""


def test_its_space_is_well_formed(subject: Engine, host: Host) -> None:
    space = subject.space(host)
    assert space.engine == subject.name
    assert space.canonical({}) == space.canonical(space.filled({})) == {}
    assert not set(space.names) & set(space.left_out)
    for parameter in space:
        assert parameter.note
        assert len(parameter.choices) > 1


def test_what_a_host_cannot_do_is_left_out_and_said(subject: Engine) -> None:
    few, many = subject.space(CPU), subject.space(H100_X4)
    assert set(many.names) - set(few.names) <= set(few.left_out)


def test_every_flag_of_its_space_is_one_that_it_lists(subject: Engine, host: Host) -> None:
    flags = {name.split(".")[0] for name in subject.space(host).names if not name.startswith("env.")}
    assert flags <= subject.flags()
    assert not [flag for flag in subject.flags() if flag.startswith("-")]


def test_its_default_launch_names_model_and_place_and_nothing_of_the_space(
    subject: Engine, model: Model, host: Host
) -> None:
    launch = subject.command({}, model, "127.0.0.1", PORT)
    program = subject.runtime().program
    assert launch.argv[: len(program)] == program
    assert {str(model.path), "127.0.0.1", str(PORT), str(model.max_length)} <= set(launch.argv)
    tuned = {f"--{name.split('.')[0]}" for name in subject.space(host).names}
    assert tuned & set(launch.argv) <= {"--num-shard"}


def test_the_context_is_the_engine_s_own_unless_asked(subject: Engine, model: Model) -> None:
    launch = subject.command({}, replace(model, max_length=None), "127.0.0.1", PORT)
    assert "4096" not in launch.argv


def test_every_choice_changes_the_launch(subject: Engine, model: Model, host: Host) -> None:
    space = subject.space(host)
    for config in one_flag_configs(space):
        last = list(config)[-1]
        less = {name: value for name, value in config.items() if name != last}
        launch, base = (subject.command(flags, model, "127.0.0.1", PORT) for flags in (config, less))
        assert (launch.argv, dict(launch.env)) != (base.argv, dict(base.env)), last


def test_a_variable_goes_into_the_environment(subject: Engine, model: Model) -> None:
    launch = subject.command({"env.SOME_SWITCH": "on"}, model, "127.0.0.1", PORT)
    assert launch.env["SOME_SWITCH"] == "on"
    assert not [word for word in launch.argv if "SOME_SWITCH" in word]


def test_a_flag_that_it_does_not_list_is_refused_by_name(subject: Engine, model: Model) -> None:
    with pytest.raises(UnsupportedFlag, match="--no-such-thing"):
        subject.command({"no-such-thing": 1}, model, "127.0.0.1", PORT)


def test_the_default_passes_its_own_guards(subject: Engine, model: Model, host: Host) -> None:
    if subject.name == "sglang" and host is CPU:
        with pytest.raises(Infeasible, match="needs a GPU"):
            subject.check({}, model, host)
    else:
        subject.check({}, model, host)


def test_more_context_than_the_model_has_is_infeasible(subject: Engine, model: Model) -> None:
    with pytest.raises(Infeasible, match="8192"):
        subject.check({}, replace(model, max_length=8193), H100)


def test_more_devices_than_there_are_is_infeasible(subject: Engine, model: Model) -> None:
    for parameter in subject.space(H100_X4):
        if parameter.choices == (1, 2, 4) and subject.devices({parameter.name: 4}) == 4:
            with pytest.raises(Infeasible, match=r"needs 4 devices, this host has 1"):
                subject.check({parameter.name: 4}, model, H100)


def test_guards_refuse_only_with_infeasible(subject: Engine, model: Model, host: Host) -> None:
    refused = 0
    for config in one_flag_configs(subject.space(host)):
        try:
            subject.check(config, model, host)
        except Infeasible as error:
            refused += 1
            assert "\n" not in str(error)
    assert refused < len(list(one_flag_configs(subject.space(host)))) or subject.space(host).names == ()


def test_it_holds_one_device_by_default(subject: Engine) -> None:
    assert subject.devices({}) == 1


def test_asking_a_dead_port_is_a_quick_no(subject: Engine) -> None:
    with held_port() as port:
        began = time.monotonic()
        assert subject.ready(f"http://127.0.0.1:{port}") is False
        assert time.monotonic() - began < 2.0


@pytest.mark.parametrize(
    ("tail", "crash"),
    [
        ("", CrashClass.UNKNOWN),
        ("INFO: all is well", CrashClass.UNKNOWN),
        ("OSError: [Errno 98] Address already in use", CrashClass.PORT),
    ],
)
def test_it_reads_a_death_from_the_log(subject: Engine, tail: str, crash: CrashClass) -> None:
    assert subject.crash(tail) is crash


def test_it_is_given_time_to_start(subject: Engine) -> None:
    assert 10 <= subject.start_timeout({}) <= 1800


def test_random_weights_are_served_or_refused_at_no_cost(subject: Engine, model: Model) -> None:
    dummy = replace(model, weights="dummy")
    try:
        subject.check({}, dummy, H100)
    except Infeasible:
        with pytest.raises(EngineError):
            subject.command({}, dummy, "127.0.0.1", PORT)
    else:
        real, launch = (subject.command({}, m, "127.0.0.1", PORT).argv for m in (model, dummy))
        assert launch != real or not subject.real
