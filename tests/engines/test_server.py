"""A server's life and end, against an engine with bad habits: whatever it does, nothing of it stays."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
import time
import uuid
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import httpx
import pytest

from engines.contract import CrashClass, Launch, ServerCrashed
from engines.orphans import RUN_ID, survivors
from engines.ports import held_port, is_free
from engines.server import Server, reap, shell_line
from tests.engines.nasty_engine import MODEL, Nasty

GRACE = 0.5


@pytest.fixture
def run_id() -> Iterator[str]:
    """An id of a run; whatever carries it must be gone when the test ends."""
    identity = uuid.uuid4().hex
    yield identity
    assert processes(identity) == set()


def processes(run_id: str) -> set[int]:
    return survivors(lambda variables: variables.get(RUN_ID) == run_id)


def keepers(run_id: str) -> list[int]:
    """Keeper processes of a run, the guard first."""
    found = [pid for pid in processes(run_id) if b"keeper.py" in Path(f"/proc/{pid}/cmdline").read_bytes()]
    return sorted(found)


def until(done: Callable[[], bool], seconds: float = 10.0) -> bool:
    deadline = time.monotonic() + seconds
    while not (reached := done()) and time.monotonic() < deadline:
        time.sleep(0.02)
    return reached


def make(
    habit: str,
    tmp_path: Path,
    run_id: str,
    *,
    grace: float = GRACE,
    log_limit: int = 1 << 30,
    start_timeout: float | None = None,
) -> Server:
    return Server(
        Nasty(habit),
        {},
        MODEL,
        log=tmp_path / "logs" / "engine.log",
        run_id=run_id,
        start_timeout=start_timeout,
        grace=grace,
        log_limit=log_limit,
    )


@pytest.mark.parametrize("habit", ["serve", "daemon", "workers", "stubborn"])
def test_serves_and_leaves_nothing(habit: str, tmp_path: Path, run_id: str) -> None:
    with make(habit, tmp_path, run_id) as server:
        assert httpx.get(server.url).status_code == 200
        assert server.alive()
        assert server.death() is None
        assert processes(run_id)
    assert processes(run_id) == set()
    assert is_free(server.port)
    assert not server.alive()
    assert 0 < server.seconds["start"] < 5
    assert server.seconds["stop"] < GRACE + 1.5


def test_a_well_behaved_engine_ends_at_once(tmp_path: Path, run_id: str) -> None:
    with make("serve", tmp_path, run_id, grace=30) as server:
        pass
    assert server.seconds["stop"] < 1.0


def test_a_flood_neither_blocks_the_engine_nor_fills_the_disk(tmp_path: Path, run_id: str) -> None:
    limit = 4 << 20
    with make("flood", tmp_path, run_id, log_limit=limit) as server:
        assert until(lambda: "the flood is over" in server.tail(1000))
        assert until(lambda: "MiB of log were cut here" in server.log.read_text()[:100])
        assert until(lambda: server.log.stat().st_size <= limit)
        assert len(server.tail()) <= 256 << 10
        assert server.alive()


@pytest.mark.parametrize(
    ("habit", "crash", "said"),
    [
        (
            "out_of_memory",
            CrashClass.OUT_OF_MEMORY,
            "exit code 1 before it was ready: torch.OutOfMemoryError: CUDA out of memory. Tried",
        ),
        (
            "refused",
            CrashClass.UNKNOWN,
            "validation error for SchedulerConfig: Value error, the threshold is above the context",
        ),
        ("killed", CrashClass.UNKNOWN, "killed by signal 11"),
        ("vanish", CrashClass.UNKNOWN, "exit code 0 before it was ready"),
    ],
)
def test_an_early_death_is_noticed_at_once(
    habit: str, crash: CrashClass, said: str, tmp_path: Path, run_id: str
) -> None:
    server = make(habit, tmp_path, run_id)
    started = time.monotonic()
    with pytest.raises(ServerCrashed, match=said) as caught, server:
        pytest.fail("it never was ready")
    assert caught.value.crash is crash
    assert caught.value.tail == server.tail().strip()
    assert "\n" not in str(caught.value)
    assert time.monotonic() - started < 3
    assert is_free(server.port)


def test_a_program_that_is_not_there_is_an_early_death(tmp_path: Path, run_id: str) -> None:
    class Missing(Nasty):
        def command(self, *args: object) -> Launch:
            return Launch(("/no/such/engine",))

    server = Server(Missing(), {}, MODEL, log=tmp_path / "log", run_id=run_id, grace=GRACE)
    with pytest.raises(ServerCrashed, match="cannot start /no/such/engine"), server:
        pytest.fail("it never was ready")


def test_a_hanging_start_runs_into_its_timeout(tmp_path: Path, run_id: str) -> None:
    with (
        pytest.raises(ServerCrashed, match="not ready after 1 s") as caught,
        make("hang", tmp_path, run_id, start_timeout=0.6),
    ):
        pytest.fail("it never was ready")
    assert caught.value.crash is CrashClass.START_TIMEOUT


def test_a_death_after_ready_is_seen_and_classified(tmp_path: Path, run_id: str) -> None:
    with make("serve", tmp_path, run_id) as server:
        with pytest.raises(httpx.HTTPError):
            httpx.get(f"{server.url}/die")
        assert until(lambda: not server.alive(), 2)
        death = server.death()
        assert death is not None
        assert death.crash is CrashClass.DIED
        assert "exit code 3: fatal error: the answer was no" in death.detail


@pytest.mark.parametrize("habit", ["daemon", "workers"])
def test_nothing_survives_a_sigkill_of_the_parent(habit: str, tmp_path: Path, run_id: str) -> None:
    driver = subprocess.Popen(
        [sys.executable, "-m", "tests.engines.nasty_engine", habit, str(tmp_path / "log"), run_id],
        stdout=subprocess.PIPE,
        cwd=Path(__file__).parents[2],
        text=True,
    )
    with driver:
        assert driver.stdout is not None
        port = int(driver.stdout.readline())
        assert len(processes(run_id)) >= 3
        driver.send_signal(signal.SIGKILL)
    assert until(lambda: not processes(run_id))
    assert is_free(port)


def test_the_guard_takes_over_when_the_keeper_is_killed(tmp_path: Path, run_id: str) -> None:
    with make("workers", tmp_path, run_id) as server:
        os.kill(keepers(run_id)[1], signal.SIGKILL)
        assert until(lambda: not server.alive(), 3)
        assert until(lambda: not processes(run_id))
        assert server.death() is not None


def test_reap_ends_what_killed_keepers_left(tmp_path: Path, run_id: str) -> None:
    other = uuid.uuid4().hex
    with make("serve", tmp_path / "other", other) as bystander, make("workers", tmp_path, run_id):
        for keeper in keepers(run_id):
            os.kill(keeper, signal.SIGKILL)
        assert len(reap(run_id, grace=GRACE)) >= 2
        assert processes(run_id) == set()
        assert bystander.alive()
    assert reap(run_id) == []
    assert reap("") == []


def test_leaving_ends_what_killed_keepers_left(tmp_path: Path, run_id: str) -> None:
    with make("stubborn", tmp_path, run_id) as server:
        for keeper in keepers(run_id):
            os.kill(keeper, signal.SIGKILL)
    assert processes(run_id) == set()
    assert is_free(server.port)


def test_parallel_servers_in_threads_share_neither_port_nor_end(tmp_path: Path, run_id: str) -> None:
    together = threading.Barrier(3, timeout=10)

    def hold(number: int) -> int:
        with make("serve", tmp_path / str(number), run_id) as server:
            together.wait()
            if number == 0:
                return server.port
            assert httpx.get(server.url).status_code == 200
            return server.port

    with ThreadPoolExecutor(3) as pool:
        assert len(set(pool.map(hold, range(3)))) == 3


def test_an_interrupt_while_it_starts_ends_it(tmp_path: Path, run_id: str) -> None:
    class Interrupted(Nasty):
        def ready(self, url: str) -> bool:
            raise KeyboardInterrupt

    server = Server(Interrupted(), {}, MODEL, log=tmp_path / "log", run_id=run_id, grace=GRACE)
    with pytest.raises(KeyboardInterrupt), server:
        pytest.fail("it never was ready")
    assert processes(run_id) == set()


def test_the_environment_is_clean_but_for_the_launch(
    tmp_path: Path, run_id: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("SOME_API_KEY", "PYTHONPATH", "LD_PRELOAD_NOT", "VLLM_SOMETHING"):
        monkeypatch.setenv(name, "no")
    monkeypatch.setenv("LC_TIME", "C")
    with make("say_environment", tmp_path, run_id) as server:
        seen = json.loads(server.tail())
    assert "no" not in seen.values()
    assert seen["OWN"] == "a value"
    assert seen["LC_TIME"] == "C"
    assert seen[RUN_ID] == run_id
    assert seen["PATH"].split(":")[0] == str(Path(sys.executable).parent)


def test_a_held_port_is_given_to_nobody_else() -> None:
    with held_port() as one, held_port() as other:
        assert one != other
        assert is_free(one)


def test_a_launch_reads_as_a_line_of_shell() -> None:
    launch = Launch(("python", "-m", "serve", "--model", "a b"), {"Z": "1", "A": "x;y"})
    assert shell_line(launch) == "A='x;y' Z=1 python -m serve --model 'a b'"
