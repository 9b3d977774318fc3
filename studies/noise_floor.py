"""The noise floor of a comparison's setting, as far as repeats of a server have taught it to this machine."""

from __future__ import annotations

from scenarios import noise
from scenarios.scenario import ScenarioError
from studies.compare import Row, Table
from studies.estimates import Estimate


def noise_floor(table: Table, scenario: str, rows: tuple[Row, Row]) -> float | None:
    """The ratio of two rows' speedups that chance reaches (95 %); None where nothing is known of it.

    Means over seed pairs: repeats within a pair narrow it further, which is not counted.
    """
    header = table.runs[0].header
    try:
        under = noise.key(
            header.get("host", {}), table.setting.digest, scenario, table.setting.profile, _mark(table)
        )
    except ScenarioError:
        return None
    engines = {name for row in rows for run in row.entries[scenario].runs for name in run.engines}
    known = noise.known(under, engines)
    counts = [row.entries[scenario].speedup.n for row in rows]
    return known.floor(*counts) if known else None


def is_noise(first: Estimate, second: Estimate, floor: float | None) -> bool:
    """Whether two estimates are no further apart than chance brings them."""
    if floor is None or min(first.mean, second.mean) <= 0:
        return False
    ratio = first.mean / second.mean
    return max(ratio, 1 / ratio) <= floor


def _mark(table: Table) -> str | None:
    return "simulated" if table.setting.simulated else table.setting.mark or None
