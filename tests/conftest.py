"""What tests of every floor may use."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.disturbed import pytest_runtest_call as pytest_runtest_call

Ceiling = Callable[..., "subprocess.CompletedProcess[str]"]


@pytest.fixture
def ceiling(tmp_path: Path) -> Ceiling:
    """Run the command line in a process of its own, in an empty directory."""

    def run(*arguments: object, timeout: float = 120.0) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [sys.executable, "-c", "from studies.cli import main; main()", *map(str, arguments)],
            cwd=tmp_path,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=timeout,
            check=False,
        )

    return run
