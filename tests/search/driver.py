"""A driver process for kill tests: `python -m tests.search.driver SPEC.json RUN` searches, or resumes."""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from scenarios.ledger import FILE, read
from scenarios.models import open_model
from search.search import search
from search.spec import SearchSpec


def main(spec: Path, run: Path) -> None:
    """Search, saying each event's kind and trial on a line of standard output."""
    already = len(read(run)[0]) if (run / FILE).exists() else 0
    given = json.loads(spec.read_text())
    model = open_model(given.pop("model"), max_length=1024)
    address = given.pop("address", None)
    made = SearchSpec(**{**given, "engines": tuple(given["engines"]), "model": model})
    outcome = search(made, run, resume=(run / FILE).exists(), observer=Sayer(already), address=address)
    print(f"over {outcome.reason}", flush=True)


class Sayer:
    """Says one line an event: `past` for those that were there before this process, `now` for its own."""

    def __init__(self, already: int) -> None:
        self._left = already

    def __call__(self, event: Mapping[str, Any]) -> None:
        word = "past" if self._left > 0 else "now"
        self._left -= 1
        print(word, event["event"], event.get("trial", ""), event.get("phase", ""), flush=True)


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]))
