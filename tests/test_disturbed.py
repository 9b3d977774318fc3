"""Only what was measurably disturbed is taken again."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.disturbed import Disturbed, Watch, told

pytest_plugins = "pytester"

NESTED = """
import pathlib

def test_it(tmp_path):
    tries = pathlib.Path({tries!r})
    tries.write_text(tries.read_text() + "x")
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "ledger.jsonl").write_text({ledger!r})
    assert False, "as it failed"
"""


def test_a_ledger_tells_of_a_late_client_and_of_others(tmp_path: Path) -> None:
    (tmp_path / "run").mkdir()
    ledger = tmp_path / "run" / "ledger.jsonl"
    ledger.write_text('{"invalid_reasons": ["failures"]}\n')
    assert told(tmp_path) == []
    ledger.write_text('{"invalid_reasons": ["client-lag"]}\n')
    assert told(tmp_path) == ["client-lag"]
    assert "client-lag" in Watch().signs(tmp_path)


@pytest.mark.parametrize(("ledger", "tries"), [("client-lag", 3), ("failures", 1)])
def test_a_failure_is_taken_again_only_with_a_sign(
    ledger: str, tries: int, pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr("tests.disturbed.WAITED", 1.0)
    counted = tmp_path / "tries"
    counted.write_text("")
    pytester.makeconftest("from tests.disturbed import pytest_runtest_call as pytest_runtest_call")
    pytester.makepyfile(NESTED.format(tries=str(counted), ledger=ledger))
    result = pytester.runpytest_inprocess("--reruns", "2", "--only-rerun", Disturbed.__name__)
    result.assert_outcomes(failed=1)
    assert counted.read_text() == "x" * tries
