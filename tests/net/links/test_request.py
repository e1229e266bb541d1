"""A request that came over a node link: what the other node is told when no agent takes it."""

from __future__ import annotations

import math

import pytest
from twisted.internet.task import Clock

from pico_twisted.core.rpc import frames
from pico_twisted.core.rpc.capabilities import TRAILERS
from pico_twisted.net.links.request import LinkRequest
from pico_twisted.net.observe.requests import RequestWatch
from pico_twisted.net.routing.cluster_service import LocalRouter
from pico_twisted.net.routing.settings import RoutingSettings
from tests.doubles.gate import subject
from tests.doubles.node import MemoryNode
from tests.doubles.tunnel import FakeCall, FakeTunnel
from tests.net.doubles import OK2, register

REQUEST = b"POST / HTTP/1.1\r\nx-pico-endpoint: my-ep\r\nHost: my-ep.example.com\r\n\r\n"


class Served:
    """A node with agents, and a whole request that another node made on its link."""

    def __init__(self, agents: int, payload: bytes = REQUEST, rule: str = "", more: bool = False) -> None:
        self.parts = MemoryNode(Clock())
        self.watch = RequestWatch(None, "proxy", lambda: 0.0)
        self.agents = [register(self.parts, FakeTunnel(agent_id=f"agent-{n}")) for n in range(1, agents + 1)]
        for agent in self.agents if rule else ():
            agent.subject = subject("agents", rule)
        for agent in self.agents:
            agent.capabilities = frozenset((TRAILERS,))
        self.ask(payload, more)

    def ask(self, payload: bytes, more: bool = False) -> None:
        """The other node makes a request; the one before is left as it is."""
        settings = RoutingSettings(
            router=LocalRouter(self.parts.cluster),
            sweep=self.parts.sweep,
            metrics=self.parts.metrics,
            timeout_s=math.inf,
            idle_timeout_s=math.inf,
            requests=self.watch,
        )
        link = FakeTunnel("", agent_id="n2", node_id="n2")
        link.capabilities = frozenset((TRAILERS,))
        self.call = FakeCall(link, 1, frames.HTTP, b"", True, None)
        self.call.receive_ended = not more
        self.request = LinkRequest(settings, link, self.call, None)  # type: ignore[arg-type]
        self.request.start(payload, more)

    @property
    def remembered(self) -> list[tuple[int, str, str, str]]:
        """Of each request that is remembered: status, error, hop, and the agent that was tried last."""
        return [
            (one.told["status"], one.told["error"], one.hop, one.told["upstream"]) for one in self.watch.remembered()
        ]

    @property
    def agent_call(self) -> FakeCall:
        """The one call to an agent that is open."""
        (call,) = [call for agent in self.agents for call in agent.calls]
        return call


def test_relayed() -> None:
    """An ordinary request and its response pass as the bytes that they came as, but for the endpoint's ID."""
    served = Served(1)
    assert bytes(served.agent_call.sent) == REQUEST.replace(b"x-pico-endpoint: my-ep\r\n", b"")
    served.agent_call.respond(OK2 + b"hi", False)
    assert bytes(served.call.sent) == OK2 + b"hi" and served.call.send_ended


def test_agents_are_left() -> None:
    """When those that were tried refused, and others are left, the request may come again; nobody's turn is used up."""
    served = Served(4)
    for _ in range(3):
        served.agent_call.refuse(frames.REFUSED_DRAINING)
    assert served.call.reset_code == frames.REFUSED_DRAINING
    route = served.parts.cluster.take("my-ep", [])
    assert route is not None and route.name == "agent-4"


def test_as_much_as_the_agents_may_have() -> None:
    """Over a limit of the rule that lets the agents serve, another node's agent may take the request; over its rate the
    client is told."""
    served = Served(1, rule="listen:my-ep;in_flight=1")
    served.ask(REQUEST)
    assert served.call.reset_code == frames.REFUSED_BUSY and len(served.agents[0].opened) == 1
    served = Served(1, rule="listen:my-ep;rate=1/h")
    served.ask(REQUEST)
    assert served.call.sent.startswith(b"HTTP/1.1 429 ") and b"x-pico-error: n1; subject-rate" in served.call.sent


def test_nobody() -> None:
    """A node that holds no registration of the endpoint says so, for the other one may know of somebody else."""
    assert Served(0).call.reset_code == frames.REFUSED_NOT_HERE


@pytest.mark.parametrize("code", [frames.FAILED, frames.TIMEOUT])
def test_a_service_was_reached(code: str) -> None:
    """A call that may have reached a service fails, and is not refused: it must not be made again elsewhere."""
    served = Served(2)
    served.agent_call.refuse(code)
    assert served.call.reset_code == code


def test_no_endpoint() -> None:
    """A request that names no endpoint breaks the protocol."""
    assert Served(1, REQUEST.replace(b"my-ep\r", b"!\r")).call.reset_code == frames.PROTOCOL


BLOCK = b"x-t: 1\r\nhost: kept\r\n"


@pytest.mark.parametrize("offer", [b"", b"Connection: keep-alive\r\n"])
def test_trailers_are_relayed(offer: bytes) -> None:
    """Trailers go on as they came, both ways, whether the head is read in full or not: the ends judge them."""
    served = Served(1, REQUEST.replace(b"\r\n\r\n", b"\r\nTE: trailers\r\n" + offer + b"\r\n"), more=True)
    call = served.agent_call
    served.request.frame(b"body", True)
    served.call.receive_ended = True
    served.request.trailers(BLOCK)
    assert call.trailers == BLOCK and call.sent.endswith(b"body") and call.send_ended
    assert b"\r\nTE: trailers\r\n" in call.sent
    call.respond(b"HTTP/1.1 200 OK\r\n\r\nhi", True)
    call.respond_with_trailers(BLOCK)
    assert served.call.sent.endswith(b"\r\n\r\nhi") and served.call.trailers == BLOCK and served.call.send_ended


def test_trailers_for_an_agent_that_takes_none() -> None:
    """It gets neither them nor the client's wish for some; its stream ends all the same."""
    served = Served(0, more=True)
    served.agents = [register(served.parts, FakeTunnel(agent_id="old"))]
    served.ask(REQUEST.replace(b"Host", b"TE: trailers\r\nHost"), True)
    call = served.agent_call
    served.request.trailers(BLOCK)
    assert call.send_ended and not call.trailers and b"TE:" not in call.sent


def test_trailers_of_a_request_that_is_too_short() -> None:
    """What is read in full is held to its length, with trailers too."""
    head = b"Content-Length: 9\r\nConnection: Upgrade\r\nUpgrade: x\r\n\r\n"
    served = Served(1, REQUEST.replace(b"\r\n\r\n", b"\r\n" + head), more=True)
    served.request.frame(b"short", True)
    served.request.trailers(BLOCK)
    assert served.call.reset_code == frames.PROTOCOL


NAMED = REQUEST.replace(b"\r\n\r\n", b"\r\nX-Request-Id: id-1\r\nx-other: id-2\r\n\r\n").replace(
    b"POST /", b"POST /hook?a=1"
)
UPGRADE = NAMED.replace(b"\r\n\r\n", b"\r\nConnection: Upgrade\r\nUpgrade: x\r\n\r\n")


@pytest.mark.parametrize("head", [NAMED, UPGRADE])
def test_what_failed_is_remembered(head: bytes) -> None:
    """With the request's ID, whether its head was read in full or not; the answer is passed on as it is."""
    served = Served(1, head, more=head is UPGRADE)
    served.agent_call.respond(b"HTTP/1.1 500 Oh\r\nContent-Length: 0\r\n\r\n", False)
    assert served.remembered == [(500, "", "service", "agent-1")]
    (found,) = served.watch.remembered()
    told = found.told
    assert (found.port, told["client"], told["request_id"], told["endpoint"]) == ("link", "n2", "id-1", "my-ep")
    assert (told["method"], told["target"]) == (b"POST", b"/hook?a=1")


def test_what_is_fine_is_remembered_while_somebody_looks() -> None:
    """And for nobody's sake otherwise."""
    served = Served(1, NAMED)
    served.agent_call.respond(OK2 + b"hi", False)
    assert served.remembered == []
    served.watch.looked()
    served.ask(NAMED)
    served.agent_call.respond(OK2 + b"hi", False)
    assert served.remembered == [(200, "", "", "agent-1")]


def test_why_it_failed_here() -> None:
    """Nobody serves, an agent that breaks, one that says what is wrong with its service."""
    assert Served(0).remembered == [(502, "no-upstreams", "proxy", "")]
    served = Served(1)
    served.agent_call.refuse(frames.FAILED)
    assert served.remembered == [(502, "upstream-unreachable", "agent", "agent-1")]
    served = Served(1)
    own = b"HTTP/1.1 502 Bad Gateway\r\nx-pico-error: agent-1; service-unreachable\r\nContent-Length: 0\r\n\r\n"
    served.agent_call.respond(own, False)
    assert served.remembered == [(502, "service-unreachable", "service", "agent-1")]


@pytest.mark.parametrize(
    ("code", "expected"),
    [
        (frames.CANCELLED, (499, "client-gone", "client", "agent-1")),
        (frames.TIMEOUT, (504, "upstream-timeout", "service", "agent-1")),
        (frames.PROTOCOL, (502, "bad-response", "service", "agent-1")),
    ],
)
def test_the_other_node_gives_up(code: str, expected: tuple[int, str, str, str]) -> None:
    """Its client left, its time was up, or what the agent said is wrong: once, as the other node knows it."""
    served = Served(1)
    served.request.reset(code, "")
    assert served.remembered == [expected]


def test_the_link_breaks() -> None:
    """Then it was neither the client nor the agent."""
    served = Served(1)
    served.request.lost()
    assert served.remembered == [(502, "upstream-unreachable", "link", "agent-1")]
