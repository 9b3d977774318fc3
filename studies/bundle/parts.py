"""Files as parts of at most a size: one stream of their contents, cut where a part is full."""

from __future__ import annotations

import hashlib
import re
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, BinaryIO

from studies.errors import BadInput

CHUNK = 1 << 20
_UNITS = {"": 1, "K": 10**3, "M": 10**6, "G": 10**9}


def size(text: str) -> int:
    """Bytes of `60M`, `500K`, `1G` (decimal). Raises BadInput."""
    found = re.fullmatch(r"(\d+(?:\.\d+)?)([KMG]?)B?", text.strip().upper())
    count = int(float(found[1]) * _UNITS[found[2]]) if found else 0
    if count < 1000:
        raise BadInput(f"--part-size {text}: write it as 60M, 500K or 1G (at least 1K)")
    return count


@dataclass
class PartWriter:
    """Writes files into `place/part-001` and so on.

    Attributes:
        parts: finished ones: name, bytes, sha256.
        blobs: contents in the order of the stream, each once: bytes, sha256.
        files: path (in the unpacked bundle) and the sha256 of its content.
    """

    place: Path
    limit: int
    parts: list[dict[str, Any]] = field(default_factory=list)
    blobs: list[dict[str, Any]] = field(default_factory=list)
    files: list[dict[str, str]] = field(default_factory=list)
    _open: BinaryIO | None = None
    _room: int = 0
    _digest: Any = None

    def add(self, path: Path, name: str) -> None:
        """A file under the name that it has once unpacked."""
        with path.open("rb") as file:
            whole = hashlib.file_digest(file, "sha256").hexdigest()
        self.files.append({"path": name, "sha256": whole})
        if any(blob["sha256"] == whole for blob in self.blobs):
            return
        self.blobs.append({"bytes": path.stat().st_size, "sha256": whole})
        with path.open("rb") as file:
            while chunk := file.read(CHUNK):
                self._write(chunk)

    def close(self) -> None:
        """Finish the last part."""
        if self._open is not None:
            self._open.close()
            self.parts[-1] |= {"bytes": self.limit - self._room, "sha256": self._digest.hexdigest()}
            self._open = None

    def _write(self, data: bytes) -> None:
        while data:
            if self._open is None or not self._room:
                self._next()
            assert self._open is not None
            piece, data = data[: self._room], data[self._room :]
            self._open.write(piece)
            self._digest.update(piece)
            self._room -= len(piece)

    def _next(self) -> None:
        self.close()
        name = f"part-{len(self.parts) + 1:03d}"
        self.parts.append({"name": name})
        self._open, self._room, self._digest = (self.place / name).open("wb"), self.limit, hashlib.sha256()
