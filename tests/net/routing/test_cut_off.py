"""Sessions of which the kernel sees that nothing gets to the peer's machine: what waits there, and what is told."""

from __future__ import annotations

import pytest
from twisted.internet.task import Clock

from pico_twisted.core.http1.head import RequestHead
from pico_twisted.core.rpc.frames import CANCELLED
from pico_twisted.net.routing.routed_request import RoutedRequest
from pico_twisted.net.routing.settings import RoutingSettings
from tests.doubles.node import MemoryNode, pass_time
from tests.doubles.tunnel import FakeTunnel
from tests.net.doubles import Case, FakeDownstream, register, request_head
from tests.net.routing.routed_case import LIVES, case
from tests.net.routing.test_cluster_service import FakeLinks, route_by, tell


@pytest.fixture
def two() -> Case:
    """Two agents: nothing gets to the first one, which gets the first call; the second gives signs of life."""
    here = case(FakeTunnel(agent_id="a"), FakeTunnel(agent_id="b"), timeout=60.0)
    here.tunnels[0].cut_off = True
    here.tunnels[1].heard_at = LIVES
    return here


def another(two: Case, head: RequestHead) -> FakeDownstream:
    """One more request, while the only agent that is not passed over is the first one."""
    two.tunnels[1].draining = True
    down = FakeDownstream(head)
    RoutedRequest(two.routed._settings, down).start(b"", True)
    two.tunnels[1].draining = False
    return down


def one_more_later(two: Case) -> FakeDownstream:
    """A POST that has waited for three seconds, and then another one, where nobody else is left."""
    a, b = two.tunnels
    two.start(request_head(b"POST"))
    pass_time(two.parts.clock, 3.0)
    b.lose()
    down = another(two, request_head(b"POST"))
    assert len(a.calls) == 2
    return down


def test_what_cannot_be_made_again_is_told(two: Case) -> None:
    """A POST is answered before its client has waited for four seconds: no answer would come any other way."""
    a, b = two.tunnels
    two.start(request_head(b"POST"))
    pass_time(two.parts.clock, 3.3)
    assert two.down.status is None
    pass_time(two.parts.clock, 0.3)
    assert two.down.failure is not None and two.down.failure[::2] == (502, "upstream-unreachable")
    assert a.opened[0].reset_code == CANCELLED and not b.opened and two.routed.reached


def test_what_has_not_left_is_made_elsewhere(two: Case) -> None:
    """A POST that still waits in the session has reached nobody."""
    a, b = two.tunnels
    a.takes = False
    two.start(request_head(b"POST"))
    pass_time(two.parts.clock, 3.6)
    assert len(b.opened) == 1 and not a.calls and two.down.status is None


def test_what_can_wait_does(two: Case) -> None:
    """A response that has begun, an upload that goes on, and the session stay: the wire may be mended."""
    a, b = two.tunnels
    two.start(request_head(b"POST"))
    two.respond(b"HTTP/1.1 200 OK\r\n\r\n", True)
    b.draining = True
    uploading = FakeDownstream(request_head(b"POST", length=3))
    RoutedRequest(two.routed._settings, uploading).start(b"ab", False)
    b.draining = False
    down = another(two, request_head(b"POST"))
    pass_time(two.parts.clock, 6.0)
    assert down.status == 502
    assert len(a.calls) == 2 and not a.over and uploading.status is None and "cut" not in two.down.told


def test_each_waits_for_itself(two: Case) -> None:
    """A request that comes later than the question has the same time."""
    down = one_more_later(two)
    pass_time(two.parts.clock, 3.3)
    assert two.down.status == 502 and down.status is None
    pass_time(two.parts.clock, 0.3)
    assert down.status == 502


def test_a_wire_that_is_mended(two: Case) -> None:
    """An agent whose kernel acknowledges again may only stand still: what has waited for less goes on to wait."""
    a, down = two.tunnels[0], one_more_later(two)
    pass_time(two.parts.clock, 1.0)
    a.cut_off = False
    pass_time(two.parts.clock, 6.0)
    assert two.down.status == 502 and down.status is None and len(a.calls) == 1


def test_nobody_else() -> None:
    """A request that can be made again waits for somebody to come: the agent itself, over a new connection."""
    here = case(FakeTunnel(agent_id="a"), timeout=60.0)
    here.tunnels[0].cut_off = True
    here.start(request_head())
    pass_time(here.parts.clock, 6.0)
    assert here.down.status is None and len(here.tunnels[0].calls) == 1
    late = register(here.parts, FakeTunnel(agent_id="a", slot="1"))
    pass_time(here.parts.clock, 0.2)
    assert len(late.calls) == 1 and not here.tunnels[0].calls


def test_moved_as_often_as_sessions_end(two: Case) -> None:
    """A request whose second agent is cut off later is made a third time."""
    b, c = two.tunnels[1], register(two.parts, FakeTunnel(agent_id="c"))
    two.start(request_head())
    pass_time(two.parts.clock, 3.6)
    assert len(b.opened) == 1
    b.heard_at, b.cut_off, c.heard_at = 0.0, True, LIVES
    pass_time(two.parts.clock, 4.0)
    assert len(c.opened) == 1 and not b.calls


def test_all_are_moved(two: Case) -> None:
    """What gets nowhere is not made twice, so there is no bound."""
    a, b = two.tunnels
    two.start(request_head())
    for _ in range(299):
        another(two, request_head())
    assert len(a.opened) == 300
    pass_time(two.parts.clock, 4.0)
    assert len(b.opened) == 300 and not a.calls


def test_a_link() -> None:
    """A POST that went to another node is answered, too, before its client has waited for four seconds."""
    parts, links = MemoryNode(Clock()), FakeLinks()
    route_by(parts, links, lambda *told: None)
    tell(parts, "n2", "active", my_ep=1)
    down = FakeDownstream(request_head(b"POST"))
    settings = RoutingSettings(
        router=parts.cluster, sweep=parts.sweep, metrics=parts.metrics, timeout_s=60.0, idle_timeout_s=60.0
    )
    RoutedRequest(settings, down).start(b"", True)
    link = links.links["n2"]
    link.cut_off = True
    pass_time(parts.clock, 3.6)
    assert down.failure is not None and down.failure[::2] == (502, "upstream-unreachable")
    assert not link.calls and not link.over
