"""A node asks another one whether it is reached where it says that it is."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest
import pytest_twisted

from pico_twisted.core.links.sync_frames import Reached, decode_reached
from pico_twisted.core.text import host_port
from pico_twisted.net.gossip import answers
from pico_twisted.net.links import link
from tests.integration.cluster import SECRET, LinkedNodes
from tests.integration.harness import eventually, outcome
from tools.stage.ports import unused_address

NO_GOSSIP = "no answer"  # these nodes have no UDP port


@pytest_twisted.async_yield_fixture(params=["open", "secret"])
async def nodes(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[LinkedNodes]:
    """Two nodes, without and with a secret, which soon give up to wait for gossip."""
    monkeypatch.setattr(answers, "ANSWERS_S", 0.1)
    two = LinkedNodes(secrets=[SECRET] if request.param == "secret" else [])
    yield two
    await two.close()


async def said(nodes: LinkedNodes, address: str) -> Reached | None:
    """What n1 says of n2 at an address."""
    answer = await nodes.links["n2"].ask_to_dial("n1", address)
    return None if answer is None else decode_reached(answer)


@pytest_twisted.ensureDeferred
async def test_dialled_back(nodes: LinkedNodes) -> None:
    """Where it is, a link to it can be opened, and is closed again; elsewhere it is told why not."""
    own = host_port(*nodes.addresses["n2"])
    assert await said(nodes, own) == Reached(NO_GOSSIP, "")
    await eventually(lambda: not nodes.links["n2"].port.connections)
    assert await said(nodes, unused_address()) == Reached(NO_GOSSIP, "nothing listens there")
    assert await said(nodes, "nonsense") == Reached(NO_GOSSIP, "not host:port: 'nonsense'")
    other = await said(nodes, host_port(*nodes.addresses["n1"]))
    assert other is not None and "this node has another ID" in other.tcp
    assert nodes.links["n2"].standing("n1") == "open"


@pytest_twisted.ensureDeferred
async def test_nodes_that_do_not_do_it(nodes: LinkedNodes, monkeypatch: pytest.MonkeyPatch) -> None:
    """A node that does not list it is not asked, and one that cannot be reached is none that could tell."""
    monkeypatch.setattr(link.Link, "capabilities", frozenset())
    assert await said(nodes, unused_address()) is None
    nodes.addresses["n3"] = ("127.0.0.1", int(unused_address().rpartition(":")[2]))
    assert await outcome(nodes.links["n2"].ask_to_dial("n3", "x")) is None  # type: ignore[arg-type]
    assert nodes.links["n2"].standing("n3") == "nothing listens there"
