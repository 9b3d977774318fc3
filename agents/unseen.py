"""Requests that a server has not seen: an agent may score what runs as often as it likes."""

from __future__ import annotations

from collections.abc import Callable
from functools import cached_property

from scenarios.bystanders import Listener


class Unseen:
    """Deals each server the dev seed's blocks of requests one by one, then those of further seeds.

    A server that answered a prompt before may answer it from a cache, and such a measurement is void. Every
    server's first score is on the same requests, so that configs stay comparable.

    `blocks` tells how many blocks of a seed share no prompt; `held_out` is a seed that is never dealt.
    """

    def __init__(self, seed: int, held_out: int, blocks: Callable[[], int]) -> None:
        self._seed, self._held_out, self._count = seed, held_out, blocks
        self._known: list[tuple[set[Listener], int]] = []

    @cached_property
    def _blocks(self) -> int:
        return self._count()

    def deal(self, server: set[Listener]) -> tuple[int, int]:
        """Seed and block of the next score of the server with these listening processes.

        Servers of which one process is the same are one server, and so are all whose processes are not known.
        """
        for at, (listeners, dealt) in enumerate(self._known):
            if listeners & server or not listeners | server:
                self._known[at] = (listeners | server, dealt + 1)
                return self._place(dealt)
        self._known.append((server, 1))
        return self._place(0)

    def _place(self, dealt: int) -> tuple[int, int]:
        if dealt == 0:
            return self._seed, 0
        seed = self._seed + dealt // self._blocks
        return seed + (self._seed < self._held_out <= seed), dealt % self._blocks
