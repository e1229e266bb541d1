"""Proxy ports, and what is asked for there."""

from __future__ import annotations

import base64
import secrets
from collections.abc import Sequence
from typing import Any
from urllib.parse import urlsplit

import attrs
from twisted.internet.endpoints import wrapClientTLS
from twisted.internet.interfaces import IStreamClientEndpoint

from pico_twisted import __version__
from pico_twisted.net.socket.dialling import tcp_endpoint
from pico_twisted.net.tls.client import client_tls


@attrs.frozen(kw_only=True)
class Place:
    """A proxy port.

    Attributes:
        url: as given.
        host: for the Host of requests.
        target: the path of requests.
        endpoint: how to connect.
    """

    url: str
    host: bytes
    target: bytes
    endpoint: IStreamClientEndpoint


def place_of(reactor: Any, url: str, ca: str, timeout_s: float) -> Place:
    """The proxy port of a URL.

    Args:
        reactor: connects.
        url: as given.
        ca: a PEM file of authorities to trust; empty for the system's.
        timeout_s: for connecting.

    Raises:
        UnusableCertificateError: `ca` cannot be used.
    """
    parsed = urlsplit(url)
    secure = parsed.scheme == "https"
    host = parsed.hostname or ""
    endpoint = tcp_endpoint(reactor, host, parsed.port or (443 if secure else 80), timeout_s)
    return Place(
        url=url,
        host=parsed.netloc.encode("ascii" if parsed.netloc.isascii() else "idna"),
        target=(parsed.path or "/").encode("ascii"),
        endpoint=wrapClientTLS(client_tls(host, ca), endpoint) if secure else endpoint,
    )


def request_of(method: str, place: Place, endpoint: str, fields: Sequence[tuple[str, str]] = ()) -> bytes:
    """The head of a request.

    Args:
        method: of it.
        place: where it goes.
        endpoint: the ID of the endpoint that it is for.
        fields: more for the head.
    """
    all_fields = [
        ("Host", place.host.decode()),
        ("x-pico-endpoint", endpoint),
        ("User-Agent", f"picoctl/{__version__}"),
        *fields,
    ]
    lines = [f"{method} {place.target.decode()} HTTP/1.1", *(f"{name}: {value}" for name, value in all_fields), "", ""]
    return "\r\n".join(lines).encode("ascii")


def upgrade_of(place: Place, endpoint: str) -> bytes:
    """The head of a request for a WebSocket to an endpoint."""
    key = base64.b64encode(secrets.token_bytes(16)).decode("ascii")
    fields = [("Connection", "Upgrade"), ("Upgrade", "websocket"), ("Sec-WebSocket-Version", "13")]
    return request_of("GET", place, endpoint, [*fields, ("Sec-WebSocket-Key", key)])
