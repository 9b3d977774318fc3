"""The rows of a measurement: one per request, as Parquet part files that are whole as soon as they exist."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pyarrow as pa
import pyarrow.parquet as pq

if TYPE_CHECKING:
    import pandas as pd

PART = 512
"""Rows a part file holds at most."""
PART_BYTES = 64 << 20
"""Bytes of text and times after which a part is closed early."""

SCORED, WARMUP, REHEARSAL, FRESH, REPEAT = "scored", "warmup", "rehearsal", "fresh", "repeat"
"""Roles of a request. `fresh` and `repeat` are the probe after the run: an unseen prompt with a short answer,
and a scored request once more, alone on the server both."""

SCHEMA = pa.schema(
    [
        ("key", pa.int32()),
        ("index", pa.int32()),
        ("role", pa.string()),
        ("traffic", pa.string()),
        ("t0", pa.float64()),
        ("intended", pa.float64()),
        ("due", pa.float64()),
        ("sent", pa.float64()),
        ("headers", pa.float64()),
        ("first_blank", pa.float64()),
        ("first_content", pa.float64()),
        ("end", pa.float64()),
        ("connected_late", pa.bool_()),
        ("status", pa.int16()),
        ("date_offset", pa.float64()),
        ("ok", pa.bool_()),
        ("error", pa.string()),
        ("error_detail", pa.string()),
        ("cut", pa.bool_()),
        ("finish_reason", pa.string()),
        ("asked_input", pa.int32()),
        ("asked_output", pa.int32()),
        ("usage_prompt", pa.int32()),
        ("usage_completion", pa.int32()),
        ("cached_tokens", pa.int32()),
        ("recount", pa.int32()),
        ("chunks", pa.int32()),
        ("chunk_times", pa.list_(pa.float64())),
        ("chunk_tokens", pa.list_(pa.int32())),
        ("text", pa.string()),
        ("text_sha256", pa.string()),
        ("prompt_sha256", pa.string()),
        ("repeats", pa.int32()),
    ]
)
"""Times are seconds after the start of the request's traffic; `t0` is that start in Unix time.

`due` is when it could be sent (later than `intended` where the cap on requests in flight held it).
`date_offset` is by how many seconds the response's Date header is ahead of this machine's clock.
`first_content` is the first chunk that a reader would see; `chunk_times` and `chunk_tokens` start there, and
the tokens of blank chunks before it are counted with it. `first_blank` is the first chunk of whitespace or
invisible characters before it, if any. `chunks` counts all chunks with text. `recount` is the tokenizer's
count of `text`. `repeats` is the index of the scored request that a probe repeats.
"""


class Writer:
    """Writes rows as part files; a part appears under its name only when it is whole."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        directory.mkdir(parents=True, exist_ok=True)
        self._rows: list[Mapping[str, Any]] = []
        self._bytes = 0
        self._part = len(list(directory.glob("part-*.parquet")))

    def add(self, row: Mapping[str, Any]) -> None:
        """Keep a row; the part is written when it is full."""
        self._rows.append(row)
        self._bytes += len(row["text"]) + 12 * len(row["chunk_times"])
        if len(self._rows) >= PART or self._bytes >= PART_BYTES:
            self.flush()

    def flush(self) -> None:
        """Write what is kept, if anything."""
        if not self._rows:
            return
        table = pa.Table.from_pylist(self._rows, schema=SCHEMA)
        path = self._directory / f"part-{self._part:05d}.parquet"
        partial = path.with_suffix(".partial")
        pq.write_table(table, partial, compression="zstd")
        partial.rename(path)
        self._part += 1
        self._rows, self._bytes = [], 0


def scan(directory: Path) -> Iterator[pa.Table]:
    """The part files in order, one at a time. Raises FileNotFoundError when there is none."""
    parts = sorted(directory.glob("part-*.parquet"))
    if not parts:
        raise FileNotFoundError(f"{directory} holds no rows: name a directory with part-*.parquet in it")
    for part in parts:
        yield pq.read_table(part, schema=SCHEMA)


def read(directory: Path) -> pd.DataFrame:
    """All rows in the order of their keys. Raises FileNotFoundError when there is none."""
    frame: pd.DataFrame = pa.concat_tables(scan(directory)).to_pandas()
    return frame.sort_values("key", ignore_index=True)
