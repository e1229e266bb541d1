"""RPC over WebSocket: the only package that imports Autobahn.

`websocket_pipe` makes messages of bytes and `session_pump` drives a session with them; `server` and `client` are the
two roles between an agent and its node, with their handshakes. Both roles between nodes are in `net.links.handshake`.
"""

from __future__ import annotations

from pico_twisted.core.rpc.session_base import SEND_HIGH_BYTES
from pico_twisted.net.tls.through_proxy import ProxyFailed
from pico_twisted.net.tunnel.attempts import (
    HandshakeRefused,
    HandshakeTimeout,
    NobodyThere,
)
from pico_twisted.net.tunnel.client import TunnelClientFactory, TunnelClientProtocol, connect_tunnel
from pico_twisted.net.tunnel.interfaces import Closed
from pico_twisted.net.tunnel.parts import ELSEWHERE, MAX_ELSEWHERE, TunnelParts
from pico_twisted.net.tunnel.server import (
    HANDSHAKE_TIMEOUT_S,
    Admission,
    Refusal,
    TunnelServerFactory,
    TunnelServerProtocol,
)
from pico_twisted.net.tunnel.session_pump import STALL_S, Tunnel
from pico_twisted.net.tunnel.websocket_pipe import CLOSE_TIMEOUT_S

__all__ = [
    "CLOSE_TIMEOUT_S",
    "ELSEWHERE",
    "HANDSHAKE_TIMEOUT_S",
    "MAX_ELSEWHERE",
    "SEND_HIGH_BYTES",
    "STALL_S",
    "Admission",
    "Closed",
    "HandshakeRefused",
    "HandshakeTimeout",
    "NobodyThere",
    "ProxyFailed",
    "Refusal",
    "Tunnel",
    "TunnelClientFactory",
    "TunnelClientProtocol",
    "TunnelParts",
    "TunnelServerFactory",
    "TunnelServerProtocol",
    "connect_tunnel",
]
