"""Engines in containers, with a daemon and a tool that stand in for docker's."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
import uuid
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import pytest

from engines import cli_flags, runtime
from engines.container import Container
from engines.contract import EngineNotInstalled, Model, ServerCrashed
from engines.orphans import RUN_ID, survivors
from engines.ports import is_free
from engines.server import Server, reap
from engines.sglang import SGLang
from engines.tgi import TGI
from engines.vllm import Vllm
from tests.engines import container_tool

IMAGE = "example/tgi:3.3.4"
MOUNT = Path("/models/m")

LAUNCHER = """#!{python} -IS
import http.server, os, signal, sys, time
if "--version" in sys.argv:
    print("text-generation-launcher 3.3.4")
elif "--help" in sys.argv:
    for flag in {flags!r}:
        print("      --" + flag + " <VALUE>\\n          What it does\\n")
else:
    if os.environ.get("HABIT") == "stubborn":
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
    if os.environ.get("HABIT") == "dies":
        sys.exit("error: unexpected argument '--frob' found")
    print("marks", os.environ.get("CEILING_RUN_ID"), flush=True)
    class Health(http.server.BaseHTTPRequestHandler):
        def do_GET(self):
            self.send_response(200)
            self.end_headers()
        def log_message(self, *_):
            pass
    port = int(sys.argv[sys.argv.index("--port") + 1])
    http.server.HTTPServer(("127.0.0.1", port), Health).serve_forever()
"""
FLAGS = (
    *("model-id", "hostname", "port", "shard-uds-path", "num-shard"),
    *("max-total-tokens", "max-input-tokens", "max-concurrent-requests"),
)


@dataclass
class Docker:
    """The stand-in daemon, by its socket."""

    path: str

    def containers(self) -> list[str]:
        return list(json.loads(container_tool.answer(self.path, do="list"))[0])

    def runs(self) -> list[dict[str, Any]]:
        return list(json.loads(container_tool.answer(self.path, do="list"))[1])


@pytest.fixture
def docker(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Docker]:
    """A daemon, its tool as `docker` on PATH, and an image whose launcher stands in for TGI's."""
    inside = tmp_path / "image"
    inside.mkdir()
    launcher = inside / "text-generation-launcher"
    launcher.write_text(LAUNCHER.format(python=sys.executable, flags=FLAGS))
    launcher.chmod(0o755)
    path = str(tmp_path / "socket")
    daemon = subprocess.Popen(
        [sys.executable, container_tool.__file__, "daemon", path],
        env={"PATH": f"{inside}{os.pathsep}{os.defpath}"},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    )
    assert daemon.stdout is not None and daemon.stdout.readline() == b"ready\n"
    container_tool.make_tool(tmp_path / "bin", "docker", path)
    monkeypatch.setenv("PATH", f"{tmp_path / 'bin'}{os.pathsep}{os.environ['PATH']}")
    monkeypatch.setenv("CEILING_HOME", str(tmp_path / "home"))
    cli_flags.forget()
    try:
        yield Docker(path)
    finally:
        daemon.communicate(timeout=10)


@pytest.fixture
def model(tmp_path: Path) -> Model:
    (tmp_path / "model").mkdir()
    return Model(tmp_path / "model", "m", 1024)


def server(tmp_path: Path, model: Model, run_id: str, habit: str = "") -> Server:
    config = {"env.HABIT": habit} if habit else {}
    return Server(TGI(), config, model, log=tmp_path / "logs" / "tgi.log", run_id=run_id, grace=0.5)


def test_an_engine_in_a_container_serves_and_is_gone(docker: Docker, tmp_path: Path, model: Model) -> None:
    made = runtime.add("tgi", IMAGE)
    assert (made.kind, made.version, made.place) == ("container", "3.3.4", f"docker {IMAGE}")
    assert runtime.find("tgi") == made
    run_id = uuid.uuid4().hex
    with server(tmp_path, model, run_id) as running:
        assert httpx.get(running.url).status_code == 200
        assert len(docker.containers()) == 1
        assert list((tmp_path / "logs").glob("*.cid"))
    assert docker.containers() == []
    assert not list((tmp_path / "logs").glob("*.cid"))
    assert is_free(running.port)
    assert f"marks {run_id}" in running.tail()
    options = docker.runs()[-1]["options"]
    assert options["--volume"] == [f"{model.path}:{model.path}:ro"]
    assert options["--network"] == ["host"]
    assert {"HF_HUB_OFFLINE=1", "CUDA_VISIBLE_DEVICES", "CEILING_RUN_ID"} <= set(options["--env"])
    assert "--cidfile" not in running.launch.argv and running.launch.argv[1] == "run"


def test_a_container_that_ignores_term_is_removed_by_its_id(
    docker: Docker, tmp_path: Path, model: Model
) -> None:
    runtime.add("tgi", IMAGE)
    with server(tmp_path, model, "", "stubborn") as running:
        assert len(docker.containers()) == 1
    assert docker.containers() == [] and is_free(running.port)


def test_a_container_that_dies_is_a_crash(docker: Docker, tmp_path: Path, model: Model) -> None:
    runtime.add("tgi", IMAGE)
    running = server(tmp_path, model, "", "dies")
    with pytest.raises(ServerCrashed, match="unexpected argument") as crashed, running:
        raise AssertionError("it does not start")
    assert crashed.value.crash.value == "unsupported-flag"
    assert docker.containers() == []


DRIVER = """
import sys, time
from pathlib import Path
from engines.contract import Model
from engines.server import Server
from engines.tgi import TGI
config = {"env.HABIT": "stubborn"}
model = Model(Path(sys.argv[1]), "m", 1024)
with Server(TGI(), config, model, log=Path(sys.argv[2]), run_id=sys.argv[3], grace=0.5) as server:
    print(server.port, flush=True)
    time.sleep(600)
"""


@pytest.mark.parametrize("all_of_it", [False, True])
def test_a_killed_harness_leaves_no_container(
    docker: Docker, tmp_path: Path, model: Model, all_of_it: bool
) -> None:
    runtime.add("tgi", IMAGE)
    run_id = uuid.uuid4().hex
    driver = subprocess.Popen(
        [sys.executable, "-c", DRIVER, str(model.path), str(tmp_path / "logs" / "log"), run_id],
        cwd=Path(__file__).parents[2],
        stdout=subprocess.PIPE,
    )
    assert driver.stdout is not None
    port = int(driver.stdout.readline())
    marked = survivors(lambda variables: variables.get(RUN_ID) == run_id)
    driver.kill()
    driver.communicate()
    if all_of_it:
        for pid in marked:
            if b"keeper.py" in Path(f"/proc/{pid}/cmdline").read_bytes():
                os.kill(pid, 9)
    reap(run_id, grace=0.5)
    deadline = time.monotonic() + 15.0
    while docker.containers() and time.monotonic() < deadline:
        time.sleep(0.05)
    assert docker.containers() == [] and is_free(port)
    assert survivors(lambda variables: variables.get(RUN_ID) == run_id) == set()


def test_what_cannot_be_added_is_said(docker: Docker) -> None:
    for name, image, tool, said in (
        ("tgi", "no/such:image", None, "does not hold tgi: docker: no such image"),
        ("tgi", IMAGE, "podman", "install podman"),
        ("tgi", IMAGE, "frob", "docker, podman, apptainer"),
        ("torch", IMAGE, None, "torch does not run in a container"),
    ):
        with pytest.raises(EngineNotInstalled, match=said):
            runtime.add(name, image, tool=tool)
    with pytest.raises(EngineNotInstalled, match="ceiling engines add tgi --container IMAGE"):
        runtime.find("tgi")


def test_an_engine_leaves_its_container(docker: Docker) -> None:
    runtime.add("tgi", IMAGE)
    assert runtime.forget("tgi") and not runtime.forget("tgi")
    with pytest.raises(EngineNotInstalled):
        runtime.find("tgi")


def test_a_container_starts_cold(docker: Docker, tmp_path: Path, model: Model) -> None:
    from engines.warm import Interpreters

    place = tmp_path / "home" / "engines"
    place.mkdir(parents=True)
    written = {"tool": "docker", "binary": "/usr/bin/docker", "image": "x", "version": "1"}
    (place / "vllm.container.json").write_text(json.dumps(written))
    kept = Interpreters()
    assert kept.prepare(Vllm(), model, devices=(0,), run_id="", folder=tmp_path) is None


@pytest.mark.parametrize(
    ("tool", "expected"),
    [
        (
            "docker",
            "run --rm --init --network host --shm-size 8g --gpus all --env CUDA_VISIBLE_DEVICES "
            "--env CUDA_DEVICE_ORDER --env CEILING_SERVER --env CEILING_RUN_ID --env A=b "
            "--volume /models/m:/models/m:ro --entrypoint serve image --port 1",
        ),
        (
            "podman",
            "run --rm --init --network host --shm-size 8g --device nvidia.com/gpu=all "
            "--security-opt label=disable --env CUDA_VISIBLE_DEVICES --env CUDA_DEVICE_ORDER "
            "--env CEILING_SERVER --env CEILING_RUN_ID --env A=b --volume /models/m:/models/m:ro "
            "--entrypoint serve image --port 1",
        ),
        (
            "apptainer",
            "exec --no-home --writable-tmpfs --nv --bind /models/m:/models/m:ro --env A=b "
            "image serve --port 1",
        ),
    ],
)
def test_each_tool_s_command_line(tool: str, expected: str) -> None:
    container = Container(tool, f"/bin/{tool}", "image")
    argv = container.argv(("serve", "--port", "1"), {"A": "b"}, mounts=[MOUNT], gpus=True)
    assert argv == (f"/bin/{tool}", *expected.split())
    assert container.detached == (tool != "apptainer")
    bare = container.argv(("serve",), {})
    assert not {"--gpus", "--device", "--nv"} & set(bare)


@pytest.mark.parametrize(("engine", "inside"), [(Vllm, "python3"), (SGLang, "python3")])
def test_python_engines_run_in_containers_too(
    docker: Docker, tmp_path: Path, engine: type[Vllm] | type[SGLang], inside: str
) -> None:
    made = runtime.Runtime("container", (inside,), "1", {}, Container("docker", "/bin/docker", "image"))
    launch = made.launch(["-m", "module"], {"A": "b"}, mounts=[MOUNT])
    assert launch.argv[launch.argv.index("--entrypoint") + 1 :] == ("python3", "image", "-m", "module")
    assert (launch.env, launch.container) == ({}, "/bin/docker")
    assert engine().name in runtime.INSIDE
