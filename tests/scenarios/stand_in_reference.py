"""A stand-in for the torch engine's interpreter: a real program that grades answers by a rule of its own."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType

PROGRAM = """#!{python}
import argparse, json, re, sys
if sys.argv[1] == "-c":
    print("2.13.0")
    raise SystemExit
from tokenizers import Tokenizer
line = argparse.ArgumentParser()
for flag in ("model", "input", "output", "device"):
    line.add_argument("--" + flag)
options, _ = line.parse_known_args()
open({asked!r}, "a").write("asked\\n")
words = Tokenizer.from_file(options.model + "/tokenizer.json")
def strange(token):
    return re.search({strange!r}, words.decode([token])) is not None
with open(options.output, "w") as out:
    out.write(json.dumps({{"torch": "stand-in", "device": "cpu", "dtype": "float32"}}) + "\\n")
    for item in map(json.loads, open(options.input)):
        if "generate" in item:
            last = words.decode(item["prompt"]).split("Today I ")[-1].split(".")[0]
            said = {past!r}.get(last, {other!r})
            out.write(json.dumps({{"answer": words.encode(said).ids[: item["generate"]]}}) + "\\n")
            continue
        looked_at = [token for start, end in item["spans"] for token in item["answer"][start:end]]
        gaps = [6.0 if strange(token) else 0.0 for token in looked_at]
        figures = {{"logprob": [-1 - gap for gap in gaps], "gap": gaps, "rank": [int(gap) for gap in gaps]}}
        out.write(json.dumps(figures) + "\\n")
"""


def make(
    folder: Path,
    strange: str = "[0-9]",
    past: Mapping[str, str] = MappingProxyType({}),
    other: str = "none",
) -> dict[str, str]:
    """Variables that make it the torch engine: tokens in which the pattern is found are none of the model's.

    `past` are the past tenses that it knows, `other` is what it answers to any other question. Every time it
    is asked, a line is added to `folder/asked`.
    """
    folder.mkdir(parents=True, exist_ok=True)
    program = folder / "python"
    asked = str(folder / "asked")
    told = {"asked": asked, "strange": strange, "past": dict(past), "other": other}
    program.write_text(PROGRAM.format(python=sys.executable, **told))
    program.chmod(0o755)
    return {"CEILING_HOME": str(folder / "home"), "CEILING_TORCH_PYTHON": str(program)}
