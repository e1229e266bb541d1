"""TCP sessions of the tests: an agent whose services speak what a script says, and clients over WebSocket."""

from __future__ import annotations

import socket
import time

from tests.peers import websocket
from tests.peers.pipe import PATIENCE_S, Ended
from tests.system.stack import Stack
from tools.stage.nodes import Node
from tools.stage.processes import Process

PATH = "/_pico/v1/tcp/"
SUBPROTOCOL = "pico.tcp"
AGENT = "tcp-agent"


def tcp_agent(stack: Stack) -> Process:
    """The agent of the TCP endpoints, which is started where it does not run."""
    for process in stack.stage.processes:
        if process.name == AGENT and process.running:
            return process
    addresses = {f"tcp-{service.endpoint}": service.address for service in stack.services}
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        addresses["tcp-nowhere"] = f"127.0.0.1:{unused.getsockname()[1]}"
    listeners = {endpoint: {"addr": address, "protocol": "tcp"} for endpoint, address in addresses.items()}
    return stack.stage.agent(stack.agents_node, listeners, {"access_log": "true"}, name=AGENT)


def tcp_endpoint(stack: Stack) -> str:
    """The TCP endpoint of the current test's service."""
    tcp_agent(stack)
    endpoint = f"tcp-{stack.endpoint}"
    stack.wait_endpoints([endpoint])
    return endpoint


def open_session(stack: Stack, endpoint: str = "", *, node: Node | None = None) -> Session:
    """A session with the current test's service, closed when the test ends."""
    return Session(node or stack.node, endpoint or tcp_endpoint(stack), stack)


class Session:
    """One TCP session of a client.

    Args:
        node: that it is opened at.
        endpoint: of TCP.
        stack: keeps the connection until the test ends; None where nobody does.
        headers: of the handshake.

    Raises:
        websocket.Refused: the node answered something else.

    Attributes:
        ended: the service's stream has ended.
    """

    def __init__(self, node: Node, endpoint: str, stack: Stack | None = None, headers: websocket.Headers = ()) -> None:
        self.socket, self.answer = websocket.connect(
            node.proxy,
            PATH + endpoint,
            subprotocols=(SUBPROTOCOL,),
            headers=headers,
            tls=node.tls.context if node.tls else None,
        )
        if stack is not None:
            stack.keep_pipe(self.socket.pipe)
        assert self.answer.get("sec-websocket-protocol") == SUBPROTOCOL
        self._data = bytearray()
        self.ended = False

    def send(self, data: bytes) -> None:
        """Send bytes, in messages of at most 60 KiB."""
        for start in range(0, len(data), 61440):
            self.socket.send(data[start : start + 61440])

    def end(self) -> None:
        """End our stream."""
        self.socket.send(b"")

    def read(self, size: int, timeout: float = PATIENCE_S) -> bytes:
        """So many bytes."""
        deadline = time.monotonic() + timeout
        while len(self._data) < size:
            assert not self.ended, f"the stream ended after {len(self._data)} bytes"
            self._more(deadline)
        data = bytes(self._data[:size])
        del self._data[:size]
        return data

    def read_rest(self, timeout: float = PATIENCE_S) -> bytes:
        """What comes until the service's stream ends, which has to be in good order."""
        deadline = time.monotonic() + timeout
        while not self.ended:
            self._more(deadline)
        data = bytes(self._data)
        self._data.clear()
        return data

    def _more(self, deadline: float) -> None:
        kind, message = self.socket.receive(deadline - time.monotonic())
        assert kind == websocket.BINARY
        assert not self.ended, "a message behind the empty one"
        if message:
            self._data += message
        else:
            self.ended = True

    def drop(self) -> None:
        """Leave with a FIN, and without a word."""
        self.socket.drop()

    def reset(self) -> None:
        """Leave with a RST."""
        self.socket.reset()

    def closed(self, timeout: float = PATIENCE_S) -> tuple[int | None, str]:
        """How the node closes, once all else was read: code and reason."""
        deadline = time.monotonic() + timeout
        try:
            while True:
                self._more(deadline)
        except Ended as ended:
            return ended.code, ended.reason
