"""Ray as Ceiling uses it: quiet, without a dashboard, and gone when the search is over."""

from __future__ import annotations

import logging
import os
import socket
from collections.abc import Iterator
from contextlib import contextmanager

from engines.contract import EngineError, Model
from engines.host import Host, this_host
from engines.reference import ENGINE
from engines.registry import engine as engine_named
from engines.runtime import find
from scenarios.models import ModelError, digest, open_model
from scenarios.quality.tasks import TaskError, items
from search.guard import guarded
from search.spec import Prepared, SearchError, SearchSpec

DEVICE = "device"
"""Custom resource for what is no GPU: a CPU box is one, a simulated search may pretend several."""

_OBJECT_STORE = 80 << 20

_QUIET = {
    "RAY_USAGE_STATS_ENABLED": "0",
    "RAY_worker_niceness": "0",
    "RAY_memory_monitor_refresh_ms": "0",
    "RAY_AIR_NEW_OUTPUT": "0",
    "RAY_CHDIR_TO_TRIAL_DIR": "0",
    "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0",
    "RAY_kill_child_processes_on_worker_exit": "0",
    "TUNE_DISABLE_AUTO_CALLBACK_LOGGERS": "1",
    "TUNE_DISABLE_SIGINT_HANDLER": "1",
    "TUNE_GLOBAL_CHECKPOINT_S": "1000000",
    "TUNE_PRINT_ALL_TRIAL_ERRORS": "0",
    "TUNE_WARN_INSUFFICENT_RESOURCE_THRESHOLD_S": "1000000",
    "TUNE_MAX_PENDING_TRIALS_PG": "64",
}
"""Set before Ray is imported. A worker must not kill its children: keepers end their engines in order.
Nor may Ray make workers nice: engine and scorer inherit it, and lose to whatever else runs on the machine.
Nor may it kill workers when memory gets short: an engine is meant to fill it.
"""


@contextmanager
def connected(devices: int, address: str | None) -> Iterator[None]:
    """A running Ray for the length of a block: the cluster at `address`, or one of this machine's own.

    An instance that this process already has is used as it is, and left running. Raises SearchError.
    """
    for name, value in _QUIET.items():
        os.environ.setdefault(name, value)
    import ray

    logging.getLogger("ray").setLevel(logging.CRITICAL)
    if ray.is_initialized():
        yield
        return
    with _joined(address) if address is not None else _started(devices):
        yield


@contextmanager
def _started(devices: int) -> Iterator[None]:
    import ray

    ray.init(
        address="local",
        num_cpus=min(devices, 4),
        resources={DEVICE: devices},
        object_store_memory=_OBJECT_STORE,
        include_dashboard=False,
        log_to_driver=False,
        logging_level=logging.CRITICAL,
    )
    with guarded():
        try:
            yield
        finally:
            ray.shutdown()


@contextmanager
def _joined(address: str) -> Iterator[None]:
    _join(address)
    import ray

    try:
        yield
    finally:
        ray.shutdown()


def _join(address: str) -> None:
    import ray

    _check_listening(address)
    try:
        ray.init(address=address, log_to_driver=False, logging_level=logging.CRITICAL)
    except (ConnectionError, ValueError) as error:
        line = str(error).splitlines()[0]
        raise SearchError(f"no Ray cluster at {address} ({line}): start one with `ray start`") from error


def _check_listening(address: str) -> None:
    """Ray itself tries for minutes."""
    host, _, port = address.removeprefix("ray://").rpartition(":")
    if not port.isdigit():
        return
    try:
        socket.create_connection((host, int(port)), timeout=5.0).close()
    except OSError as error:
        raise SearchError(f"no Ray cluster at {address} ({error}): start one with `ray start`") from error


def resource(prepared: Prepared) -> str:
    """Name of the Ray resource that a device is. Raises SearchError where there are too few."""
    import ray

    wanted = prepared.spec.devices
    there: dict[str, float] = ray.cluster_resources()  # type: ignore[no-untyped-call]
    name = "GPU" if prepared.real and there.get("GPU") else DEVICE
    if there.get(name, 0) < wanted:
        raise SearchError(
            f"--devices {wanted}, but the cluster has {there.get(name, 0):g} ({name}): lower it, or start "
            f"nodes with `ray start --resources '{{\"{DEVICE}\": 1}}'`"
        )
    return name


def worker_hosts(spec: SearchSpec) -> list[Host]:
    """The hosts that trials may be placed on, each checked for the engines and the model of the search.

    Raises SearchError, which names the node and what it lacks.
    """
    import ray
    from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

    look = ray.remote(num_cpus=0)(_look)
    nodes = [
        node
        for node in ray.nodes()  # type: ignore[no-untyped-call]
        if node["Alive"] and {"GPU", DEVICE} & set(node["Resources"])
    ]
    if not nodes:
        raise SearchError(
            f"no node of the cluster has a GPU, or `--resources '{{\"{DEVICE}\": 1}}'`: start one with either"
        )
    looks = [
        look.options(scheduling_strategy=NodeAffinitySchedulingStrategy(node["NodeID"], soft=False)).remote(
            spec.engines, spec.model, digest(spec.model.path), spec.quality
        )
        for node in nodes
    ]
    found: list[tuple[Host, str | None]] = ray.get(looks)
    for node, (_, lacks) in zip(nodes, found, strict=True):
        if lacks is not None:
            raise SearchError(f"node {node['NodeManagerAddress']}: {lacks}")
    return [host for host, _ in found]


def _look(
    engines: tuple[str, ...], model: Model, expected: str, quality: str | None
) -> tuple[Host, str | None]:
    """A node's host, and what it lacks for a search."""
    host = this_host()
    try:
        for name in engines:
            engine_named(name).runtime()
        if digest(open_model(model.path).path) != expected:
            return host, f"{model.path} holds another model than here: copy it there"
        if quality is not None:
            find(ENGINE)
            items(quality)
    except (EngineError, ModelError, TaskError) as error:
        return host, str(error)
    return host, None
