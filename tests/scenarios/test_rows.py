"""Rows on disk: whole as soon as they are there, flat in memory, and readable however the writer ended."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from scenarios import rows
from tests.scenarios.made_rows import row


def test_rows_come_back_as_they_were_written(tmp_path: Path) -> None:
    writer = rows.Writer(tmp_path)
    made = [row(key, text="é😀\n" * key) for key in range(rows.PART + 3)]
    for one in reversed(made):
        writer.add(one)
    writer.flush()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["part-00000.parquet", "part-00001.parquet"]
    frame = rows.read(tmp_path)
    assert frame["key"].tolist() == list(range(len(made)))
    assert frame["text"].tolist() == [one["text"] for one in made]
    assert list(frame["chunk_times"].iloc[5]) == made[5]["chunk_times"]
    assert frame["error"].isna().all()


def test_a_part_appears_only_when_it_is_whole(tmp_path: Path) -> None:
    (tmp_path / "part-00000.partial").write_bytes(b"PAR1 torn")
    writer = rows.Writer(tmp_path)
    writer.add(row(0))
    assert not list(tmp_path.glob("*.parquet"))
    writer.flush()
    assert len(rows.read(tmp_path)) == 1


def test_a_later_writer_goes_on_after_the_parts_that_are_there(tmp_path: Path) -> None:
    for key in range(3):
        writer = rows.Writer(tmp_path)
        writer.add(row(key))
        writer.flush()
    assert rows.read(tmp_path)["key"].tolist() == [0, 1, 2]


def test_a_directory_without_rows_is_named(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match="name a directory with part-"):
        rows.read(tmp_path)


MANY = """
import resource, sys, json
from pathlib import Path
from scenarios.load.collect import Collector, Start
from scenarios.load.entry import Entry
from scenarios.load.spill import Outcome, Record, pack
from tests.scenarios.mock_server import DONE, delta, usage
from tests.scenarios.request_sets import Words

out, count = Path(sys.argv[1]), int(sys.argv[2])
entries = [Entry(k, k, "scored", "c", f"prompt {k}", 9, 30, 0.0, 0) for k in range(count)]
events = [delta(f" word{n}") for n in range(30)] + [usage(9, 30) + DONE]
head = b"HTTP/1.1 200 OK\\r\\nTransfer-Encoding: chunked\\r\\n\\r\\n"
pieces = [head + b"%x\\r\\n%s\\r\\n" % (len(events[0]), events[0])]
pieces += [b"%x\\r\\n%s\\r\\n" % (len(e), e) for e in events[1:]] + [b"0\\r\\n\\r\\n"]
spill = out / "spill.bin"
collector = Collector([spill], out / "rows", entries, Words())
collector.starts[0] = Start(0, 0.0)
with spill.open("wb", buffering=0) as file:
    for key in range(count):
        at = [key * 1000 + n * 10 for n in range(len(pieces))]
        file.write(pack(Record(key, 0, 0, 0, 1, at[-1], Outcome.COMPLETE, False, at, pieces)))
collector.start()
collector.finish()
print(json.dumps([collector.count, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss]))
"""


def collected(place: Path, count: int) -> tuple[int, int]:
    place.mkdir()
    done = subprocess.run(
        [sys.executable, "-c", MANY, str(place), str(count)], capture_output=True, text=True, check=True
    )
    made, kilobytes = json.loads(done.stdout)
    return made, kilobytes


def test_memory_stays_flat(tmp_path: Path) -> None:
    few, small = collected(tmp_path / "few", 600)
    many, large = collected(tmp_path / "many", 4000)
    assert (few, many) == (600, 4000)
    assert len(rows.read(tmp_path / "many" / "rows")) == 4000
    assert large - small < 40_000, f"{small} kB for 600 requests, {large} kB for 4000"
