"""Asks real sockets: names, TCP, TLS, and whether a node answers at its gossip port. Each has a time of its own.

A node is asked as a node would ask it that joins: a packet of a visitor, of which nodes tell nobody, and the handshake
of a link, which is closed before anything goes over it. Both need the cluster's name and secrets.
"""

from __future__ import annotations

import contextlib
import random
import secrets
import socket
import ssl
import time
from collections.abc import Sequence
from typing import Final

import attrs

from pico_twisted.core.gossip import Gossip, GossipSettings
from pico_twisted.core.http1.errors import Http1Error
from pico_twisted.core.http1.head import ResponseHead, parse_response_head
from pico_twisted.core.links.handshake import LINK_PATH, ClientHandshake, LinkIdentity, NotThePeer, link_keys
from pico_twisted.core.links.proof import NONCE_BYTES
from pico_twisted.core.protocol_limits import RESPONSE_LIMITS
from pico_twisted.core.rpc.frames import SUBPROTOCOL_V2
from pico_twisted.core.text import host_port, printable
from pico_twisted.ctl.doctor.lines import PATIENCE_S

HELLO_S: Final = 2.0
"""Seconds that a node has to answer packets."""
HELLOS: Final = 4
"""Packets that are sent meanwhile, since some may be lost."""
MAX_HEAD_BYTES: Final = 64 * 1024
"""Most bytes of an answer's head that are read."""
MAX_WORDS: Final = 200
"""Most characters of what a server says of an error."""

_KEY: Final = "dGhlIGRvY3RvciBhc2tzIQ=="  # of a WebSocket's handshake: any 16 bytes will do


class Unreached(Exception):
    """There is no answer, or none that helps. The text says why."""


@attrs.frozen(kw_only=True)
class ClusterWords:
    """What the nodes of a cluster know each other by.

    Attributes:
        name: of the cluster.
        secrets: of the cluster.
    """

    name: str
    secrets: tuple[str, ...] = attrs.field(repr=False)


def resolve(host: str) -> list[str]:
    """The addresses of a name, each once.

    Raises:
        Unreached: there is none.
    """
    try:
        found = socket.getaddrinfo(host, None, type=socket.SOCK_STREAM)
    except (OSError, UnicodeError) as error:
        raise Unreached(f"{host} has no address: {getattr(error, 'strerror', None) or 'not a name'}") from None
    return list(dict.fromkeys(str(one[4][0]) for one in found))


def split_address(text: str) -> tuple[str, int] | None:
    """Host and port of an address that a node tells, `host:port`; None when it is none."""
    host, _, port = text.rpartition(":")
    return (host.strip("[]"), int(port)) if host and port.isascii() and port.isdigit() and len(port) < 6 else None


def connect(host: str, port: int) -> socket.socket:
    """A TCP connection. Raises Unreached."""
    try:
        return socket.create_connection((host, port), PATIENCE_S)
    except TimeoutError:
        raise Unreached(f"TCP {host_port(host, port)}: no answer") from None
    except (OSError, UnicodeError) as error:
        raise Unreached(f"TCP {host_port(host, port)}: {_lower(getattr(error, 'strerror', None))}") from None


def tls_to(connection: socket.socket, context: ssl.SSLContext, host: str) -> ssl.SSLSocket:
    """TLS on a connection. Raises Unreached."""
    try:
        return context.wrap_socket(connection, server_hostname=host)
    except ssl.SSLCertVerificationError as error:
        raise Unreached(f"its certificate is refused: {error.verify_message}") from None
    except ssl.SSLError as error:
        raise Unreached(f"no TLS: {_lower(error.reason or error.strerror)}") from None
    except OSError as error:
        raise Unreached(f"no TLS: {_lower(error.strerror)}") from None


def ask_head(connection: socket.socket, lines: Sequence[str]) -> tuple[ResponseHead, bytes]:
    """Send the head of a request.

    Args:
        connection: that it is sent on.
        lines: of it, without the empty one.

    Returns:
        The head of the answer, and what came of its body with it.

    Raises:
        Unreached: there is none.
    """
    data, until = b"", time.monotonic() + PATIENCE_S
    try:
        connection.settimeout(PATIENCE_S)
        connection.sendall("".join(f"{line}\r\n" for line in (*lines, "")).encode("ascii"))
        while b"\r\n\r\n" not in data and len(data) < MAX_HEAD_BYTES:
            connection.settimeout(max(0.001, until - time.monotonic()))  # 0 would not wait for what is there
            piece = connection.recv(MAX_HEAD_BYTES)
            if not piece:
                break
            data += piece
    except TimeoutError:
        raise Unreached("it takes the connection, and answers nothing") from None
    except OSError as error:
        raise Unreached(_lower(error.strerror)) from None
    head, end, body = data.partition(b"\r\n\r\n")
    try:
        if not end:
            raise Unreached("what it says is not HTTP, or it closes the connection")
        return parse_response_head(head + end, RESPONSE_LIMITS), body
    except Http1Error:
        raise Unreached("what it says is not HTTP") from None


def words_of(body: bytes) -> str:
    """What a node says of an error, out of the beginning of its answer."""
    import json

    with contextlib.suppress(ValueError, RecursionError):
        found = json.loads(body)
        if isinstance(found, dict) and isinstance(found.get("error"), str):
            return printable(found["error"])[:MAX_WORDS]
    return ""


def web_socket(host: str, path: str, fields: Sequence[str] = ()) -> list[str]:
    """The lines of a request that asks for a WebSocket."""
    return [
        f"GET {path} HTTP/1.1",
        f"Host: {host}",
        "Upgrade: websocket",
        "Connection: Upgrade",
        f"Sec-WebSocket-Key: {_KEY}",
        "Sec-WebSocket-Version: 13",
        f"Sec-WebSocket-Protocol: {SUBPROTOCOL_V2}",
        *fields,
    ]


def hello(address: tuple[str, int], cluster: ClusterWords) -> str:
    """Ask for a sign of life over UDP.

    Args:
        address: IP and gossip port.
        cluster: which cluster the node is in.

    Returns:
        The ID of the node that answers.

    Raises:
        Unreached: none does: no packet comes through, or the cluster has another name or secret.
    """
    now = time.monotonic()
    gossip = Gossip(
        GossipSettings(node_id=_own_id(), cluster=cluster.name, secrets=cluster.secrets),
        rng=random.SystemRandom(),
        now=now,
        wall_ms=int(time.time() * 1000),
    )
    there = host_port(*address)
    family = socket.AF_INET6 if ":" in address[0] else socket.AF_INET
    with socket.socket(family, socket.SOCK_DGRAM) as udp:
        udp.settimeout(HELLO_S / HELLOS)
        for _ in range(HELLOS):
            gossip.probes.send(there, time.monotonic())
            try:
                udp.connect(address)  # so that nobody else's packets come, but the kernel's word that nobody listens
                for packet, _ in gossip.packets():
                    udp.send(packet)
                data = udp.recv(65536)
            except TimeoutError:
                continue
            except OSError as error:
                raise Unreached(f"UDP {there}: {_lower(error.strerror)}") from None
            if gossip.receive(data, there, time.monotonic()) is None and gossip.view.members:
                return next(iter(gossip.view.members))
    raise Unreached(f"UDP {there}: no answer")


def link(address: tuple[str, int], node_id: str, cluster: ClusterWords, tls: ssl.SSLContext | None) -> None:
    """Make the handshake of a node link.

    Args:
        address: IP or name, and gossip port.
        node_id: of the node that is expected there.
        cluster: which cluster it is in.
        tls: of links, if they use it.

    Raises:
        Unreached: it would get none.
    """
    keys = link_keys([secret.encode() for secret in cluster.secrets], cluster.name)
    identity = LinkIdentity(cluster=cluster.name, node_id=_own_id(), generation=0, keys=keys)
    handshake = ClientHandshake(identity, node_id, secrets.token_bytes(NONCE_BYTES))
    with contextlib.ExitStack() as end:
        connection = end.enter_context(connect(*address))
        if tls is not None:
            connection = end.enter_context(tls_to(connection, tls, node_id))
        fields = [f"{name}: {value}" for name, value in handshake.headers().items()]
        head, body = ask_head(connection, web_socket(host_port(*address), LINK_PATH.decode("ascii"), fields))
        if head.status != 101:
            raise Unreached(f"TCP {host_port(*address)}: {words_of(body) or f'it answers with {head.status}'}")
        try:
            handshake.check(head)
        except NotThePeer as error:
            raise Unreached(f"TCP {host_port(*address)}: {error}") from None


def _own_id() -> str:
    return f"doctor-{secrets.token_hex(4)}"


def _lower(text: str | None) -> str:
    return text[:1].lower() + text[1:] if text else "it failed"
