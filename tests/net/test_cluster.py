"""ClusterService: registrations, pending calls, limits and draining, as all ports of a node see them."""

from __future__ import annotations

import pytest
from twisted.internet.defer import Deferred
from twisted.internet.task import Clock
from zope.interface.verify import verifyObject

from pico_twisted.net.calls import CallFailed
from pico_twisted.net.interfaces import IRegistry, IRouter, ITunnel
from pico_twisted.testing.node import NodeParts, pass_time
from pico_twisted.testing.tunnel import FakeTunnel
from tests.net.doubles import register
from tests.net.test_calls import Sink


@pytest.fixture
def parts() -> NodeParts:
    """A node with small limits."""
    return NodeParts(Clock(), max_calls=3, max_calls_per_session=2, buffered_bytes=1000)


def test_interfaces(parts: NodeParts) -> None:
    """The service offers what the data path and the upstream port ask for; the fake tunnel is a tunnel."""
    assert verifyObject(IRouter, parts.cluster)
    assert verifyObject(IRegistry, parts.cluster)
    assert verifyObject(ITunnel, FakeTunnel())


def test_registration(parts: NodeParts) -> None:
    """A session can be chosen from its registration until it is gone, by any case of its endpoint's ID."""
    cluster = parts.cluster
    assert cluster.choose("my-ep", []) is None and not cluster.holds("my-ep")
    tunnel = register(parts, FakeTunnel())
    assert cluster.choose("my-ep", []) is tunnel and cluster.holds("my-ep")
    assert cluster.choose("other", []) is None
    tunnel.lose()
    assert cluster.choose("my-ep", []) is None
    cluster.deregister(tunnel)


def test_replacement(parts: NodeParts) -> None:
    """A registration of the same agent, endpoint and slot closes the one before, whose calls may go elsewhere."""
    old = register(parts, FakeTunnel())
    register(parts, FakeTunnel(slot="1"))
    new = register(parts, FakeTunnel())
    assert old.over and not new.over
    assert parts.cluster.registry.counts() == {"my-ep": 2}


def test_a_call_on_a_session_that_ends(parts: NodeParts) -> None:
    """When calls of a session fail, that session cannot be chosen any more."""
    tunnel = register(parts, FakeTunnel())
    chosen: list[object] = []

    def failed(failure: object) -> None:
        chosen.append(parts.cluster.choose("my-ep", []))

    pending = parts.cluster.call(tunnel, b"head", False, method=b"GET", upgrade_asked=False, sink=Sink())
    assert pending.response is not None
    pending.response.addErrback(failed)
    tunnel.lose()
    assert chosen == [None]


def test_limits(parts: NodeParts) -> None:
    """A session is full at its limit of calls, the node busy at its own, and both are free again when calls end."""
    cluster = parts.cluster
    a, b = register(parts, FakeTunnel()), register(parts, FakeTunnel(slot="1"))
    pending = []
    errors: list[CallFailed] = []
    for tunnel in (a, a, b):
        assert not cluster.full(tunnel) and not cluster.busy()
        call = cluster.call(tunnel, b"head", False, method=b"GET", upgrade_asked=False, sink=Sink())
        assert call.response is not None
        call.response.addErrback(lambda failure: errors.append(failure.value))  # type: ignore[call-overload]
        pending.append(call)
    assert cluster.full(a) and not cluster.full(b) and cluster.busy()
    pending[0].cancel("cancelled")
    assert not cluster.full(a) and not cluster.busy()
    b.lose()
    assert len(errors) == 1 and len(cluster.pending) == 1


def test_memory(parts: NodeParts) -> None:
    """What the ports hold is summed up in each turn; at the limit the node is busy, until it holds less."""
    held = [900, 0]
    parts.cluster.holds_bytes(lambda: held[0])
    parts.cluster.holds_bytes(lambda: held[1])
    pass_time(parts.clock, 0.2)
    assert parts.budget.held == 900 and not parts.cluster.busy()
    held[1] = 100
    pass_time(parts.clock, 0.2)
    assert parts.budget.held == 1000 and parts.cluster.busy()
    held[0] = 0
    pass_time(parts.clock, 0.2)
    assert parts.budget.held == 100 and not parts.cluster.busy()


def test_draining(parts: NodeParts) -> None:
    """Draining tells every agent, waits for their answers, and closing the sessions waits until they are gone."""
    waiting: list[Deferred[None]] = []

    class Slow(FakeTunnel):
        def drain(self) -> Deferred[None]:
            super().drain()
            waiting.append(Deferred())
            return waiting[-1]

    tunnels = [register(parts, FakeTunnel()), register(parts, Slow(slot="1"))]
    told: list[str] = []
    parts.cluster.start_draining().addCallback(lambda _: told.append("drained"))
    assert parts.cluster.draining and all(tunnel.draining for tunnel in tunnels)
    assert told == []
    waiting[0].callback(None)
    assert told == ["drained"]
    parts.cluster.close_sessions().addCallback(lambda _: told.append("closed"))
    assert told == ["drained", "closed"]
    assert all(tunnel.over for tunnel in tunnels)
    assert not parts.cluster.registry.counts()


def test_draining_nobody(parts: NodeParts) -> None:
    """A node without agents has drained at once."""
    told: list[str] = []
    parts.cluster.start_draining().addCallback(lambda _: told.append("drained"))
    parts.cluster.close_sessions().addCallback(lambda _: told.append("closed"))
    assert told == ["drained", "closed"]


def test_gauges(parts: NodeParts) -> None:
    """Endpoints, sessions, calls and held bytes are told to Prometheus."""
    register(parts, FakeTunnel())
    register(parts, FakeTunnel(slot="1"))
    register(parts, FakeTunnel("other"))
    parts.budget.measure(123)
    text = parts.metrics.exposition().decode()
    assert "pico_endpoints 2.0" in text
    assert "pico_upstream_sessions 3.0" in text
    assert "pico_calls_pending 0.0" in text
    assert "pico_buffered_bytes 123.0" in text
