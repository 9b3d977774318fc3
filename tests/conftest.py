"""What tests of every floor may use."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

Ceiling = Callable[..., "subprocess.CompletedProcess[str]"]

LONGEST = (
    "real/test_real_engines.py",
    "search/test_kills.py",
    "studies/test_end_to_end.py",
    "search/test_search.py",
    "real/test_converter.py",
    "agents/test_attacks.py",
)
"""A worker has a file to itself: these begin first, so that nobody waits for one of them at the end."""


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Files that take long, then the others as they were found."""
    here = Path(__file__).parent
    places = {here / name: place for place, name in enumerate(LONGEST)}
    assert all(path.is_file() for path in places)
    items.sort(key=lambda item: places.get(item.path, len(places)))


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
