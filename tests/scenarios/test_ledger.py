"""The ledger: nothing acknowledged is lost, nothing torn is believed, one writer at a time."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import threading
from pathlib import Path

import pandas as pd
import pytest

from scenarios import ledger as ledgers
from scenarios.ledger import FILE, Ledger, LedgerError

HEADER = {"id": "abc", "kind": "search"}

WRITER = """
import sys
from pathlib import Path
from scenarios.ledger import Ledger
ledger = Ledger.create(Path(sys.argv[1]), {"id": "abc", "kind": "search"})
number = 0
while True:
    ledger.append("note", number=number, text="x" * 500)
    print(number, flush=True)
    number += 1
"""

HOLDER = """
import sys, time
from pathlib import Path
from scenarios.ledger import Ledger
ledger = Ledger.create(Path(sys.argv[1]), {"id": "abc", "kind": "search"})
print("held", flush=True)
sys.stdin.read()
"""


def test_events_come_back_as_written(tmp_path: Path) -> None:
    with Ledger.create(tmp_path / "run", HEADER) as ledger:
        written = ledger.append("ask", trial=0, config={"a": True, "b": 1}, plans=(1, 2), at_path=tmp_path)
    events, damaged = ledgers.read(tmp_path / "run")
    assert damaged == []
    assert [event["event"] for event in events] == ["run", "ask"]
    assert events[1] == written
    assert events[1]["config"] == {"a": True, "b": 1}
    assert events[1]["config"]["a"] is True
    assert events[1]["plans"] == [1, 2]
    assert events[1]["at_path"] == str(tmp_path)


def test_one_call_of_pandas_reads_it(tmp_path: Path) -> None:
    with Ledger.create(tmp_path, HEADER) as ledger:
        ledger.append("trial", trial=3, score=1.5)
    frame = pd.read_json(tmp_path / FILE, lines=True)
    assert list(frame["event"]) == ["run", "trial"]
    assert frame["score"][1] == 1.5
    assert ledgers.frame(tmp_path)["trial"][1] == 3


def test_what_was_acknowledged_survives_sigkill(tmp_path: Path) -> None:
    writer = subprocess.Popen(
        [sys.executable, "-c", WRITER, str(tmp_path / "run")], stdout=subprocess.PIPE, text=True
    )
    assert writer.stdout is not None
    acknowledged = [int(writer.stdout.readline()) for _ in range(50)]
    writer.send_signal(signal.SIGKILL)
    writer.wait()
    acknowledged += [int(line) for line in writer.stdout.read().split()]
    writer.stdout.close()
    with Ledger.resume(tmp_path / "run") as ledger:
        numbers = [event["number"] for event in ledger.events if event["event"] == "note"]
    assert numbers[: len(acknowledged)] == acknowledged


def test_a_torn_last_line_is_closed_reported_and_kept(tmp_path: Path) -> None:
    with Ledger.create(tmp_path, HEADER) as ledger:
        ledger.append("note", text="whole")
    with (tmp_path / FILE).open("ab") as file:
        file.write(b'{"schema":1,"event":"trial","tri')
    with Ledger.resume(tmp_path) as ledger:
        assert [damage.line for damage in ledger.damaged] == [3]
        assert ledger.damaged[0].text.startswith('{"schema":1,"event":"trial"')
        ledger.append("note", text="after")
    events, damaged = ledgers.read(tmp_path)
    assert [event.get("text") for event in events] == [None, "whole", "after"]
    assert len(damaged) == 1
    assert len((tmp_path / FILE).read_text().splitlines()) == 4


def test_a_damaged_line_in_the_middle_loses_only_itself(tmp_path: Path) -> None:
    with Ledger.create(tmp_path, HEADER) as ledger:
        ledger.append("note", text="one")
        ledger.append("note", text="two")
    lines = (tmp_path / FILE).read_bytes().splitlines(keepends=True)
    (tmp_path / FILE).write_bytes(lines[0] + lines[1][:20] + b"\xff\xfe\n" + lines[2] + b"[1, 2]\n")
    events, damaged = ledgers.read(tmp_path)
    assert [event.get("text") for event in events] == [None, "two"]
    assert [damage.line for damage in damaged] == [2, 4]


def test_one_writer_at_a_time(tmp_path: Path) -> None:
    holder = subprocess.Popen(
        [sys.executable, "-c", HOLDER, str(tmp_path / "run")],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert holder.stdout is not None
    assert holder.stdout.readline() == "held\n"
    with pytest.raises(LedgerError, match="in use by another process"):
        Ledger.resume(tmp_path / "run")
    holder.kill()
    holder.communicate()
    Ledger.resume(tmp_path / "run").close()


def test_a_directory_with_a_run_is_not_begun_again(tmp_path: Path) -> None:
    Ledger.create(tmp_path, HEADER).close()
    with pytest.raises(LedgerError, match="already holds a run: add --resume"):
        Ledger.create(tmp_path, HEADER)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (None, "holds no ledger"),
        ("", "no header"),
        ('{"schema":1,"event":"note"}\n', "no header"),
        ('{"schema":99,"event":"run"}\n', "schema 99"),
    ],
)
def test_what_is_no_run_is_refused_and_let_go(tmp_path: Path, content: str | None, message: str) -> None:
    if content is not None:
        (tmp_path / FILE).write_text(content)
    for _ in range(2):
        with pytest.raises(LedgerError, match=message):
            Ledger.resume(tmp_path)
    with pytest.raises(LedgerError, match="does not exist"):
        Ledger.resume(tmp_path / "nowhere")


def test_what_json_cannot_hold_never_reaches_the_file(tmp_path: Path) -> None:
    with Ledger.create(tmp_path, HEADER) as ledger:
        with pytest.raises(ValueError, match="not JSON compliant"):
            ledger.append("trial", score=float("nan"))
        with pytest.raises(TypeError, match="no place in a ledger"):
            ledger.append("trial", score=object())
        ledger.append("note", text="fine")
    assert [event["event"] for event in ledgers.read(tmp_path)[0]] == ["run", "note"]


def test_observers_see_every_event_as_a_reader_will(tmp_path: Path) -> None:
    seen: list[object] = []
    with Ledger.create(tmp_path, HEADER) as ledger:
        ledger.subscribe(seen.append)
        ledger.append("ask", plans=(1, 2))
    assert seen == [ledgers.read(tmp_path)[0][1]]


def test_threads_never_mix_their_lines(tmp_path: Path) -> None:
    with Ledger.create(tmp_path, HEADER) as ledger:
        threads = [
            threading.Thread(
                target=lambda n=n: [ledger.append("note", by=n, pad="y" * 2000) for _ in range(20)]
            )
            for n in range(4)
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        order = [event.get("by") for event in ledger.events]
    events, damaged = ledgers.read(tmp_path)
    assert damaged == []
    assert [event.get("by") for event in events] == order
    assert len(events) == 81


def test_gpu_seconds_add_up_over_segments(tmp_path: Path) -> None:
    with Ledger.create(tmp_path, HEADER) as ledger:
        for segment, seconds in ((0, 0.0), (0, 5.0), (0, 9.5), (1, 0.0), (1, 3.0)):
            ledger.append("meter", segment=segment, devices=1, gpu_seconds=seconds)
        assert ledgers.gpu_seconds(ledger.events) == 12.5
    assert json.loads((tmp_path / FILE).read_text().splitlines()[0])["schema"] == ledgers.SCHEMA
