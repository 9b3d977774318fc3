"""CPU time between two looks at the machine's processes."""

from __future__ import annotations

import os
import subprocess
import sys
import time

import pytest

from scenarios.processes import Process, between, processes

SPIN = "import time\nwhile time.process_time() < {}: pass\nprint('spent', flush=True)\ntime.sleep({})"


def one(parent: int, own: float, children: float = 0.0, start: int = 1) -> Process:
    return Process("p", parent, start, 0, own, children)


def test_a_process_counts_with_what_it_spent_since() -> None:
    assert between({1: one(0, 5.0)}, {1: one(0, 7.0)}) == {1: 2.0}
    assert between({}, {1: one(0, 7.0, 1.0)}) == {1: 8.0}
    assert between({1: one(0, 5.0, start=1)}, {1: one(0, 0.5, start=2)}) == {1: 0.5}


def test_a_child_that_ended_counts_with_what_it_spent_since() -> None:
    first = {1: one(0, 5.0), 2: one(1, 30.0)}
    assert between(first, {1: one(0, 5.0, 31.5)}) == {1: 1.5}


def test_so_does_a_whole_family_that_ended() -> None:
    first = {1: one(0, 5.0, 2.0), 2: one(1, 30.0, 4.0), 3: one(2, 10.0)}
    assert between(first, {1: one(0, 5.0, 2.0 + 30.0 + 4.0 + 10.0 + 0.5)}) == {1: pytest.approx(0.5)}


def test_a_child_for_which_nobody_waited_is_taken_off_nowhere() -> None:
    first = {1: one(0, 5.0), 2: one(1, 30.0)}
    assert between(first, {1: one(0, 6.0)}) == {1: 1.0}


def test_a_real_child_that_ends_between_the_looks() -> None:
    child = subprocess.Popen([sys.executable, "-c", SPIN.format(0.6, 0.2)], stdout=subprocess.PIPE)
    assert child.stdout is not None and child.stdout.readline()
    first = processes()
    child.wait()
    child.stdout.close()
    began = time.process_time()
    took = between(first, processes())
    assert took[os.getpid()] < 0.5 + time.process_time() - began
