"""Proxy ports, and what is asked for there."""

from __future__ import annotations

import base64
import itertools
import secrets
from collections.abc import Iterator, Sequence
from typing import Any
from urllib.parse import urlsplit

import attrs
from twisted.internet.endpoints import wrapClientTLS
from twisted.internet.interfaces import IStreamClientEndpoint

from pico_twisted import __version__
from pico_twisted.ctl.bench.plan import BODIES, BenchPlan
from pico_twisted.net.agent.serving.connection import SecureServiceConnection, ServiceConnection
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
        kind: of its connections.
        shown: lines of each head that say who asks.
    """

    url: str
    host: str
    target: str
    endpoint: IStreamClientEndpoint
    kind: type[ServiceConnection]
    shown: Sequence[str] = ()

    def head(self, method: str, endpoint_id: str, *fields: str) -> bytes:
        """The head of a request.

        Args:
            method: of it.
            endpoint_id: of the endpoint that it is for.
            fields: more lines for the head.
        """
        lines = [
            f"{method} {self.target} HTTP/1.1",
            f"Host: {self.host}",
            f"x-pico-endpoint: {endpoint_id}",
            f"User-Agent: picoctl/{__version__}",
            *self.shown,
            *fields,
        ]
        return "".join(f"{line}\r\n" for line in (*lines, "")).encode("ascii")


def place_of(reactor: Any, url: str, plan: BenchPlan) -> Place:  # the reactor: what dials has no interface in Twisted
    """The proxy port of a URL.

    Args:
        reactor: connects.
        url: as given.
        plan: says which authority to trust, which token to show, and how long connecting may take.

    Raises:
        UnusableCertificateError: the file of those to trust cannot be used.
    """
    parsed = urlsplit(url)
    secure = parsed.scheme == "https"
    host = parsed.hostname or ""
    endpoint = tcp_endpoint(reactor, host, parsed.port or (443 if secure else 80), plan.timeout_s)
    return Place(
        url=url,
        host=parsed.netloc if parsed.netloc.isascii() else parsed.netloc.encode("idna").decode("ascii"),
        target=parsed.path or "/",
        endpoint=wrapClientTLS(client_tls(host, plan.ca), endpoint) if secure else endpoint,
        kind=SecureServiceConnection if secure else ServiceConnection,
        shown=(f"x-pico-authorization: Bearer {plan.token}",) if plan.token else (),
    )


def heads_of(place: Place, plan: BenchPlan, endpoint_ids: Sequence[str]) -> Iterator[bytes]:
    """The heads of all requests that are made at a place, for one endpoint after the other, without end."""
    if plan.websocket:
        upgrade = ("Connection: Upgrade", "Upgrade: websocket", "Sec-WebSocket-Version: 13")
        for endpoint_id in itertools.cycle(endpoint_ids):
            key = base64.b64encode(secrets.token_bytes(16)).decode("ascii")
            yield place.head("GET", endpoint_id, *upgrade, f"Sec-WebSocket-Key: {key}")
    else:
        length = [f"Content-Length: {plan.request_bytes}"] if plan.method in BODIES else []
        yield from itertools.cycle([place.head(plan.method, endpoint_id, *length) for endpoint_id in endpoint_ids])
