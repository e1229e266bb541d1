"""TCP where one part is of an earlier version, which does not know of it: told, and nobody else notices."""

from __future__ import annotations

import pytest

from tests.peers import websocket
from tests.system.stack import Stack
from tests.system.tcp import PATH, SUBPROTOCOL, tcp_agent, tcp_endpoint


def refused(stack: Stack, endpoint: str) -> tuple[int, str]:
    """How the clients' node refuses a session: status and code."""
    with pytest.raises(websocket.Refused) as error:
        websocket.connect(stack.node.proxy, PATH + endpoint, subprotocols=(SUBPROTOCOL,))
    return error.value.status, (error.value.answer.get("x-pico-error") or "").rpartition(" ")[2]


@pytest.mark.parametrize("running_stack", ["old-agent", "two-old-agents-node"], indirect=True)
def test_an_earlier_agent_or_node_behind(stack: Stack, running_stack: object) -> None:
    """A session with an endpoint of an earlier agent, or through an earlier node, is refused as one that is not TCP."""
    if not stack.two_nodes:
        assert refused(stack, stack.endpoint) == (421, "not-tcp")
    else:
        assert refused(stack, tcp_endpoint(stack)) == (421, "not-tcp")
        assert refused(stack, stack.endpoint) == (421, "not-tcp")
    assert stack.request().status == 200
    stack.still_serves()


@pytest.mark.parametrize("running_stack", ["old-node", "two-old-clients-node", "two-old-agents-node"], indirect=True)
def test_an_earlier_node_and_a_listener_of_tcp(stack: Stack, running_stack: object) -> None:
    """HTTP for a listener of TCP, through an earlier node, is an error of that node's own, again and again, and the
    sessions of the agent stay."""
    endpoint = tcp_endpoint(stack)
    for line in ("GET / HTTP/1.1", "POST / HTTP/1.1", "GET / HTTP/1.1"):
        assert stack.request(line, endpoint=endpoint).status == 502
    agent = tcp_agent(stack)
    assert agent.running and not any(record.get("level") == "critical" for record in agent.records)
    stack.wait_endpoints([endpoint])
    stack.still_serves()
