"""What an agent says of a server that it should not have dialled."""

from __future__ import annotations

import pytest
from twisted.python.failure import Failure

from pico_twisted.core.ports import ADMIN, GOSSIP, PROXY, UNNAMED, UPSTREAM
from pico_twisted.net.agent.dial_failures import explain_failure
from pico_twisted.net.tunnel import HandshakeRefused


@pytest.mark.parametrize(
    ("port", "words"),
    [
        (PROXY, "that is the proxy port of a node: connect.url takes its upstream port (8002 by default)"),
        (ADMIN, "that is the admin port of a node: connect.url takes its upstream port (8002 by default)"),
        (GOSSIP, "that is the gossip port of a node: connect.url takes its upstream port (8002 by default)"),
        (UPSTREAM, "the node refused (404): not here"),
        (UNNAMED, "the node refused (404): not here"),
        ("", "what answers does not say that it is a node of Pico, and refused (404): not here"),
    ],
)
def test_who_refused(port: str, words: str) -> None:
    """An agent names the port that it met, or says that it met no node, in one short line."""
    _, label, told = explain_failure(Failure(HandshakeRefused(404, "not here", port=port)))
    assert (label, told) == ("refused", words)
