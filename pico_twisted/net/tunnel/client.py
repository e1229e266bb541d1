"""The client's role: connect to a node, register an endpoint, and say why when that is refused."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Final

from autobahn.twisted.websocket import WebSocketClientFactory, WebSocketClientProtocol
from twisted.internet.defer import Deferred
from twisted.internet.error import ConnectionDone, ConnectionLost
from twisted.internet.interfaces import IAddress, IReactorTime, ISSLTransport, IStreamClientEndpoint
from twisted.internet.protocol import connectionDone
from twisted.logger import Logger
from twisted.python.failure import Failure

from pico_twisted.config import ClientTlsConfig
from pico_twisted.core.forward_proxy import ForwardProxy
from pico_twisted.core.http1.errors import Http1Error
from pico_twisted.core.http1.head import ResponseHead, parse_response_head
from pico_twisted.core.http1.refusal import MAX_REFUSAL_BODY_BYTES
from pico_twisted.core.links.handshake import NotThePeer
from pico_twisted.core.public_url import PUBLIC_URL_PATTERN
from pico_twisted.core.rpc.capabilities import DRAIN_TWICE, OWN_CAPABILITIES, ZERO_MASKS, capabilities_of
from pico_twisted.core.rpc.dialect import V2
from pico_twisted.core.rpc.frames import CLIENT_GONE, DRAIN, HEALTH, HTTP, SUBPROTOCOL_V2, TCP, nodes_of
from pico_twisted.core.text import bracketed, printable
from pico_twisted.net.socket.dialling import DialReactor
from pico_twisted.net.socket.options import tune
from pico_twisted.net.tunnel.attempts import (
    HandshakeRefused,
    HandshakeTimeout,
    NobodyThere,
    refusal_of,
)
from pico_twisted.net.tunnel.dialling import NodeUrl, node_endpoint
from pico_twisted.net.tunnel.idle import shrink, slim_class
from pico_twisted.net.tunnel.interfaces import ICallAcceptor
from pico_twisted.net.tunnel.parts import AFFINITY, CREDENTIAL_UNTIL, LISTENER_PATH, TunnelParts
from pico_twisted.net.tunnel.session_pump import Tunnel
from pico_twisted.net.tunnel.websocket_pipe import Masks, Stage, autobahn_log

log = Logger(namespace="pico_twisted.net.tunnel")

_slim: dict[type[TunnelClientProtocol], type[TunnelClientProtocol]] = {}
_PROXY = re.compile(rb"https?:[0-9]{1,5}")
_DEFAULT_TLS: Final = ClientTlsConfig()
_SECONDS = re.compile(rb"[0-9]{1,10}")
_COUNT = re.compile(rb"[0-9]{1,5}")
_ASCII = bytes(byte if byte < 0x80 else 0x3F for byte in range(256))


class TunnelClientProtocol(Tunnel, WebSocketClientProtocol):  # type: ignore[misc]
    """Our connection to a node.

    Attributes:
        proxy: scheme and port of the node's proxy port, `http:8000`; "" when it did not say.
        public_url: where clients reach endpoints, as the node told it; "" when it did not.
        shared_with: who else serves the endpoint, in words; "" when the node knows of nobody.
        credential_until: when the credential that holds the session ends, in seconds since 1970; None when it does not,
            or the node did not say.
    """

    factory: TunnelClientFactory
    _answer_head: ResponseHead | None = None
    proxy = ""
    public_url = ""
    shared_with = ""
    credential_until: float | None = None
    _nodes = 1
    _resigned = False
    _masks = Masks.RANDOM

    def connectionMade(self) -> None:
        self.parts = self.factory.parts
        self.acceptor = self.factory.acceptor
        self.endpoint = self.factory.endpoint
        self.agent_id = self.factory.agent_id
        self.slot = self.factory.slot
        self.speaks = self.factory.speaks
        self._head = b""
        tune(self.transport)
        super().connectionMade()

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        self.parts.sweep.discard(self)
        if self._stage is Stage.OPENING:
            if self._answer_head is not None:
                self._refused(self._answer_head)
            else:
                if reason.check(ConnectionDone, ConnectionLost):
                    begun = ConnectionLost("closed during the handshake")
                    reason = Failure(begun if self._head else NobodyThere("it was closed without an answer"))
                self.factory.failed(reason)
        super().connectionLost(reason)

    def _handshake(self, data: bytes) -> None:
        self._head += data
        if self._answer_head is None:
            limits = self.parts.head_limits
            end = self._head.find(b"\r\n\r\n", 0, limits.head_bytes)
            if end < 0:
                if len(self._head) >= limits.head_bytes:
                    self._give_up(HandshakeRefused(502, "the answer's head is too large"))
                return
            try:
                head = parse_response_head(self._head[: end + 4], limits)
            except Http1Error as error:
                self._give_up(HandshakeRefused(502, f"not an answer to a WebSocket handshake: {error.message}"))
                return
            if head.status == 101:
                try:
                    self._take_answer(head)
                except NotThePeer as error:
                    self._give_up(error)
                    return
                # Autobahn reads an answer as UTF-8, which what proxies on the way have added need not be.
                whole = self._head[: end + 4].translate(_ASCII) + self._head[end + 4 :]
                self._head = b""
                if self._shake_hands(whole):
                    shrink(self)
                return
            self._answer_head = head
            self._head = self._head[end + 4 :]
        wanted = self._answer_head.length
        enough = MAX_REFUSAL_BODY_BYTES if wanted is None else min(wanted, MAX_REFUSAL_BODY_BYTES)
        if len(self._head) >= enough:
            self._refused(self._answer_head)

    def _take_answer(self, head: ResponseHead) -> None:
        """Look at the head of a 101, before anything more is sent.

        Raises:
            NotThePeer: nothing more will be sent.
        """
        self.capabilities = capabilities_of(head)
        if ZERO_MASKS in self.capabilities and ISSLTransport.providedBy(self.transport):
            self._masks = Masks.ZEROS
        node_id = head.get(b"x-pico-node-id")
        if node_id is not None:
            self.node_id = printable(node_id[:64].decode("ascii", "replace"))
        proxy = _PROXY.fullmatch(head.get(b"x-pico-proxy") or b"")
        if proxy is not None:
            self.proxy = proxy.group().decode("ascii")
        public_url = printable((head.get(b"x-pico-public-url") or b"").decode("latin-1"))
        self.public_url = public_url if PUBLIC_URL_PATTERN.fullmatch(public_url) else ""
        self.shared_with = printable((head.get(b"x-pico-shared-with") or b"")[:200].decode("ascii", "replace"))
        until = _SECONDS.fullmatch(head.get(CREDENTIAL_UNTIL.encode("ascii")) or b"")
        if until is not None:
            self.credential_until = float(until.group())
        nodes = _COUNT.fullmatch(head.get(b"x-pico-nodes") or b"")
        if nodes is not None:
            self._nodes = int(nodes.group())

    @property
    def nodes(self) -> int:
        """How many nodes take agents, as the node said last: in its answer, or since then with a heartbeat."""
        note = self.session.note
        return self._nodes if note is None else nodes_of(note) or self._nodes

    @property
    def silent(self) -> bool:
        """The node was asked for a sign of life, and gave none."""
        return self.session.is_silent(self.parts.sweep.now)

    def resign(self) -> None:
        """Ask the node to call us only when nobody else can serve. Does nothing at a node that does not understand."""
        if DRAIN_TWICE in self.capabilities and not self._resigned and self._stage is Stage.OPEN:
            self._resigned = True
            self.session.call(DRAIN, b"", False)
            self._drain_waiters.append([])
            self._pump()

    def drain(self) -> Deferred[None]:
        """Tell the node that no call may start any more. See `ITunnel.drain`."""
        self.resign()
        return super().drain()

    def _refused(self, head: ResponseHead) -> None:
        self._answer_head = None
        self._give_up(refusal_of(head, self._head, self.factory.token))

    def _give_up(self, error: Exception) -> None:
        self.factory.failed(Failure(error))
        self.transport.abortConnection()

    def failHandshake(self, reason: str) -> None:
        """What Autobahn found wrong with a 101."""
        self._give_up(HandshakeRefused(502, printable(reason)))

    def onOpen(self) -> None:
        dialect = V2 if self.websocket_protocol_in_use == SUBPROTOCOL_V2 else self.parts.v1
        self._start_session(dialect, asks_always=False, serves=(HTTP, TCP, CLIENT_GONE, HEALTH))
        self.factory.opened(self)


class TunnelClientFactory(WebSocketClientFactory):
    """Makes the one protocol of one attempt; `ready` fires with it when its session is open."""

    log = autobahn_log
    noisy = False
    protocol = TunnelClientProtocol  # type: ignore[assignment]  # it knows its factory better than Twisted does

    def __init__(
        self,
        parts: TunnelParts,
        *,
        url: str,
        headers: Mapping[str, str],
        acceptor: ICallAcceptor,
        agent_id: str,
        endpoint: str = "",
        slot: str = "",
        token: str = "",
        speaks: str = "http",
        reactor: IReactorTime,
    ) -> None:
        if token:
            headers = {**headers, "Authorization": f"Bearer {token}"}
        super().__init__(  # type: ignore[no-untyped-call]  # of Autobahn
            url, headers=dict(headers), protocols=[SUBPROTOCOL_V2], useragent=f"pico/{parts.version}", reactor=reactor
        )
        self.host = bracketed(self.host)  # Autobahn takes the brackets off, and then sends a Host without them
        self.parts = parts
        self.acceptor = acceptor
        self.endpoint = endpoint
        self.agent_id = agent_id
        self.slot = slot
        self.token = token
        self.speaks = speaks
        self.ready: Deferred[TunnelClientProtocol] = Deferred()
        self.setProtocolOptions(  # likewise
            openHandshakeTimeout=0,
            closeHandshakeTimeout=0,
            serverConnectionDropTimeout=0,
            autoPingInterval=0,
            tcpNoDelay=False,
        )

    def buildProtocol(self, addr: IAddress | None) -> TunnelClientProtocol:  # type: ignore[override]  # likewise
        """The protocol of the attempt."""
        slim = _slim.get(self.protocol)
        if slim is None:  # all factories of a protocol have the same options
            slim = _slim[self.protocol] = slim_class(self.protocol, self)
        protocol = slim()
        protocol.factory = self
        return protocol

    def opened(self, tunnel: TunnelClientProtocol) -> None:
        """The session is open."""
        if not self.ready.called:
            self.ready.callback(tunnel)

    def failed(self, reason: Failure) -> None:
        """The attempt is over."""
        if not self.ready.called:
            self.ready.errback(reason)


def connect_tunnel(
    reactor: DialReactor,
    parts: TunnelParts,
    url: str,
    *,
    endpoint_id: str,
    agent_id: str,
    slot: str,
    elsewhere: Sequence[str] = (),
    token: str = "",
    share: bool = True,
    speaks: str = "http",
    affinity: str = "none",
    tls: ClientTlsConfig = _DEFAULT_TLS,
    proxy: ForwardProxy | None = None,
    acceptor: ICallAcceptor,
    timeout_s: float,
) -> Deferred[TunnelClientProtocol]:
    """Connect to a node and register an endpoint.

    Args:
        reactor: dials, and keeps the deadline.
        parts: what all sessions of the process share.
        url: http, https, ws or wss, in which a path comes before ours; or `unix:/path`.
        endpoint_id: of the endpoint to register.
        agent_id: of this agent.
        slot: which of the agent's registrations of the endpoint this is.
        elsewhere: IDs of nodes that may refuse us, if another node would take us.
        token: sent as a Bearer token when not empty.
        share: whether others may serve the endpoint, too.
        speaks: what the service behind the endpoint speaks.
        affinity: what ties its clients to an agent.
        tls: how the node's certificate is checked, and which one we show.
        proxy: through which the node is reached; None for none.
        acceptor: an `ICallAcceptor`, for the requests.
        timeout_s: for the connection, TLS and the WebSocket handshake together.

    Returns:
        A Deferred that fires with the open tunnel. It fails with `HandshakeRefused`, `HandshakeTimeout`, `ProxyFailed`,
        or what the connection failed with (Twisted's connection errors, OpenSSL's).
    """
    node = NodeUrl.of(url)
    headers = {"x-pico-agent-id": agent_id, "x-pico-agent-version": parts.version, "x-pico-slot": slot}
    headers.update(OWN_CAPABILITIES)
    if elsewhere:
        headers["x-pico-elsewhere"] = ",".join(elsewhere)
    if not share:
        headers["x-pico-share"] = "no"
    if speaks != "http":
        headers["x-pico-protocol"] = speaks
    if affinity != "none":
        headers[AFFINITY.decode("ascii")] = affinity
    factory = TunnelClientFactory(
        parts,
        url=node.web_socket + LISTENER_PATH.decode("ascii") + endpoint_id,
        headers=headers,
        acceptor=acceptor,
        endpoint=endpoint_id.lower(),
        agent_id=agent_id,
        slot=slot,
        token=token,
        speaks=speaks,
        reactor=reactor,
    )
    endpoint = node_endpoint(reactor, node, tls, timeout_s, proxy, f"pico/{parts.version}")
    return open_tunnel(factory, endpoint, timeout_s)


def open_tunnel(
    factory: TunnelClientFactory, endpoint: IStreamClientEndpoint, timeout_s: float
) -> Deferred[TunnelClientProtocol]:
    """Make one attempt.

    Args:
        factory: of this attempt alone.
        endpoint: where to connect.
        timeout_s: for everything up to the open session.

    Returns:
        As `connect_tunnel`. Cancelling it gives the attempt up.
    """
    protocols: list[TunnelClientProtocol] = []
    connecting = endpoint.connect(factory)
    connecting.addCallbacks(protocols.append, factory.failed)

    def give_up(error: Exception) -> None:
        factory.failed(Failure(error))
        connecting.cancel()
        for protocol in protocols:
            protocol.transport.abortConnection()

    result: Deferred[TunnelClientProtocol] = Deferred(lambda _: give_up(HandshakeTimeout("cancelled")))
    timer = factory.parts.clock.callLater(timeout_s, give_up, HandshakeTimeout(f"no session after {timeout_s:g} s"))

    def done(outcome: TunnelClientProtocol | Failure) -> None:
        if timer.active():
            timer.cancel()
        if not result.called:
            result.callback(outcome)

    factory.ready.addBoth(done)
    return result
