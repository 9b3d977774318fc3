"""An engine that another distribution adds: launched as if it were a real one, it is the simulated one."""

from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path

from engines.contract import Config, Launch, Model
from engines.host import Host
from engines.simulated.engine import VERSION, Simulated
from engines.space import Space
from engines.space_file import written

ROOT = Path(__file__).parents[2]
RENAMED = """
import runpy
with open("/proc/self/comm", "w") as name:
    name.write("docker-proxy")
runpy.run_module({module!r}, run_name="__main__", alter_sys=True)
"""


class Posing(Simulated):
    """Its server says that it is simulated, which nobody believes of a real engine's.

    It is named as a container's port forwarder, behind which no process can be told from others: what else
    this machine does then voids nothing.
    """

    name = "posing"
    real = True

    def space(self, host: Host) -> Space:
        """The simulated engine's."""
        return written(Simulated.name, VERSION).space(host, VERSION, dict.fromkeys(self.flags(), ()))

    def command(self, config: Config, model: Model, host: str, port: int) -> Launch:
        """The simulated engine's, under another name."""
        launch = super().command(config, model, host, port)
        python, flag, module, *rest = launch.argv
        assert flag == "-m"
        return replace(launch, argv=(python, "-c", RENAMED.format(module=module), *rest))


def add(folder: Path) -> dict[str, str]:
    """Install it under `folder`; variables with which every process finds it by its name."""
    metadata = folder / "posing-1.0.dist-info"
    metadata.mkdir(parents=True)
    (metadata / "METADATA").write_text("Metadata-Version: 2.1\nName: posing\nVersion: 1.0\n")
    (metadata / "entry_points.txt").write_text(
        "[ceiling.engines]\nposing = tests.engines.posing:Posing\n", encoding="utf-8"
    )
    paths = [str(ROOT), str(folder), *filter(None, [os.environ.get("PYTHONPATH")])]
    return {"PYTHONPATH": os.pathsep.join(paths)}
