"""Where clients reach an endpoint, as far as an agent's sessions tell."""

from __future__ import annotations

from collections.abc import Iterable
from urllib.parse import urlsplit

from pico_twisted.core.public_url import endpoint_url
from pico_twisted.net.agent.active_connection import ActiveConnection
from pico_twisted.net.socket.dialling import LOCALHOST


def reached_at(sessions: Iterable[ActiveConnection], endpoint: str, protocol: str) -> str:
    """The URL of an endpoint, without a slash at its end: below the public URL of the nodes; else, when a node is on
    this machine, below `localhost`; else empty, since clients have to name the endpoint in a header. Of a TCP endpoint
    it is the URL of its WebSocket.

    Args:
        sessions: of the agent.
        endpoint: its ID.
        protocol: what its service speaks.
    """
    for session in sessions:
        told = session.tunnel.public_url
        scheme, _, port = session.tunnel.proxy.partition(":")
        host = urlsplit(session.url).hostname or ""
        if not told and scheme == "http" and (host in (*LOCALHOST, "::1") or host.startswith("127.")):
            told = f"http://*.localhost:{port}"
        if found := endpoint_url(told, endpoint, protocol):
            return found
    return ""
