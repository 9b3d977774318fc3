"""Blocks of KV cache: how many are free, which prompts' blocks are kept, and which go first."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Sequence

Chain = tuple[int, ...]
"""A hash for every full block of a prompt, each over all tokens up to its end."""


def chain(tokens: Sequence[int], size: int) -> Chain:
    """Hashes of the full blocks of a prompt that may be reused: its last token is always computed anew."""
    hashes: list[int] = []
    parent = 0
    for end in range(size, len(tokens), size):
        parent = hash((parent, tuple(tokens[end - size : end])))
        hashes.append(parent)
    return tuple(hashes)


class BlockPool:
    """Counts blocks. A block is free, private to one sequence, or kept under its hash and shared.

    Kept blocks that no running sequence uses give way to new ones, the longest unused first.

    Args:
        capacity: blocks in all.
        keep: whether prompts' blocks are kept (prefix caching).
    """

    def __init__(self, capacity: int, keep: bool = True) -> None:
        self.capacity = capacity
        self._keep = keep
        self._private = 0
        self._users: dict[int, int] = {}
        self._idle: OrderedDict[int, None] = OrderedDict()

    @property
    def available(self) -> int:
        """Blocks that can be had, idle kept ones included."""
        return self.capacity - self._private - len(self._users) + len(self._idle)

    @property
    def used(self) -> int:
        """Blocks that sequences hold."""
        return self.capacity - self.available

    def share(self, hashes: Chain) -> int:
        """Take the leading blocks that are kept; returns how many."""
        taken = 0
        for key in hashes:
            if key not in self._users:
                break
            self._users[key] += 1
            self._idle.pop(key, None)
            taken += 1
        return taken

    def allocate(self, count: int) -> bool:
        """Take `count` private blocks, or none where there are not enough."""
        if count > self.available:
            return False
        while self.capacity - self._private - len(self._users) < count:
            oldest, _ = self._idle.popitem(last=False)
            del self._users[oldest]
        self._private += count
        return True

    def publish(self, hashes: Chain) -> int:
        """Keep private blocks under their hashes; returns how many the caller now shares."""
        if not self._keep:
            return 0
        for key in hashes:
            self._private -= 1
            self._users[key] = self._users.get(key, 0) + 1
            self._idle.pop(key, None)
        return len(hashes)

    def release(self, shared: Chain, private: int) -> None:
        """Give blocks back; shared ones stay kept until their room is needed. Last blocks go first."""
        self._private -= private
        for key in reversed(shared):
            self._users[key] -= 1
            if not self._users[key]:
                self._idle[key] = None

    def reset(self) -> bool:
        """Forget what is kept. Refused while a sequence uses any of it, as engines do."""
        if len(self._idle) != len(self._users):
            return False
        self._users.clear()
        self._idle.clear()
        return True
