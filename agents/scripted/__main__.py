"""Runs a scripted agent inside the sandbox: `python -E -s .../agents/scripted NAME`.

Of the package `agents` only these scripts are seen there: the rest needs libraries and is not imported.
"""

import runpy
import sys
from pathlib import Path
from types import ModuleType

here = Path(__file__).resolve().parent
package = ModuleType("agents")
package.__path__ = [str(here.parent)]
sys.modules["agents"] = package
sys.path[0] = str(here.parent.parent)
runpy.run_module(f"agents.scripted.{sys.argv[1]}", run_name="__main__")
