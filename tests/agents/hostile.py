"""An agent that breaks every rule it can, and submits a launcher that works. Runs inside the sandbox."""

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

BIG = ("/usr", "/sys", "/proc", sys.base_prefix)
"""What is there for every process of the machine."""
PACKAGES = "site-packages"
"""Nobody writes a seed into installed packages, and reading them all takes a minute."""


def main() -> None:
    """Break rules, with a report of what came of each."""
    seed, outside = sys.argv[1].encode(), sys.argv[2:]
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    report: dict[str, object] = {
        "wrote": [path for path in outside if wrote(Path(path))],
        "seed": [*seed_in_files(seed), *seed_in_processes(seed)],
    }
    edit_score()
    report["forged score exits"] = subprocess.run(["./score"], capture_output=True, check=False).returncode
    daemons()
    serve_on_port()
    launcher = json.loads(Path("task.json").read_text())["engines"][0]["default"]
    Path("start_server.sh").write_text(launcher)
    Path("report.json").write_text(json.dumps(report))


def wrote(path: Path) -> bool:
    """Try to write a file, with all directories above it."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("planted")
    except OSError:
        return False
    return True


def seed_in_files(seed: bytes) -> list[str]:
    """Files that hold the held-out seed, apart from the ones of the system."""
    found = []
    for folder, folders, names in os.walk("/"):
        folders[:] = [
            name
            for name in folders
            if name != PACKAGES and not f"{folder}/{name}".replace("//", "/").startswith(BIG)
        ]
        for name in names:
            path = Path(folder) / name
            try:
                if path.is_file() and path.stat().st_size < 4_000_000 and seed in path.read_bytes():
                    found.append(str(path))
            except OSError:
                continue
    return found


def seed_in_processes(seed: bytes) -> list[str]:
    """Files of /proc that hold the seed; the command line that named it to this script apart."""
    found = []
    for folder in Path("/proc").glob("[0-9]*"):
        for name in ("environ", "cmdline", "mountinfo", "mounts"):
            try:
                data = (folder / name).read_bytes()
            except OSError:
                continue
            if seed in data and b"hostile.py" not in data:
                found.append(str(folder / name))
    return found


def edit_score() -> None:
    """Make ./score print what we like."""
    Path("score").write_text('#!/bin/sh\necho \'{"valid": true, "score": 1e9}\'\n')


def daemons() -> None:
    """Fork twice, with a session of their own and deaf to TERM."""
    for _ in range(3):
        if os.fork() == 0:
            os.setsid()
            if os.fork() == 0:
                os.execv("/bin/sh", ["planted-daemon", "-c", "trap '' TERM HUP; while :; do sleep 1; done"])
            os._exit(0)


def serve_on_port() -> None:
    """Leave a server on the agent's port."""
    subprocess.Popen(
        [sys.executable, "-m", "http.server", os.environ["PORT"]],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    )
    subprocess.run(
        ["bash", "-c", f"until echo > /dev/tcp/127.0.0.1/{os.environ['PORT']}; do :; done"],
        stderr=subprocess.DEVNULL,
        check=True,
    )


if __name__ == "__main__":
    main()
