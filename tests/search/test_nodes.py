"""A search over a cluster of two nodes, one of which dies. Runs when CEILING_KILLS is above 1."""

from __future__ import annotations

import os
import threading
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest

from scenarios import ledger as ledgers
from search.search import SearchError, search
from tests.search.conftest import Specs
from tests.search.test_kills import KILLS, check_whole, gone

pytestmark = pytest.mark.skipif(KILLS < 2, reason="slow: set CEILING_KILLS=2")


@pytest.fixture
def cluster() -> Iterator[Any]:
    os.environ.setdefault("RAY_kill_child_processes_on_worker_exit", "0")
    from ray.cluster_utils import Cluster

    store = 80 << 20
    head = {
        "num_cpus": 1,
        "resources": {"device": 1},
        "include_dashboard": False,
        "object_store_memory": store,
    }
    made = Cluster(initialize_head=True, head_node_args=head)
    yield made
    made.shutdown()


def test_a_node_that_dies_loses_its_trial_and_the_search_goes_on(
    cluster: Any, run: Path, specs: Specs
) -> None:
    second = cluster.add_node(num_cpus=1, resources={"device": 1}, object_store_memory=80 << 20)
    cluster.wait_for_nodes()
    holding: set[int] = set()
    killers: list[threading.Thread] = []

    def kill(event: Mapping[str, Any]) -> None:
        if event["event"] == "phase" and event["phase"] in ("warming", "measuring"):
            holding.add(event["trial"])
        elif event["event"] in ("trial", "lost"):
            holding.discard(event["trial"])
        if len(holding) == 2 and not killers:
            killers.append(threading.Thread(target=cluster.remove_node, args=(second, False)))
            killers[0].start()

    outcome = search(specs(trials=4, devices=2, strategy="full"), run, observer=kill, address=cluster.address)
    killers[0].join()
    events, _ = ledgers.read(run)
    assert outcome.reason == "trials"
    check_whole(events)
    lost = [event for event in events if event["event"] == "lost"]
    assert lost
    assert lost[0]["gpu_seconds"] > 0
    assert gone(set(), events[0]["id"])


def test_more_devices_than_the_cluster_has(cluster: Any, run: Path, specs: Specs) -> None:
    with pytest.raises(SearchError, match="--devices 5, but the cluster has 1"):
        search(specs(trials=1, devices=5), run, address=cluster.address)


def test_no_cluster_there(run: Path, specs: Specs) -> None:
    with pytest.raises(SearchError, match="no Ray cluster at 127"):
        search(specs(trials=1), run, address="127.0.0.1:1")
