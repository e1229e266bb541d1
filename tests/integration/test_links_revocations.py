"""What is revoked at one node is told to the others over their links."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest
import pytest_twisted
from twisted.internet.defer import Deferred

from pico_twisted.app.membership import REVOCATIONS
from pico_twisted.core.access.revocations import Meant
from pico_twisted.core.gossip.events import StatusChanged
from pico_twisted.net.access.shared import UNREACHED, Told
from pico_twisted.net.links import link
from pico_twisted.net.links.sync import FetchFailed
from tests.doubles.said import says
from tests.integration.cluster import SECRET, LinkedNodes
from tests.integration.harness import eventually, outcome
from tools.stage.ports import unused_address

NAMES = ("n1", "n2", "n3")


@pytest_twisted.async_yield_fixture(params=["open", "secret"])
async def nodes(request: pytest.FixtureRequest) -> AsyncIterator[LinkedNodes]:
    """Three nodes that know of each other, without and with a secret."""
    three = LinkedNodes(NAMES, secrets=[SECRET] if request.param == "secret" else [])
    for name, node in three.nodes.items():
        for other in (*NAMES, "n4"):
            if other != name:
                node.parts.cluster.table.status_changed(StatusChanged(other, "active"))
        say(three, name, node.parts.node.access.revoked.digest)  # lists that differ would be exchanged a second later
    yield three
    await three.close()


def say(nodes: LinkedNodes, name: str, digest: str) -> None:
    """Let all others hear a digest of a node, as if from gossip."""
    for other, node in nodes.nodes.items():
        if other != name:
            says(node.parts.cluster.table, name, {REVOCATIONS: digest})


def refused(nodes: LinkedNodes) -> list[str]:
    """The nodes at which the agent is refused."""
    return [name for name, node in nodes.nodes.items() if node.parts.node.access.revoked.is_revoked(None, "agent-1")]


def revoke(nodes: LinkedNodes) -> Deferred[Told]:
    """Revoke an agent at n1."""
    return nodes.nodes["n1"].parts.node.membership.revocations.revoke(Meant.AGENT, "agent-1", "op")[1]


@pytest_twisted.ensureDeferred
async def test_told_over_links(nodes: LinkedNodes) -> None:
    """All nodes that are reached know; one that is not is named."""
    nodes.addresses["n4"] = ("127.0.0.1", int(unused_address().rpartition(":")[2]))
    say(nodes, "n4", "something")
    assert (await revoke(nodes)).nodes == {"n2": "", "n3": "", "n4": UNREACHED}
    assert refused(nodes) == ["n1", "n2", "n3"]


@pytest_twisted.ensureDeferred
async def test_a_node_that_heard_nothing(nodes: LinkedNodes) -> None:
    """It sees that another list differs from its own, and has the same a moment later."""
    address = nodes.addresses.pop("n3")
    assert (await revoke(nodes)).nodes["n3"] == UNREACHED
    assert refused(nodes) == ["n1", "n2"]
    nodes.addresses["n3"] = address
    say(nodes, "n1", nodes.nodes["n1"].parts.node.access.revoked.digest)
    await eventually(lambda: refused(nodes) == ["n1", "n2", "n3"])


@pytest_twisted.ensureDeferred
async def test_nodes_that_do_not_take_them(nodes: LinkedNodes, monkeypatch: pytest.MonkeyPatch) -> None:
    """A node that does not list it is told nothing; one that is told nonsense says so, and goes on."""
    links = nodes.links["n1"]
    assert isinstance(await outcome(Deferred.fromCoroutine(links.tell_revoked("n2", b"nonsense"))), FetchFailed)
    assert await links.tell_revoked("n2", b"") == b""
    monkeypatch.setattr(link.Link, "capabilities", frozenset())
    assert await links.tell_revoked("n2", b"") is None
