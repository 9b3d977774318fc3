"""Engines in containers: the command line of docker, podman or apptainer around an engine's own.

The container shares the host's network, so that nothing forwards what is measured, sees all GPUs of which the
launch's variables select some, and gets the model's directory, read-only, at the path that it has here.
docker and podman start containers outside the caller's process tree: a keeper removes such a one by its id,
which the tool writes into a file. apptainer runs its processes as the caller's own.
"""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from engines.contract import EngineNotInstalled

TOOLS = ("docker", "podman", "apptainer")
PASSED = ("CUDA_VISIBLE_DEVICES", "CUDA_DEVICE_ORDER", "CEILING_SERVER", "CEILING_RUN_ID")
"""Variables of the launch that go into the container with the value that they have then."""
SHARED_MEMORY = "8g"
"""Of a container, which is private to it and goes with it."""
GPUS: Mapping[str, tuple[str, ...]] = {
    "docker": ("--gpus", "all"),
    "podman": ("--device", "nvidia.com/gpu=all", "--security-opt", "label=disable"),
    "apptainer": ("--nv",),
}
SECONDS = 60.0


@dataclass(frozen=True)
class Container:
    """Where an engine is: `tool` by name, `binary` its path, `image` as the tool names it."""

    tool: str
    binary: str
    image: str

    def argv(
        self,
        inner: Sequence[str],
        env: Mapping[str, str],
        *,
        mounts: Sequence[Path] = (),
        gpus: bool = False,
    ) -> tuple[str, ...]:
        """The command line that runs `inner` with `env` in the container."""
        devices = GPUS[self.tool] if gpus else ()
        variables = [word for name, value in env.items() for word in ("--env", f"{name}={value}")]
        if self.tool == "apptainer":
            binds = [word for mount in mounts for word in ("--bind", f"{mount}:{mount}:ro")]
            head = (self.binary, "exec", "--no-home", "--writable-tmpfs", *devices)
            return (*head, *binds, *variables, self.image, *inner)
        binds = [word for mount in mounts for word in ("--volume", f"{mount}:{mount}:ro")]
        passed = [word for name in PASSED for word in ("--env", name)]
        head = (self.binary, "run", "--rm", "--init", "--network", "host", "--shm-size", SHARED_MEMORY)
        own = (*devices, *passed, *variables, *binds, "--entrypoint", inner[0], self.image)
        return (*head, *own, *inner[1:])

    @property
    def detached(self) -> bool:
        """Whether its containers outlive the tool's process."""
        return self.tool != "apptainer"


def named(argv: Sequence[str], cidfile: Path) -> tuple[str, ...]:
    """A command line of `Container.argv` that writes its container's id into a file."""
    return (*argv[:2], "--cidfile", str(cidfile), *argv[2:])


def running(binary: str, cidfile: Path) -> str | None:
    """The id of the container that a launch started, while there is one."""
    try:
        identity = cidfile.read_text().strip()
    except FileNotFoundError:
        return None
    asked = [binary, "container", "inspect", "--format", "{{.Id}}", identity]
    done = subprocess.run(asked, stdin=subprocess.DEVNULL, capture_output=True, timeout=SECONDS, check=False)
    return identity if identity and done.returncode == 0 else None


def find_tool(name: str | None) -> tuple[str, str]:
    """Name and path of a container tool: that one, or the first that is here. Raises EngineNotInstalled."""
    if name is not None and name not in TOOLS:
        raise EngineNotInstalled(f"{name} is no container tool that Ceiling knows: {', '.join(TOOLS)}")
    for tool in (name,) if name else TOOLS:
        binary = shutil.which(tool)
        if binary:
            return tool, binary
    raise EngineNotInstalled(f"no container tool is on PATH: install {name or 'docker, podman or apptainer'}")
