"""A cluster of nodes of an earlier version and of this one: who joins, who keeps its ID, and what is shown."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.ctl.harness import picoctl
from tests.system.cluster import Cluster, running_cluster
from tools.stage.waiting import wait_until


@pytest.fixture
def cluster(tmp_path: Path) -> Iterator[Cluster]:
    """Nodes, none of which is started yet."""
    with running_cluster(tmp_path) as result:
        yield result


def joining(cluster: Cluster, **more: object) -> dict[str, object]:
    """The settings of a node that joins n2."""
    return {"cluster": {"join": [cluster.gossip_address("n2")], **more}}


def test_a_newcomer_among_nodes_of_the_earlier_version(cluster: Cluster, earlier: str) -> None:
    """A node of this version joins old ones, which cannot dial it back. One with the ID of an old node stays out, and
    that one serves on. What old nodes do not tell is named as missing; they hear nothing of what is revoked, which is
    said."""
    cluster.start("n1", "n2", prelude=earlier)
    third = cluster.launch("n3", joining(cluster))
    third.wait_ready()
    cluster.wait_all(("n1", "n2", "n3"))
    newcomer = cluster.launch("n1", joining(cluster, join_timeout="6s"), alias="newcomer")
    assert newcomer.wait_exit() == 1
    wanted = rf"node ID n1 is in use by the process at {cluster.gossip_address('n1')} \(up for \d+ s\)"
    assert re.search(wanted, newcomer.output)
    assert cluster["n1"].running
    cluster.wait_all(("n1", "n2", "n3"))
    shown = picoctl("agents", "--admin", f"http://127.0.0.1:{third.ports.admin}").stdout
    assert "node n1 is missing: it is of an earlier version" in shown
    revoked = picoctl("revoke", "ci", "--admin", f"http://127.0.0.1:{third.ports.admin}")
    assert revoked.stdout.startswith("ci is revoked at node n3\n")
    assert revoked.stderr.count("it is of an earlier version, and refuses nobody") == 2
    cluster.wait_all(("n1", "n2", "n3"))


def test_a_newcomer_of_the_earlier_version(cluster: Cluster, earlier: str) -> None:
    """A node of the earlier version takes the ID of a running one, as it always did: that one ends, and says who."""
    cluster.start("n1", "n2")
    cluster.launch("n1", joining(cluster), alias="newcomer", prelude=earlier)
    wait_until(lambda: not cluster["n1"].running, "the end of the node whose ID was taken")
    address = cluster.gossip_address("newcomer")
    assert f"another process at {address} has taken the node ID n1: set another cluster.node_id" in cluster["n1"].output
