"""A space with every kind of parameter, and a score over it that is known exactly."""

from __future__ import annotations

import math

from engines.contract import Config
from engines.space import Parameter, Space

SEQS = (16, 32, 64, 128, 256, 512)

SPACE = Space(
    "made-up",
    (
        Parameter("seqs", SEQS, 128, ordered=True),
        Parameter("tokens", (1024, 2048, 4096, 8192), 2048, ordered=True),
        Parameter("eager", (False, True), False),
        Parameter("kv", ("auto", "fp8", "int8"), "auto"),
        Parameter("only", (7,), 7),
        Parameter("spec", ("none", "ngram", "draft"), "none"),
        Parameter("spec-n", (2, 3, 5, 7), 3, ordered=True, when={"spec": ("ngram", "draft")}),
        Parameter("lookup", (2, 4), 2, when={"spec": ("ngram",), "eager": (False,)}),
        Parameter("share", (0.8, 0.85, 0.9, 0.95), 0.9, ordered=True),
    ),
)

SMALL = Space(
    "small",
    (
        Parameter("a", (1, 2, 3), 1, ordered=True),
        Parameter("b", (True, False), True),
        Parameter("c", ("x", "y"), "x", when={"b": (False,)}),
    ),
)
"""Nine configs: a x (b true, b false with c x or y)."""


def score(config: Config) -> float:
    """Higher is better; the best config scores some 1.9 times the default."""
    values = SPACE.filled(config)
    made = 10.0 * math.exp(-0.1 * abs(SEQS.index(int(values["seqs"])) - 4))
    made *= {"auto": 1.0, "fp8": 1.3, "int8": 1.1}[str(values["kv"])]
    made *= 0.6 if values["eager"] else 1.0
    made *= {"none": 1.0, "ngram": 1.2, "draft": 0.9}[str(values["spec"])]
    made *= 1.05 if values.get("spec-n") == 5 else 1.0
    return made * (1.02 if values["share"] == 0.95 else 1.0)


def crashes(config: Config) -> bool:
    """Some 40 % of the space: a region that a model of feasibility can learn."""
    tight = config.get("share") in (None, 0.95)
    return (config.get("kv") == "fp8" and tight) or config.get("spec") == "draft"
