"""How long a server kept everybody waiting: kernels being compiled, caches filled, its process paused."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float64]


def silence(sent: Floats, heard: Floats, ended: Floats) -> float:
    """The longest time in which somebody waited and no answer moved, in the unit of its arguments.

    `sent` and `ended` are when requests were sent and when they were over, `heard` when anything of any
    answer came; each in any order. 0 where nothing was sent.
    """
    moved = np.unique(np.concatenate([heard, ended]))
    if not len(moved) or not len(sent):
        return 0.0
    sent, ended = np.sort(sent), np.sort(ended)
    since = np.concatenate([[-np.inf], moved[:-1]])
    begun = np.searchsorted(sent, since, side="right")
    waited = begun > np.searchsorted(ended, since, side="right")
    start = np.where(waited, since, np.append(sent, np.inf)[begun])
    return max(0.0, float((moved - start).max()))
