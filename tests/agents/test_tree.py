"""The sandbox and the process tree in it: what can be written, what is seen, what is left."""

from __future__ import annotations

import os
import subprocess
import time
from pathlib import Path

import psutil
import pytest

from agents.sandbox import Bare, Box, Sandbox, _bwrap, interpreter, program_paths
from agents.spec import AgentError
from agents.tree import INTERPRETER, End, Tree
from tests.agents.conftest import INSIDE, needs_bwrap


def ran(
    box: Box, place: Path, script: str, *, wait: float = 20.0, grace: float = 0.5, run_id: str = "tree-test"
) -> tuple[int | None, End, str]:
    """Run a bash script in a box: exit status (None if it was ended), how its tree ended, its output."""
    (place / "workspace" / "agent.sh").write_text(script)
    with (place / "log").open("wb") as log:
        tree = Tree.start(box, ["bash", "agent.sh"], INSIDE, log, run_id)
        try:
            tree.wait(wait)
        finally:
            end = tree.end(grace)
    return tree.code, end, (place / "log").read_text()


@needs_bwrap
def test_exit_status_and_output_come_out(sandbox: Sandbox, place: Path) -> None:
    code, end, output = ran(sandbox, place, "echo $PWD $HOME; exit 7")
    assert (code, output.split()) == (7, ["/workspace", "/home/agent"])
    assert end == End((), (), ())


@needs_bwrap
def test_a_program_that_is_not_there_is_127(sandbox: Sandbox, place: Path) -> None:
    with (place / "log").open("wb") as log:
        tree = Tree.start(sandbox, ["no-such-agent"], INSIDE, log, "x")
        assert tree.wait(20)
        tree.end()
    assert tree.code == 127
    assert "no-such-agent: No such file" in (place / "log").read_text()


@needs_bwrap
def test_only_workspace_home_and_tmp_are_kept(sandbox: Sandbox, place: Path, tmp_path: Path) -> None:
    script = f"""
    for path in /workspace/w $HOME/h /tmp/t /etc/cron /root/evil {tmp_path}/out /usr/u; do
        echo x > $path
    done
    """
    _, end, output = ran(sandbox, place, script)
    assert [(place / where).read_text() for where in ("workspace/w", "home/h", "tmp/t")] == ["x\n"] * 3
    assert {"/etc/cron", "/root/evil"} <= set(end.strays)
    assert "Read-only file system" in output
    assert not Path("/etc/cron").exists() and not Path("/root/evil").exists()
    assert not (tmp_path / "out").exists() and not Path("/usr/u").exists()


@needs_bwrap
def test_daemons_die_with_the_box(sandbox: Sandbox, place: Path) -> None:
    script = """
    (setsid bash -c 'trap "" TERM; exec -a stubborn-daemon sleep 987' &)
    (setsid bash -c 'exec -a meek-daemon sleep 986' &)
    sleep 0.3
    """
    code, end, _ = ran(sandbox, place, script)
    assert code == 0
    assert {"stubborn-daemon 987", "meek-daemon 986"} <= set(end.left)
    assert end.stubborn == ("stubborn-daemon 987",)
    assert not sleeping("987") and not sleeping("986")


@needs_bwrap
def test_an_agent_that_ignores_term_is_ended(sandbox: Sandbox, place: Path) -> None:
    began = time.monotonic()
    code, end, _ = ran(sandbox, place, 'trap "" TERM; while :; do sleep 983; done', wait=0.5)
    assert code is None
    assert any("agent.sh" in line for line in end.stubborn)
    assert time.monotonic() - began < 5
    assert not sleeping("983")


@needs_bwrap
def test_an_agent_gets_time_to_end_itself(sandbox: Sandbox, place: Path) -> None:
    script = "trap 'echo tidied > /workspace/tidy; exit' TERM; sleep 982 & wait"
    _, end, _ = ran(sandbox, place, script, wait=0.5, grace=5.0)
    assert (place / "workspace/tidy").read_text() == "tidied\n"
    assert end.stubborn == ()


@needs_bwrap
def test_other_processes_cannot_be_seen_or_ended(sandbox: Sandbox, place: Path) -> None:
    _, _, output = ran(sandbox, place, "ls /proc | grep -c '^[0-9]'; kill -9 -1; echo never")
    assert int(output.split()[0]) < 10
    assert psutil.Process().is_running()


@needs_bwrap
def test_what_is_hidden_does_not_show(place: Path, tmp_path: Path, sandbox: Sandbox) -> None:
    shown, secret = tmp_path / "shown", tmp_path / "shown" / "runs"
    secret.mkdir(parents=True)
    (secret / "seed").write_text("1337")
    (shown / "tool").write_text("tool")
    box = Sandbox(place, (*sandbox.readable, shown), (secret,))
    _, _, output = ran(box, place, f"cat {shown}/tool; ls -A {secret}; cat {secret}/seed")
    assert output.startswith("tool")
    assert "1337" not in output


def test_a_scripts_interpreter_shows_with_it(tmp_path: Path) -> None:
    tool = tmp_path / "tool"
    tool.write_text(f"#!{INTERPRETER} -I\n")
    assert interpreter(tool) == INTERPRETER
    assert {tool, INTERPRETER.parent.parent} <= set(program_paths((str(tool),), {}))
    assert interpreter(INTERPRETER) is None
    assert program_paths(("/bin/bash",), {}) == ()


@needs_bwrap
def test_a_box_that_cannot_start_says_where_to_look(place: Path) -> None:
    (place / "home").rmdir()
    with (place / "log").open("wb") as log, pytest.raises(AgentError, match="did not start"):
        Tree.start(Sandbox(place, (), ()), ["true"], INSIDE, log, "x")


def test_without_isolation_the_tree_is_ended_all_the_same(place: Path) -> None:
    bare = Bare(place / "workspace", place / "home", place / "tmp", place)
    _, end, _ = ran(bare, place, "(setsid sleep 981 &); sleep 0.2", run_id="bare-tree-test")
    assert end.left == ("sleep 981",)
    assert not sleeping("981")


def sleeping(seconds: str) -> list[psutil.Process]:
    """Live processes that sleep for exactly this long, by whatever name."""
    return [p for p in psutil.process_iter(["cmdline"]) if (p.info["cmdline"] or [])[-1:] == [seconds]]


@pytest.mark.parametrize("users", [True, False], ids=["with a namespace of users", "as root without one"])
def test_no_capability_is_left_inside(place: Path, sandbox: Sandbox, users: bool) -> None:
    made = _bwrap()
    if not users:
        if os.geteuid() != 0:
            pytest.skip("only root does without a namespace of users")
        made = made[: made.index("--unshare-user")] if "--unshare-user" in made else made
    command = ["grep", "CapEff", "/proc/self/status"]
    argv = [*made, *sandbox.argv(command, {"PATH": "/usr/bin:/bin"})[len(_bwrap()) :]]
    done = subprocess.run(argv, capture_output=True, text=True, check=True)
    assert int(done.stdout.split()[1], 16) == 0
    remount = ["mount", "-o", "remount,rw,bind", "/usr"]
    argv = [*made, *sandbox.argv(remount, {"PATH": "/usr/bin:/bin"})[len(_bwrap()) :]]
    assert subprocess.run(argv, capture_output=True, check=False).returncode != 0
