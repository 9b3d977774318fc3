"""The environment of an engine's process: clean, from an allow-list, with its devices made visible."""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping
from pathlib import Path

from engines.contract import Engine, EngineError, Launch
from engines.host import Device, this_host
from engines.nvml import NVML, Inventory

PASSED = frozenset(
    {
        *("PATH", "HOME", "USER", "LOGNAME", "SHELL", "LANG", "LANGUAGE", "TZ", "TMPDIR"),
        *("LD_LIBRARY_PATH", "HF_HOME", "SSL_CERT_FILE"),
        *("DOCKER_HOST", "DOCKER_CONTEXT", "DOCKER_CONFIG", "CONTAINER_HOST"),
    }
)
PASSED_PREFIXES = ("LC_", "CUDA", "NVIDIA", "NCCL", "NVSHMEM", "TORCH_SYMM_MEM", "XDG_")


def clean_environment(program: str) -> dict[str, str]:
    """The caller's variables that an engine may see, its program's directory first on PATH.

    What belongs to the harness's own environment (VIRTUAL_ENV and its PATH, PYTHONPATH) stays out.
    setproctitle is told to leave the variables readable, for they mark whose the process is.
    """
    variables = {
        name: value
        for name, value in os.environ.items()
        if name in PASSED or name.startswith(PASSED_PREFIXES)
    }
    own = str(Path(sys.prefix) / "bin")
    places = [p for p in variables.get("PATH", os.defpath).split(os.pathsep) if p != own]
    if Path(program).is_absolute():
        places.insert(0, str(Path(program).parent))
    return {**variables, "PATH": os.pathsep.join(places), "SPT_NOENV": "1"}


def device_variables(devices: tuple[Device, ...]) -> dict[str, str]:
    """What makes exactly these GPUs visible, counted as NVML counts them."""
    if not devices:
        return {}
    selectors = ",".join(device.selector or str(device.index) for device in devices)
    return {"CUDA_VISIBLE_DEVICES": selectors, "CUDA_DEVICE_ORDER": "PCI_BUS_ID"}


def server_environment(
    launch: Launch, devices: tuple[Device, ...], marks: Mapping[str, str]
) -> dict[str, str]:
    """All variables of a server's process; `marks` say whose it is."""
    clean = clean_environment(launch.argv[0])
    return {**clean, **launch.env, **device_variables(devices), **marks}


def held_devices(engine: Engine, indices: tuple[int, ...], inventory: Inventory = NVML) -> tuple[Device, ...]:
    """The GPUs of these indices; none on a CPU, or for an engine that only simulates. Raises EngineError."""
    host = this_host(inventory)
    if host.kind == "cpu" or not engine.real:
        return ()
    for index in indices:
        if index >= len(host.devices):
            raise EngineError(
                f"device {index} is not here: this machine shows {len(host.devices)} (CUDA_VISIBLE_DEVICES)"
            )
    return tuple(host.devices[index] for index in indices)
