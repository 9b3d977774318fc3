"""Ray as Ceiling uses it: quiet, without a dashboard, and gone when the search is over."""

from __future__ import annotations

import logging
import os
from collections.abc import Iterator
from contextlib import contextmanager

from search.spec import Prepared, SearchError

DEVICE = "device"
"""Custom resource for what is no GPU: a CPU box is one, a simulated search may pretend several."""

_OBJECT_STORE = 80 << 20

_QUIET = {
    "RAY_USAGE_STATS_ENABLED": "0",
    "RAY_worker_niceness": "0",
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
"""


@contextmanager
def cluster(prepared: Prepared, address: str | None) -> Iterator[str]:
    """A running Ray for the length of a block; gives the name of the resource that a device is.

    An instance that this process already has is used as it is, and left running. Raises SearchError.
    """
    for name, value in _QUIET.items():
        os.environ.setdefault(name, value)
    import ray

    logging.getLogger("ray").setLevel(logging.CRITICAL)
    mine = not ray.is_initialized()
    if mine:
        _connect(prepared, address)
    try:
        yield _resource(prepared)
    finally:
        if mine:
            ray.shutdown()


def _connect(prepared: Prepared, address: str | None) -> None:
    import ray

    if address is not None:
        try:
            ray.init(address=address, log_to_driver=False, logging_level=logging.CRITICAL)
        except (ConnectionError, ValueError) as error:
            line = str(error).splitlines()[0]
            raise SearchError(f"no Ray cluster at {address} ({line}): start one with `ray start`") from error
        return
    devices = prepared.spec.devices
    ray.init(
        address="local",
        num_cpus=min(devices, 4),
        resources={DEVICE: devices},
        object_store_memory=_OBJECT_STORE,
        include_dashboard=False,
        log_to_driver=False,
        logging_level=logging.CRITICAL,
    )


def _resource(prepared: Prepared) -> str:
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
