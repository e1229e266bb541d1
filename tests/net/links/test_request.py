"""A request that came over a node link: what the other node is told when no agent takes it."""

from __future__ import annotations

import math

import pytest
from twisted.internet.task import Clock

from pico_twisted.core.rpc import frames
from pico_twisted.net.links.request import LinkRequest
from pico_twisted.net.routing.cluster_service import LocalRouter
from pico_twisted.net.routing.settings import RoutingSettings
from tests.doubles.gate import subject
from tests.doubles.node import MemoryNode
from tests.doubles.tunnel import FakeCall, FakeTunnel
from tests.net.doubles import OK2, register

REQUEST = b"POST / HTTP/1.1\r\nx-pico-endpoint: my-ep\r\nHost: my-ep.example.com\r\n\r\n"


class Served:
    """A node with agents, and a whole request that another node made on its link."""

    def __init__(self, agents: int, payload: bytes = REQUEST, rule: str = "") -> None:
        self.parts = MemoryNode(Clock())
        self.agents = [register(self.parts, FakeTunnel(agent_id=f"agent-{n}")) for n in range(1, agents + 1)]
        for agent in self.agents if rule else ():
            agent.subject = subject("agents", rule)
        self.ask(payload)

    def ask(self, payload: bytes) -> None:
        """The other node makes a request; the one before is left as it is."""
        settings = RoutingSettings(
            router=LocalRouter(self.parts.cluster),
            sweep=self.parts.sweep,
            metrics=self.parts.metrics,
            timeout_s=math.inf,
            idle_timeout_s=math.inf,
        )
        link = FakeTunnel("", agent_id="n2", node_id="n2")
        self.call = FakeCall(link, 1, frames.HTTP, b"", True, None)
        self.call.receive_ended = True
        LinkRequest(settings, link, self.call, None).start(payload, False)  # type: ignore[arg-type]

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
