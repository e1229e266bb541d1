"""Tunnels in memory: both ends ours, or one end a peer that sends whatever bytes the test wants."""

from __future__ import annotations

import base64
import struct
from collections.abc import Callable, Container
from typing import Any, cast

from twisted.internet.interfaces import ISSLTransport
from twisted.internet.task import Clock
from zope.interface import alsoProvides

from pico_twisted.core.rpc import frames as rpc
from pico_twisted.net.tunnel import Closed, TunnelClientFactory, TunnelParts
from tests.doubles.node import MemoryNode, pass_time
from tests.doubles.service import Acceptor
from tests.doubles.transport import MemoryTransport, Wire
from tests.peers.websocket import BINARY, CLOSE, frame_bytes, handshake_request, masked

KEY = base64.b64encode(bytes(range(16)))
LISTENER = "/pico/v1/listener/my-ep"


def frames_in(data: bytes) -> list[tuple[int, bytes]]:
    """The WebSocket frames in some bytes, all of them whole and final, as (opcode, payload)."""
    out = []
    at = 0
    while at < len(data):
        first, second = data[at], data[at + 1]
        assert first & 0xF0 == 0x80, hex(first)
        size, start = second & 0x7F, at + 2
        if size == 126:
            (size,) = struct.unpack_from(">H", data, start)
            start += 2
        elif size == 127:
            (size,) = struct.unpack_from(">Q", data, start)
            start += 8
        key = b""
        if second & 0x80:
            key = data[start : start + 4]
            start += 4
        payload = data[start : start + size]
        assert len(payload) == size, "a frame that is cut"
        out.append((first & 0x0F, masked(payload, key) if key else payload))
        at = start + size
    return out


class RawPeer:
    """A peer of our server, byte by byte.

    Args:
        parts: of the node.
        version: 2 offers the subprotocol, 1 does not.
    """

    def __init__(self, parts: MemoryNode, version: int = 2, *, shake: bool = True, headers: Any = ()) -> None:
        self.parts = parts
        self.transport = MemoryTransport(parts.clock)
        self.tunnel: Any = cast(Any, parts.upstream.buildProtocol(self.transport.getPeer()))
        self.transport.connect(self.tunnel)
        self.answer = b""
        self.closed: list[Closed] = []
        if shake:
            protocols = [rpc.SUBPROTOCOL_V2] if version == 2 else []
            self.send_raw(handshake_request(LISTENER, "node", KEY, protocols, headers))
            head, end, rest = bytes(self.transport.clear()).partition(b"\r\n\r\n")
            self.answer = head + end
            assert self.answer.startswith(b"HTTP/1.1 101 "), self.answer
            self.transport.taken += rest
            self.tunnel.closed.addCallback(self._keep)

    def _keep(self, closed: Closed) -> Closed:
        self.closed.append(closed)
        return closed

    def send_raw(self, data: bytes) -> None:
        """Bytes on the connection."""
        self.transport.receive(data)

    def send_ws(self, opcode: int, payload: bytes, **options: Any) -> None:
        """A WebSocket frame, masked unless told otherwise."""
        self.send_raw(frame_bytes(opcode, payload, **{"mask": True, **options}))

    def send(self, kind: int, call_id: int, flags: int = 0, payload: bytes = b"") -> None:
        """A frame of the RPC."""
        self.send_ws(BINARY, rpc.encode(kind, call_id, flags, payload))

    def received(self) -> list[tuple[int, bytes]]:
        """The WebSocket frames that came since the last time."""
        return frames_in(self.transport.clear())

    def received_rpc(self) -> list[tuple[int, int, int, bytes]]:
        """The frames of the RPC among them."""
        out = []
        for opcode, payload in self.received():
            assert opcode == BINARY
            kind, call_id, flags = rpc.HEADER.unpack_from(payload)
            out.append((kind, call_id, flags, payload[12:]))
        return out

    def close_code(self) -> int | None:
        """The code of the close frame that came, if one did; it is the last frame."""
        frames = self.received()
        if not frames or frames[-1][0] != CLOSE:
            return None
        assert all(opcode != CLOSE for opcode, _ in frames[:-1])
        (code,) = struct.unpack_from(">H", frames[-1][1])
        return int(code)


def agent_factory(parts: TunnelParts, headers: dict[str, str], acceptor: Acceptor) -> TunnelClientFactory:
    """Makes an agent's end of a tunnel."""
    return TunnelClientFactory(
        parts,
        url=f"ws://node:8002{LISTENER}",
        headers=headers,
        acceptor=acceptor,
        endpoint="my-ep",
        agent_id="agent-1",
        slot="0",
        reactor=parts.clock,
    )


class TlsTransport(MemoryTransport):
    """An end that says that it speaks TLS, to a peer without a certificate."""

    def connect(self, protocol: Any) -> Any:
        """Give the connection to a protocol. Only then it says so: Autobahn would look for an ID of the TLS session."""
        connected = super().connect(protocol)
        alsoProvides(self, ISSLTransport)
        return connected

    def getPeerCertificate(self) -> None:
        """The peer has none."""


class TunnelPair:
    """A node's and an agent's tunnel, joined in memory.

    Args:
        version: what the node selects; 1 makes it ignore the agent's offer.
        piece_bytes: how many bytes arrive at once.
        acceptor: serves the node's calls.
        tls: which of the ends, `node` and `agent`, speak TLS. One alone does so to somebody in between.

    Attributes:
        node, agent: the two tunnels.
    """

    def __init__(
        self,
        *,
        version: int = 2,
        piece_bytes: Callable[[], int] = lambda: 64 * 1024,
        acceptor: Acceptor | None = None,
        agent_parts: TunnelParts | None = None,
        tls: Container[str] = (),
        **limits: Any,
    ) -> None:
        self.clock = Clock()
        self.parts = MemoryNode(self.clock, **limits)
        self.acceptor = acceptor or Acceptor()
        headers = {"x-pico-agent-id": "agent-1", "x-pico-slot": "0", "x-pico-agent-version": "0.0.1"}
        factory = agent_factory(agent_parts or self.parts.agent_parts(), headers, self.acceptor)
        if version == 1:
            factory.protocols = []
        self.node_end = TlsTransport(self.clock) if "node" in tls else MemoryTransport(self.clock)
        self.agent_end = TlsTransport(self.clock) if "agent" in tls else MemoryTransport(self.clock)
        self.wire = Wire(self.node_end, self.agent_end, piece_bytes)
        self.node: Any = self.node_end.connect(self.parts.upstream.buildProtocol(self.node_end.getPeer()))
        self.agent: Any = self.agent_end.connect(factory.buildProtocol(self.agent_end.getPeer()))
        self.ready: list[Any] = []
        factory.ready.addBoth(self.ready.append)
        self.closed: dict[str, Closed] = {}
        self.flush()
        assert self.ready == [self.agent], self.ready
        self.node.closed.addCallback(lambda closed: self.closed.__setitem__("node", closed))
        self.agent.closed.addCallback(lambda closed: self.closed.__setitem__("agent", closed))

    def flush(self) -> None:
        """Carry everything."""
        self.wire.flush()
        self.clock.advance(0)
        self.wire.flush()

    def pass_time(self, seconds: float) -> None:
        """Let time pass, and what is sent meanwhile arrive."""
        for _ in range(round(seconds / 0.25)):
            pass_time(self.clock, 0.25)
            self.flush()
