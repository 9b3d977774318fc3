"""A text source without downloads: words in random order, as JSON Lines."""

from __future__ import annotations

import json
import random
from pathlib import Path

from tests.tiny_model import SENTENCES

FOREIGN = ("café", "naïve", "東京", "Ελλάδα", "😀", "—", "«oui»", "1,250.75")


def write_jsonl(path: Path, documents: int = 12, words: int = 4000, seed: int = 0) -> str:
    """Documents of English words, some of several bytes a letter; gives the source's name for `--text`."""
    draw = random.Random(seed)
    vocabulary = [word for sentence in SENTENCES for word in sentence.split()] + list(FOREIGN)
    lines = (json.dumps({"text": " ".join(draw.choices(vocabulary, k=words))}) for _ in range(documents))
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")
    return f"jsonl:{path}"
