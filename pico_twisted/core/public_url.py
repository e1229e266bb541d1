"""Where clients reach endpoints, as operators say it: `https://*.tunnel.example.com`; `*` stands for one label."""

from __future__ import annotations

import re
from typing import Final

PUBLIC_URL_PATTERN: Final = re.compile(
    r"(?P<scheme>https?)://(?P<star>\*\.)?(?P<host>[a-z0-9_.-]{1,253}|\[[0-9a-f:.]{2,45}\])(?P<port>:[0-9]{1,5})?"
)
"""Matches the whole of a public URL in the one form that is told: lower case, without the scheme's own port."""

TCP_PATH: Final = "/_pico/v1/tcp/"
"""What the path of the WebSocket of a TCP endpoint begins with; the endpoint ID follows."""

_LABEL: Final = re.compile(r"[a-z0-9](?:[a-z0-9_-]{0,61}[a-z0-9])?")


def endpoint_url(public_url: str, endpoint: str, protocol: str = "http") -> str:
    """The URL of an endpoint; empty when no host name leads to it, and clients send `x-pico-endpoint`. That of a TCP
    endpoint is of its WebSocket, to which its path leads.

    Args:
        public_url: of the nodes; empty when they were told none.
        endpoint: its ID, in any case.
        protocol: what its service speaks.
    """
    label = endpoint.lower()
    if protocol == "tcp":
        url = endpoint_url(public_url, endpoint) or ("" if "*" in public_url else public_url)
        return f"ws{url.removeprefix('http')}{TCP_PATH}{label}" if url else ""
    return public_url.replace("*", label, 1) if "*" in public_url and _LABEL.fullmatch(label) else ""


def domain_of(public_url: str) -> str:
    """The name below which endpoints are named by one label; empty when there is none."""
    match = PUBLIC_URL_PATTERN.fullmatch(public_url)
    return match["host"] if match is not None and match["star"] else ""
