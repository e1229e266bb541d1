"""Calls that wait: silent sessions are asked and passed over, and their calls are moved."""

from __future__ import annotations

import pytest
from twisted.internet.task import Clock

from pico_twisted.core.routing.latency import MANY_CALLS
from pico_twisted.core.rpc.frames import CANCELLED
from pico_twisted.net.routing.cluster_service import LocalRouter
from pico_twisted.net.routing.route_watch import FIRST_MOVES, MAX_NODES_SEEN, RouteWatch
from pico_twisted.net.routing.routed_request import RoutedRequest
from pico_twisted.net.routing.settings import RoutingSettings
from tests.doubles.node import MemoryNode, pass_time
from tests.doubles.tunnel import FakeTunnel
from tests.net.doubles import UPGRADE_FIELDS, Case, FakeDownstream, register, request_head
from tests.net.routing.routed_case import LIVES, case
from tests.net.routing.test_cluster_service import FakeLinks, call, route_by, taken, tell

OK = b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n"


@pytest.fixture
def two() -> Case:
    """Two agents; the first gets the first call, and the second gives signs of life."""
    here = case(FakeTunnel(agent_id="a"), FakeTunnel(agent_id="b"), timeout=60.0)
    here.tunnels[1].heard_at = LIVES
    return here


def quick(parts: MemoryNode, tunnel: FakeTunnel, times: int = 1) -> None:
    """Calls that are answered at once by one agent: the others are left out."""
    others = [route for route in parts.cluster.registry if route.tunnel is not tunnel]
    for _ in range(times):
        call(parts.cluster.take(tunnel.endpoint, others))
        tunnel.calls[-1].respond(OK, False)
        tunnel.heard_at = parts.sweep.now


def answered(parts: MemoryNode, tunnel: FakeTunnel, after_s: float) -> None:
    """A call that one agent answers after some time, in which it gives signs of life."""
    others = [route for route in parts.cluster.registry if route.tunnel is not tunnel]
    call(parts.cluster.take(tunnel.endpoint, others))
    made = tunnel.calls[-1]
    pass_time(parts.clock, after_s)
    made.respond(OK, False)


class TestSilence:
    """A session without a byte, on which a call waits."""

    def test_its_calls_are_made_elsewhere(self, two: Case) -> None:
        """It is asked after two seconds, and before four its request is with the other agent."""
        a, b = two.tunnels
        two.start(request_head())
        pass_time(two.parts.clock, 1.9)
        assert a.asked == 0
        pass_time(two.parts.clock, 0.2)
        assert a.asked == 1 and not b.opened
        pass_time(two.parts.clock, 1.5)
        assert a.opened[0].reset_code == CANCELLED and len(b.opened) == 1
        two.respond(OK, False)
        assert two.down.status == 200 and two.down.told[-1] == "done"
        assert 'pico_retries_total{reason="silent"} 1.0' in two.parts.metrics.exposition().decode()

    def test_one_that_lives_keeps_its_calls(self, two: Case) -> None:
        """A sign of life is enough: a service may take its time."""
        a, b = two.tunnels
        two.start(request_head())
        for _ in range(4):
            pass_time(two.parts.clock, 2.1)
            a.heard_at = two.parts.sweep.now
        assert 3 <= a.asked <= 4 and not b.opened
        two.respond(OK, False)
        assert two.down.status == 200

    def test_it_is_the_last_choice(self, two: Case) -> None:
        """From the question on it gets nothing, but where nobody else is; and its turn again once it has answered."""
        a, b = two.tunnels
        parts = two.parts
        two.start(request_head(b"POST"))
        pass_time(parts.clock, 2.1)
        assert [taken(parts) for _ in range(5)] == ["b"] * 5
        b.draining = True
        assert taken(parts) == "b"
        b.lose()
        assert taken(parts) == "a"
        a.heard_at = parts.sweep.now
        pass_time(parts.clock, 0.1)
        register(parts, FakeTunnel(agent_id="c"))
        assert not parts.cluster.registry.held("my-ep")[0].latency.silent

    @pytest.mark.parametrize(
        ("head", "body", "ended"),
        [
            (request_head(b"POST"), b"", True),
            (request_head(b"PUT", length=3), b"ab", False),
        ],
        ids=["not idempotent", "not complete"],
    )
    def test_what_cannot_be_made_again_stays(self, two: Case, head: object, body: bytes, ended: bool) -> None:
        """A POST waits where it is, and so does what its client has not sent whole: nobody knows how far it came."""
        a, b = two.tunnels
        two.start(head, body, ended)  # type: ignore[arg-type]
        pass_time(two.parts.clock, 6.0)
        assert len(a.calls) == 1 and not b.opened and two.down.status is None

    def test_an_offer_to_upgrade_is_moved_too(self, two: Case) -> None:
        """The client of a WebSocket waits for its 101 as others do for their responses."""
        two.start(request_head(b"GET", *UPGRADE_FIELDS), ended=False)
        pass_time(two.parts.clock, 4.0)
        assert len(two.tunnels[1].opened) == 1

    def test_a_response_that_has_begun_stays(self, two: Case) -> None:
        """Behind the head nothing is awaited."""
        a, b = two.tunnels
        two.start(request_head())
        two.respond(b"HTTP/1.1 200 OK\r\n\r\n", True)
        pass_time(two.parts.clock, 6.0)
        assert len(a.calls) == 1 and a.asked == 0 and not b.opened

    def test_nobody_else(self) -> None:
        """A request that has nowhere else to go waits; and goes there when somebody comes."""
        here = case(FakeTunnel(agent_id="a"), timeout=60.0)
        here.start(request_head())
        pass_time(here.parts.clock, 6.0)
        assert len(here.tunnels[0].calls) == 1 and here.down.status is None
        late = register(here.parts, FakeTunnel(agent_id="b"))
        pass_time(here.parts.clock, 0.2)
        assert len(late.calls) == 1 and not here.tunnels[0].calls

    def test_moved_once(self, two: Case) -> None:
        """A request whose second agent falls silent, too, waits there."""
        b, c = two.tunnels[1], register(two.parts, FakeTunnel(agent_id="c"))
        two.start(request_head())
        pass_time(two.parts.clock, 3.6)
        assert len(b.opened) == 1
        b.heard_at, c.heard_at = 0.0, LIVES
        pass_time(two.parts.clock, 8.0)
        assert len(b.calls) == 1 and not c.opened

    def test_others_are_asked_before(self, two: Case) -> None:
        """What ended one connection may have ended others: a request is moved to an agent that has given a sign."""
        b, c = two.tunnels[1], register(two.parts, FakeTunnel(agent_id="c"))
        b.heard_at = 0.0
        two.start(request_head())
        pass_time(two.parts.clock, 2.3)
        assert [b.asked, c.asked] == [0, 0], "a service may take its time"
        pass_time(two.parts.clock, 0.3)
        assert [b.asked, c.asked] == [1, 1]
        c.heard_at = two.parts.sweep.now
        pass_time(two.parts.clock, 1.0)
        assert len(c.opened) == 1 and not b.opened

    def test_all_are_silent(self, two: Case) -> None:
        """A request stays where it is until somebody gives a sign, or comes: the others are no better."""
        a, b = two.tunnels
        b.heard_at = 0.0
        two.start(request_head())
        pass_time(two.parts.clock, 6.0)
        assert b.asked == 1 and len(a.calls) == 1 and not b.opened
        b.heard_at = LIVES
        pass_time(two.parts.clock, 0.2)
        assert len(b.opened) == 1 and not a.calls

    def test_few_are_moved(self, two: Case) -> None:
        """A node that has made few calls moves not all of them: what is made twice is work, and all may be slow."""
        a, b = two.tunnels
        two.start(request_head())
        settings = two.routed._settings
        for _ in range(399):
            head = request_head()
            type(two.routed)(settings, FakeDownstream(head)).start(b"", True)
        before = len(b.opened)
        assert before == 200
        pass_time(two.parts.clock, 6.0)
        moved = sum(one.reset_code == CANCELLED for one in a.opened)
        assert FIRST_MOVES + 20 <= moved == len(b.opened) - before < FIRST_MOVES + 27

    def test_a_process_that_was_stopped_blames_nobody(self, two: Case) -> None:
        """The time for which we were stopped ourselves is no silence, and no slow answer."""
        a, _ = two.tunnels
        two.start(request_head())
        pass_time(two.parts.clock, 0.5)
        two.parts.clock.advance(30.0)
        pass_time(two.parts.clock, 0.3)
        assert a.asked == 0
        two.respond(OK, False)
        assert all(route.latency.usual_s < 3.0 for route in two.parts.cluster.registry)

    def test_what_waits_at_a_session_that_ends(self, two: Case) -> None:
        """Nothing is remembered of a session that is gone."""
        two.start(request_head(b"POST"))
        pass_time(two.parts.clock, 5.0)
        watch = two.parts.cluster.watch
        assert len(watch._probes) == 1
        two.tunnels[0].heard_at = float("inf")
        two.tunnels[0].lose()
        pass_time(two.parts.clock, 2.0)
        assert not watch._probes and not watch.standings._named and not two.parts.cluster._parts.unwell


class TestOverLinks:
    """The same, of other nodes and for them."""

    @pytest.fixture
    def parts(self) -> MemoryNode:
        """A node that knows of another one, which holds the endpoint."""
        parts = MemoryNode(Clock(), timeout=60.0)
        self.links = FakeLinks()
        route_by(parts, self.links, lambda *told: None)
        tell(parts, "n2", "active", my_ep=1)
        return parts

    def test_a_slow_agent_here(self, parts: MemoryNode) -> None:
        """Another node is asked with one call, and gets the others once that was answered much faster."""
        local = register(parts, FakeTunnel())
        answered(parts, local, 0.3)
        assert taken(parts) == "n2"
        there = call(parts.cluster.take("my-ep", []))
        assert [taken(parts) for _ in range(3)] == ["agent-1"] * 3, "nothing is known of it yet"
        self.links.links["n2"].calls[-1].respond(OK, False)
        assert there.over and [taken(parts) for _ in range(3)] == ["n2"] * 3
        pass_time(parts.clock, 60.0)
        assert taken(parts) == "agent-1", "it is tried again"

    def test_a_slow_agent_everywhere(self, parts: MemoryNode) -> None:
        """Where another node is no better, requests stay here."""
        local = register(parts, FakeTunnel())
        answered(parts, local, 0.3)
        call(parts.cluster.take("my-ep", []))
        pass_time(parts.clock, 0.2)
        self.links.links["n2"].calls[-1].respond(OK, False)
        assert [taken(parts) for _ in range(3)] == ["agent-1"] * 3

    def test_an_agent_here_that_hangs(self, parts: MemoryNode) -> None:
        """Calls that wait here for a second are enough to go elsewhere; those of other nodes stay: they hop once."""
        local = register(parts, FakeTunnel())
        quick(parts, local, 3)
        call(parts.cluster.take("my-ep", []))
        for _ in range(25):
            pass_time(parts.clock, 0.1)
            local.heard_at = parts.sweep.now
        assert taken(parts) == "n2"
        route = LocalRouter(parts.cluster).take("my-ep", [])
        assert route is not None and route.name == "agent-1"

    def test_an_agent_here_that_stands_still_keeps_few(self, parts: MemoryNode) -> None:
        """Once some calls wait there that are not answered as quickly as usual, other nodes get the next ones."""
        local = register(parts, FakeTunnel())
        quick(parts, local, 3)
        for _ in range(MANY_CALLS + 1):
            call(parts.cluster.take("my-ep", []))
        pass_time(parts.clock, 0.2)
        assert taken(parts) == "agent-1"
        pass_time(parts.clock, 0.2)
        assert taken(parts) == "n2"

    def test_a_silent_link(self, parts: MemoryNode) -> None:
        """A node whose link says nothing is passed over, for all endpoints, and is chosen where nobody else is."""
        for node_id in ("n2", "n3"):
            tell(parts, node_id, "active", my_ep=1, other=1)
        made = parts.cluster.take("my-ep", [])
        assert made is not None and made.name == "n2"
        call(made)
        pass_time(parts.clock, 2.2)
        assert self.links.links["n2"].asked == 1
        assert taken(parts) == "n3"
        other = parts.cluster.take("other", [])
        assert other is not None and other.name == "n3"
        tell(parts, "n3", "left")
        assert taken(parts) == "n2"
        self.links.links["n2"].heard_at = parts.sweep.now
        pass_time(parts.clock, 0.1)
        assert parts.cluster.watch.node_level("other", "n2") == 0

    def test_a_silent_agent_of_a_request_from_another_node(self, parts: MemoryNode) -> None:
        """The node that the request came from makes it again, if it can have somewhere else; else it waits here."""
        register(parts, FakeTunnel())
        register(parts, FakeTunnel(agent_id="as silent"))
        router = LocalRouter(parts.cluster)
        settings = RoutingSettings(
            router=router, sweep=parts.sweep, metrics=parts.metrics, timeout_s=60.0, idle_timeout_s=60.0
        )
        for there, status in (("active", 502), ("unreachable", None)):
            tell(parts, "n2", there)
            down = FakeDownstream(request_head())
            routed = RoutedRequest(settings, down)
            routed.start(b"", True)
            pass_time(parts.clock, 5.0)
            assert (down.status, routed.reached) == (status, status is not None)

    def test_what_is_known_of_nodes_is_bounded(self, parts: MemoryNode) -> None:
        """Endpoints of other nodes are forgotten when there are too many."""
        watch: RouteWatch = parts.cluster.watch
        for number in range(MAX_NODES_SEEN + 10):
            watch.node(f"ep-{number}", "n2").latency.answered(1.0, 1.0)
        assert sum(map(len, watch._nodes.values())) == MAX_NODES_SEEN == len(parts.cluster._parts.unwell)
