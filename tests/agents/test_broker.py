"""The service's socket: answers, progress, and clients that misbehave."""

from __future__ import annotations

import json
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest

from agents.broker import CLIENTS, Broker, Say
from agents.workspace import SOCKET


def answer(verb: str, arguments: list[str], say: Say) -> tuple[int, str]:
    """Repeats what it was asked."""
    say("working")
    return 0, f"{verb} {' '.join(arguments)}"


@pytest.fixture
def folder(tmp_path: Path) -> Iterator[Path]:
    """A directory in which a broker listens."""
    failures: list[Exception] = []
    with Broker(tmp_path, answer, failures.append):
        yield tmp_path
    assert not failures


def ask(folder: Path, line: bytes) -> list[dict[str, object]]:
    """Send a line and read all replies."""
    with socket.socket(socket.AF_UNIX) as service:
        service.connect(str(folder / SOCKET))
        service.sendall(line)
        return [json.loads(reply) for reply in service.makefile()]


def test_an_answer_follows_its_progress(folder: Path) -> None:
    replies = ask(folder, b'{"verb": "score", "arguments": ["--quick"]}\n')
    assert replies == [{"say": "working"}, {"exit": 0, "text": "score --quick"}]


@pytest.mark.parametrize("line", [b"\n", b"nonsense\n", b"[]\n", b'{"verb": 1, "arguments": []}\n'])
def test_nonsense_is_refused(folder: Path, line: bytes) -> None:
    assert ask(folder, line) == [{"exit": 2, "text": "not a request of this service"}]


def test_a_client_that_leaves_disturbs_nobody(folder: Path) -> None:
    for _ in range(3):
        with socket.socket(socket.AF_UNIX) as service:
            service.connect(str(folder / SOCKET))
            service.sendall(b'{"verb": "score", "arguments": []}\n')
    assert ask(folder, b'{"verb": "timer", "arguments": []}\n')[-1]["exit"] == 0


def test_silent_clients_do_not_use_the_service_up(folder: Path) -> None:
    silent = [socket.socket(socket.AF_UNIX) for _ in range(CLIENTS)]
    try:
        for client in silent:
            client.connect(str(folder / SOCKET))
        said = ask(folder, b'{"verb": "timer", "arguments": []}\n')[-1]
        assert "busy" in str(said["text"])
    finally:
        for client in silent:
            client.close()


def test_what_fails_in_the_service_is_told_and_kept(tmp_path: Path) -> None:
    failures: list[Exception] = []

    def broken(verb: str, arguments: list[str], say: Say) -> tuple[int, str]:
        raise ZeroDivisionError("no")

    with Broker(tmp_path, broken, failures.append):
        (reply,) = ask(tmp_path, b'{"verb": "score", "arguments": []}\n')
    assert reply["exit"] == 1
    assert "no fault of yours: ZeroDivisionError: no" in str(reply["text"])
    assert [type(each) for each in failures] == [ZeroDivisionError]
