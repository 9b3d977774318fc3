"""What the adapters of installed engines share: where the program is, and what its own CLI lists."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence

from engines import cli_flags
from engines.contract import Config, CrashClass
from engines.crash_log import classify
from engines.host import Host
from engines.runtime import Runtime, find
from engines.space import Space
from engines.space_file import written


class Adapter(ABC):
    """Half of `engines.contract.Engine`: for an engine with a space file and a CLI that has a help text."""

    name: str

    def __init__(self) -> None:
        self.default_config: Config = {}

    @abstractmethod
    def help(self, runtime: Runtime) -> Sequence[str]:
        """The command that prints which flags the server takes."""

    def runtime(self) -> Runtime:
        """An environment, interpreter or program that has the engine. Raises EngineNotInstalled."""
        return find(self.name)

    def space(self, host: Host) -> Space:
        """The space of the installed release on this host."""
        runtime = self.runtime()
        return written(self.name, runtime.version).space(host, runtime.version, self._listed())

    def flags(self) -> frozenset[str]:
        """Flags that the installed release lists."""
        return frozenset(self._listed())

    def crash(self, tail: str) -> CrashClass:
        """Class of a death from the tail of the log."""
        return classify(tail)

    def _listed(self) -> cli_flags.Listed:
        runtime = self.runtime()
        return cli_flags.ask(self.name, runtime, self.help(runtime))
