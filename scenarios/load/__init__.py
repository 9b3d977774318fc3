"""The load: sender processes that send on time and stamp what arrives; rows are made of it afterwards."""

from scenarios.load.driver import LoadFailed, LoadReport, StageReport, run
from scenarios.load.entries import Entry

__all__ = ["Entry", "LoadFailed", "LoadReport", "StageReport", "run"]
