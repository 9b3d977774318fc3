"""A warm start gives the server that a cold start gives, sooner; whatever goes wrong, it is a cold start."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import threading
import time
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from engines.contract import Config, ServerCrashed
from engines.host import this_host
from engines.orphans import RUN_ID, SERVER, survivors
from engines.server import Server, reap
from engines.warm import Interpreter, Interpreters, declared, interpreters
from tests.engines.hosts import CPU, H100, H100_X4
from tests.engines.nasty_engine import MODEL, Nasty
from tests.engines.warm_engine import Warmed, make_package

SLOW = 1.5
"""Seconds of the import, where a test is about its duration."""


@pytest.fixture
def run_id() -> Iterator[str]:
    """An id of a run; whatever carries it must be gone when the test ends."""
    identity = uuid.uuid4().hex
    yield identity
    assert processes(identity) == set()


@pytest.fixture
def kept(run_id: str) -> Iterator[Interpreters]:
    made = Interpreters()
    yield made
    made.close()


@pytest.fixture
def subject(tmp_path: Path) -> Warmed:
    return Warmed(folder=str(make_package(tmp_path / "site")))


def processes(run_id: str) -> set[int]:
    return survivors(lambda variables: variables.get(RUN_ID) == run_id)


def until_none(run_id: str, seconds: float = 8.0) -> bool:
    deadline = time.monotonic() + seconds
    while processes(run_id) and time.monotonic() < deadline:
        time.sleep(0.02)
    return not processes(run_id)


class Stand:
    """Starts servers of an engine in one run."""

    def __init__(self, engine: Nasty, tmp_path: Path, run_id: str) -> None:
        self.engine, self.run_id, self.logs = engine, run_id, tmp_path / "logs"

    def server(self, kept: Interpreters | None = None, config: Config | None = None) -> Server:
        log = self.logs / f"{uuid.uuid4().hex}.log"
        return Server(
            self.engine, config or {}, MODEL, log=log, run_id=self.run_id, grace=0.5, interpreters=kept
        )

    def prepare(self, kept: Interpreters) -> Interpreter:
        """A warm interpreter that has imported."""
        interpreter = kept.prepare(self.engine, MODEL, devices=(0,), run_id=self.run_id, folder=self.logs)
        assert interpreter is not None
        interpreter.wait_warm(10.0)
        return interpreter


@pytest.fixture
def stand(subject: Warmed, tmp_path: Path, run_id: str) -> Stand:
    return Stand(subject, tmp_path, run_id)


def said(server: Server) -> dict[str, Any]:
    answer: dict[str, Any] = httpx.get(server.url).json()
    return answer


def same(server: Server) -> dict[str, Any]:
    """What a server says of itself, less what differs between any two servers."""
    answer = said(server)
    del answer["imported"], answer["runs"]
    environment = answer["environment"]
    environment.pop("FORKING", None)
    assert environment.pop(SERVER)
    words = {str(server.port): "PORT", str(server.log): "LOG"}
    for key in ("argv", "orig_argv", "descriptors"):
        answer[key] = sorted(words.get(word, word.partition("[")[0]) for word in answer[key])
    return answer


def test_a_warm_server_is_what_a_cold_one_is(stand: Stand, kept: Interpreters) -> None:
    with stand.server() as cold:
        expected = same(cold)
        assert not cold.warm
    stand.prepare(kept)
    with stand.server(kept) as server:
        assert server.warm
        assert same(server) == expected
        assert said(server)["environment"]["FORKING"] == "yes"
        assert said(server)["runs"] == ["warmed.server", "__main__"]
        assert server.log.read_text() == cold.log.read_text() != ""


def test_the_imports_are_behind_it_when_it_is_launched(
    tmp_path: Path, run_id: str, kept: Interpreters
) -> None:
    stand = Stand(Warmed(folder=str(make_package(tmp_path / "site", SLOW))), tmp_path, run_id)
    stand.prepare(kept)
    launched = time.monotonic()
    with stand.server(kept) as server:
        assert said(server)["imported"] < launched
        assert server.seconds["start"] < SLOW


def test_it_is_handed_over_while_it_still_imports(tmp_path: Path, run_id: str, kept: Interpreters) -> None:
    stand = Stand(Warmed(folder=str(make_package(tmp_path / "site", SLOW))), tmp_path, run_id)
    kept.prepare(stand.engine, MODEL, devices=(0,), run_id=run_id, folder=stand.logs)
    launched = time.monotonic()
    with stand.server(kept) as server:
        assert server.warm
        assert said(server)["imported"] > launched
        assert said(server)["priority"] == [os.SCHED_OTHER, os.getpriority(os.PRIO_PROCESS, 0)]
        assert server.log.read_text().splitlines() == ["the import speaks", "the server speaks"]


def test_each_launch_has_the_next_one_prepared(stand: Stand, kept: Interpreters) -> None:
    starts = []
    for _ in range(3):
        with stand.server(kept) as server:
            starts.append(server.warm)
    assert starts == [False, True, True]
    assert processes(stand.run_id)
    kept.close()
    assert until_none(stand.run_id)
    assert not list(stand.logs.glob("warm-*"))


def test_a_late_variable_is_set_and_any_other_starts_cold(stand: Stand, kept: Interpreters) -> None:
    stand.prepare(kept)
    with stand.server(kept, {"env.LATE": "x"}) as server:
        assert server.warm
        assert said(server)["environment"]["LATE"] == "x"
    with stand.server(kept, {"env.OWN": "another"}) as server:
        assert not server.warm
        assert said(server)["environment"]["OWN"] == "another"
        assert "FORKING" not in said(server)["environment"]


def test_a_module_that_fails_dies_as_it_does_cold(stand: Stand, kept: Interpreters) -> None:
    deaths = []
    for interpreted in (None, kept):
        if interpreted:
            stand.prepare(interpreted)
        with pytest.raises(ServerCrashed) as caught, stand.server(interpreted, {"fail": "no such luck"}):
            pytest.fail("it never was ready")
        deaths.append((caught.value.crash, caught.value.detail.partition(" (log")[0]))
    assert deaths[0] == deaths[1]
    assert "exit code 1 before it was ready: RuntimeError: no such luck" in deaths[0][1]


def family(server: Server) -> set[int]:
    """A server's process, and its keepers."""
    return survivors(lambda variables: variables.get(SERVER) == said(server)["environment"][SERVER])


TORCH = "class cuda:\n    is_initialized = staticmethod(lambda: True)\n"


def test_imports_that_touched_the_gpu_make_it_a_cold_server(
    stand: Stand, subject: Warmed, kept: Interpreters
) -> None:
    with stand.server() as cold:
        expected = same(cold)
    Path(subject.folder, "torch.py").write_text(TORCH)
    subject.imports = ("torch",)
    first = stand.prepare(kept)
    assert first.unfit and first.living()
    with stand.server(kept) as server:
        assert server.pid == first.pid
        assert not server.warm
        assert said(server)["runs"] == ["__main__"]
        assert processes(stand.run_id) == family(server), "another one was prepared in vain"
        assert same(server) == expected


DRIVER = "int cuDeviceGetCount(int *count) {{ return {answer}; }}"


@pytest.mark.skipif(shutil.which("cc") is None, reason="apt-get install gcc")
@pytest.mark.parametrize(("answer", "fit"), [(3, True), (0, False)])
def test_the_driver_itself_is_asked_whether_an_import_initialised_it(
    stand: Stand, subject: Warmed, kept: Interpreters, answer: int, fit: bool
) -> None:
    """NVML opens the same device files and harms nothing: that the driver is loaded is no reason."""
    library = Path(subject.folder, "libcuda.so.1")
    source = library.with_suffix(".c")
    source.write_text(DRIVER.format(answer=answer))
    subprocess.run(["cc", "-shared", "-fPIC", "-o", library, source], check=True)
    Path(subject.folder, "loads.py").write_text(f"import ctypes\nctypes.CDLL({str(library)!r})\n")
    subject.imports = ("loads",)
    assert stand.prepare(kept).unfit is not fit
    with stand.server(kept) as server:
        assert server.warm is fit
        assert ("a cold start: an import initialised CUDA's driver" in server.log.read_text()) is not fit


def test_a_module_that_does_not_import_ahead_is_run_cold(
    stand: Stand, subject: Warmed, kept: Interpreters
) -> None:
    heavy = Path(subject.folder, "warmed", "heavy.py")
    text = heavy.read_text()
    heavy.write_text("raise ImportError('not yet')")
    stand.prepare(kept)
    heavy.write_text(text)
    with stand.server(kept) as server:
        assert not server.warm
        assert said(server)["runs"] == ["__main__"]


def test_one_that_was_killed_is_replaced_by_a_cold_start(stand: Stand, kept: Interpreters) -> None:
    pid = stand.prepare(kept).pid
    assert pid is not None
    os.kill(pid, signal.SIGKILL)
    with stand.server(kept) as server:
        assert not server.warm
        assert server.alive()


def test_one_that_dies_with_the_launch_on_its_way_is_replaced_by_a_cold_start(
    stand: Stand, kept: Interpreters
) -> None:
    pid = stand.prepare(kept).pid
    assert pid is not None
    os.kill(pid, signal.SIGSTOP)
    threading.Timer(0.5, os.kill, (pid, signal.SIGKILL)).start()
    with stand.server(kept) as server:
        assert not server.warm
        assert server.alive()
    assert "exit code" not in server.log.read_text()


def test_it_imports_on_idle_cores_only(stand: Stand, subject: Warmed, kept: Interpreters) -> None:
    Path(subject.folder, "policy.py").write_text(
        "import os; print('policy', os.sched_getscheduler(0), flush=True)"
    )
    subject.imports = ("policy",)
    stand.prepare(kept)
    with stand.server(kept) as server:
        lowered = f"policy {os.SCHED_IDLE if may_return() else os.SCHED_OTHER}"
        assert lowered in server.log.read_text().splitlines()
        assert said(server)["priority"] == [os.SCHED_OTHER, os.getpriority(os.PRIO_PROCESS, 0)]


def may_return() -> bool:
    """Whether a process here may take idle priority and give it up again."""
    code = (
        "import os; [os.sched_setscheduler(0, p, os.sched_param(0)) for p in (os.SCHED_IDLE, os.SCHED_OTHER)]"
    )
    return subprocess.run([sys.executable, "-c", code], capture_output=True, check=False).returncode == 0


def test_nothing_is_taken_by_another_run_or_device(stand: Stand, kept: Interpreters) -> None:
    stand.prepare(kept)
    assert kept.take(stand.engine, devices=(1,), run_id=stand.run_id) is None
    assert kept.take(stand.engine, devices=(0,), run_id="another") is None
    assert kept.take(Nasty(), devices=(0,), run_id=stand.run_id) is None
    assert declared(Nasty()) is None


def test_a_run_that_is_reaped_loses_what_waits(stand: Stand, kept: Interpreters) -> None:
    interpreter = stand.prepare(kept)
    assert interpreter.pid in reap(stand.run_id, grace=2.0)
    assert not interpreter.living()


def test_it_ends_with_a_parent_that_is_killed(subject: Warmed, run_id: str) -> None:
    driver = subprocess.Popen(
        [sys.executable, "-m", "tests.engines.warm_engine", subject.folder, run_id], stdout=subprocess.PIPE
    )
    assert driver.stdout is not None and driver.stdout.readline() == b"kept\n"
    assert processes(run_id)
    driver.kill()
    driver.communicate()
    assert until_none(run_id)


def test_it_is_the_default_where_gpus_leave_cores_idle() -> None:
    cores = len(os.sched_getaffinity(0))
    assert interpreters("auto", CPU) is None
    assert (interpreters("auto", H100) is not None) is (cores >= 8)
    assert (interpreters("auto", H100_X4) is not None) is (cores >= 32)
    assert interpreters("warm", CPU) is interpreters("warm", H100) is not None
    assert interpreters("cold", H100) is None
    assert this_host().kind == "cuda" or interpreters("auto", this_host()) is None
