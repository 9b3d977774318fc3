"""Which requests a server is scored on next."""

from __future__ import annotations

from agents.unseen import Unseen


def test_a_server_is_never_dealt_a_block_twice() -> None:
    unseen, server = Unseen(21, 1337, lambda: 3), {(100, 5)}
    dealt = [unseen.deal(server) for _ in range(7)]
    assert dealt == [(21, 0), (21, 1), (21, 2), (22, 0), (22, 1), (22, 2), (23, 0)]


def test_every_server_begins_alike_and_a_worker_more_makes_no_other_server() -> None:
    unseen = Unseen(21, 1337, lambda: 3)
    assert unseen.deal({(100, 5)}) == unseen.deal({(200, 6)}) == (21, 0)
    assert unseen.deal({(100, 5), (101, 9)}) == (21, 1)
    assert unseen.deal({(101, 9)}) == (21, 2)
    assert unseen.deal({(100, 77)}) == (21, 0), "an id is used again"


def test_servers_that_cannot_be_told_apart_are_dealt_from_one_stack() -> None:
    unseen = Unseen(21, 1337, lambda: 3)
    assert [unseen.deal(set()) for _ in range(2)] == [(21, 0), (21, 1)]


def test_the_held_out_seed_is_left_out() -> None:
    unseen = Unseen(21, 22, lambda: 1)
    assert [unseen.deal({(1, 1)})[0] for _ in range(4)] == [21, 23, 24, 25]
    assert Unseen(21, 7, lambda: 1).deal({(1, 1)}) == (21, 0)


def test_blocks_are_counted_only_for_who_scores_again() -> None:
    asked: list[int] = []
    unseen = Unseen(21, 1337, lambda: asked.append(1) or 3)
    unseen.deal({(1, 1)}), unseen.deal({(2, 2)})
    assert not asked
