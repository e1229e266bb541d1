"""How a node finds its cluster, or does not."""

from __future__ import annotations

import json

import pytest

from tests.system.cluster import SECRET, Cluster, detail
from tests.system.curl import curl
from tests.system.service import Service
from tools.stage.nodes import Node, Settings
from tools.stage.ports import unused_address
from tools.stage.waiting import wait_until


def joining(*addresses: str, **more: object) -> Settings:
    """The settings of a node that joins these."""
    return {"cluster": {"join": list(addresses), **more}}


def asked(cluster: Cluster, node: Node, endpoint: str = "web") -> int:
    """The status of a request to a node."""
    return curl(node.url("/"), "-H", f"x-pico-endpoint: {endpoint}", directory=cluster.stage.directory).status


def test_names_dead_seeds_and_its_own_address(cluster: Cluster, one: Service) -> None:
    """One node that is up is enough; a node whose only seed is itself is a cluster of one, and ready at once."""
    cluster.launch("n1", joining(cluster.gossip_address("n1"), join_timeout="10m")).wait_ready()
    seeds = [unused_address(), "no-such-name.invalid", cluster.gossip_address("n2")]
    seeds.append(f"localhost:{cluster.ports('n1').gossip}")
    cluster.launch("n2", joining(*seeds)).wait_ready()
    assert cluster["n2"].admin.statuses() == {"n1": "active", "n2": "active"}
    cluster.wait_all(("n1", "n2"))
    cluster.agent(["n1"], {"web": one.address})
    cluster.wait_endpoint("n1", "web")
    assert asked(cluster, cluster["n2"]) == 200


def test_a_seed_that_comes_up_later(cluster: Cluster) -> None:
    """Until then the node is not ready, and says that it joins; then it is."""
    late = cluster.launch("n2", joining(cluster.gossip_address("n1")))
    wait_until(lambda: late.admin.status("/ready") == 503, "the admin port")
    status, _, body = late.admin.get("/ready")
    assert (status, json.loads(body)["error"]) == (503, "joining")
    assert late.admin.status("/health") == 200
    cluster.launch("n1").wait_ready()
    late.wait_ready()
    cluster.wait_all(("n1", "n2"))


def test_a_join_that_fails(cluster: Cluster) -> None:
    """The node ends with status 1 and one line that says what is wrong at each address."""
    seed = unused_address()
    node = cluster.launch("n1", joining(seed, "no-such-name.invalid", join_timeout="1s"))
    assert node.wait_exit() == 1
    assert (
        f"could not join within 1s (cluster.join): {seed}: no answer over UDP; TCP: nothing listens there; "
        "no-such-name.invalid:8003: the name has no address" in node.output
    )


OTHERS: dict[str, tuple[dict[str, object], str, str]] = {
    "secret": ({"secrets": ["another-secret-of-16-bytes"]}, "gossip", "refused: another cluster.secret"),
    "cluster": ({"name": "other"}, "gossip", "refused: another cluster.name"),
    "admin": ({}, "admin", "that is the admin port of a node"),
    "proxy": ({}, "proxy", "that is the proxy port of a node"),
    "upstream": ({}, "upstream", "that is the upstream port of a node"),
}
"""What is wrong with a node that joins, the port of the other one that it joins, and what it is told."""


def test_what_a_node_says_while_it_joins(cluster: Cluster) -> None:
    """Nodes that cannot join say why after two seconds, each in its log, though gossip packets are dropped in silence:
    the wrong secret, the wrong cluster, the wrong port. The name of a seed is told beside its address."""
    cluster.launch("n1", {"cluster": {"secrets": [SECRET]}}).wait_ready()
    nodes = {}
    for name, (settings, port, _) in OTHERS.items():
        seed = f"localhost:{getattr(cluster.ports('n1'), port)}"
        nodes[name] = cluster.launch(name, joining(seed, **{"secrets": [SECRET], **settings}))
    for name, (_, port, words) in OTHERS.items():
        number = getattr(cluster.ports("n1"), port)
        wanted = f"joining: localhost:{number} (127.0.0.1:{number}): no answer over UDP; TCP: {words}"
        wait_until(lambda name=name, wanted=wanted: wanted in nodes[name].output, wanted)  # type: ignore[misc]
        assert nodes[name].admin.status("/ready") == 503


def test_an_address_that_others_do_not_reach(cluster: Cluster) -> None:
    """A node that others cannot reach where it says that it is does not become ready, is shown by nobody, and says
    which address is meant and what happens there; when it gives up, too."""
    cluster.start("n1", "n2")
    wrong = unused_address()
    settings = joining(cluster.gossip_address("n1"), gossip={"advertise_addr": wrong}, join_timeout="8s")
    node = cluster.launch("n3", settings)
    words = (
        f"others cannot reach {wrong} (cluster.gossip.advertise_addr): UDP no answer, TCP nothing listens there (says n"
    )
    node.wait_output(f"joining: {words}")
    assert node.admin.status("/ready") == 503
    assert node.wait_exit() == 1
    assert f"The daemon ends: {words}" in node.output
    assert all(cluster[id].admin.statuses() == {"n1": "active", "n2": "active"} for id in ("n1", "n2"))


def test_the_address_of_another_node(cluster: Cluster) -> None:
    """Nor does a node that advertises the address of another one: that one answers there."""
    cluster.start("n1", "n2")
    wrong = cluster.gossip_address("n2")
    settings = joining(cluster.gossip_address("n1"), gossip={"advertise_addr": wrong}, join_timeout="6s")
    node = cluster.launch("n3", settings)
    assert node.wait_exit() == 1
    assert f"others cannot reach {wrong} (cluster.gossip.advertise_addr): UDP no answer, TCP " in node.output
    assert "this node has another ID" in node.output


def test_a_join_that_fails_and_may(cluster: Cluster, one: Service) -> None:
    """With `abort_if_join_fails: false` the node serves alone, and joins when somebody answers after all."""
    seed = cluster.gossip_address("n1")
    node = cluster.launch("n2", joining(seed, join_timeout="1s", abort_if_join_fails=False))
    node.wait_ready()
    assert "Could not join: serving alone, and trying on" in node.output
    cluster.agent(["n2"], {"web": one.address})
    assert asked(cluster, node) == 200
    cluster.launch("n1").wait_ready()
    cluster.wait_all(("n1", "n2"))
    cluster.wait_endpoint("n2", "web")
    assert asked(cluster, cluster["n1"]) == 200


@pytest.mark.parametrize(
    ("bind", "host"),
    [("[::1]:0", "[::1]"), (":0", "127.0.0.1"), ("0.0.0.0:0", "127.0.0.1")],
)
def test_addresses_that_work(cluster: Cluster, one: Service, bind: str, host: str) -> None:
    """Port 0, IPv6 and every interface: the real number is advertised, and the others reach it, over UDP and TCP."""
    gossip = {"gossip": {"bind_addr": bind, "advertise_addr": ""}}
    first = cluster.launch("n1", joining(unused_address(), abort_if_join_fails=False, join_timeout="1ms", **gossip))
    first.wait_ready()
    address = detail(first, "local")["gossip_addr"]
    advertised, _, port = address.rpartition(":")
    assert advertised == host
    assert int(port) > 0
    cluster.launch("n2", joining(address, **gossip)).wait_ready()
    cluster.launch("n3", joining(detail(cluster["n2"], "local")["gossip_addr"], **gossip)).wait_ready()
    cluster.wait_all(("n1", "n2", "n3"))
    cluster.agent(["n1"], {"web": one.address})
    cluster.wait_endpoint("n1", "web")
    assert asked(cluster, cluster["n3"]) == 200
