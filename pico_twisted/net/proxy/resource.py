"""The twisted.web reverse resource: every request that the proxy port accepts is rendered by it."""

from __future__ import annotations

from random import getrandbits

import attrs
from twisted.web.resource import Resource
from twisted.web.server import NOT_DONE_YET

from pico_twisted.core.access.rules import NO_LIMITS
from pico_twisted.core.http1.client_connection import authenticates_connection
from pico_twisted.core.http1.forwarding import REQUEST_ID_PATTERN
from pico_twisted.core.http1.grpc_errors import grpc_type
from pico_twisted.core.routing.endpoint import EndpointError
from pico_twisted.core.websocket.handshake import TCP_PATH, tcp_endpoint_of
from pico_twisted.net.access.ceilings import NodeCeilings
from pico_twisted.net.access.interfaces import IGate
from pico_twisted.net.proxy.admission import admitted, may_ask, may_begin
from pico_twisted.net.proxy.entrance import Entrance
from pico_twisted.net.proxy.request import ProxyRequest
from pico_twisted.net.proxy.tcp import begin_tcp
from pico_twisted.net.routing.routed_request import RoutedRequest
from pico_twisted.net.routing.settings import RoutingSettings
from pico_twisted.net.routing.upgrade_request import UpgradeRequest


class ReverseResource(Resource):
    """Sends each request to a tunnel that holds its endpoint.

    Args:
        settings: for the `RoutedRequest` of each request.
        ceilings: that requests come in under.
        gate: of the port.
    """

    isLeaf = True

    def __init__(self, settings: RoutingSettings, ceilings: NodeCeilings, gate: IGate) -> None:
        Resource.__init__(self)
        self._settings = settings
        # A call of gRPC has a deadline of its own, and a stream may have nothing to say for a while, not even a head.
        patience_s = max(settings.timeout_s, settings.idle_timeout_s)
        self._grpc_settings = attrs.evolve(settings, timeout_s=patience_s)
        self._ceilings = ceilings
        self._entrance = Entrance(gate, settings.sweep, self.render) if gate.enabled else None

    def render(self, request: ProxyRequest) -> int:
        """Route the request; the answer comes later."""
        head = request.head
        given = head.special.get(b"x-request-id")
        request.request_id = (
            given if given is not None and REQUEST_ID_PATTERN.fullmatch(given) else b"%016x" % getrandbits(64)
        )
        ceilings = self._ceilings
        if ceilings.load.share and request.visitor is None and not may_begin(ceilings, request):
            return NOT_DONE_YET
        if ceilings.requests_per_address is not None and request.visitor is None and not may_ask(ceilings, request):
            return NOT_DONE_YET
        entrance = self._entrance
        if entrance is not None:
            if not entrance.knows(request):
                return NOT_DONE_YET
            head = request.head
        is_tcp = head.target.startswith(TCP_PATH)
        try:
            names = request.connection.port.names
            request.endpoint = tcp_endpoint_of(head) if is_tcp else names.endpoint_of(head)
        except EndpointError as error:
            if entrance is None or entrance.may_hear(request):
                request.fail(error.status, error.message, error.code)
                request.done()
            return NOT_DONE_YET
        if entrance is not None and not entrance.lets_in(request):
            return NOT_DONE_YET
        limited = request.rule is not None and request.rule.limits is not NO_LIMITS
        if (limited or ceilings.active) and not admitted(ceilings, request):
            return NOT_DONE_YET
        if is_tcp:
            begin_tcp(self._settings, request)
            return NOT_DONE_YET
        peer = request.connection.peer
        if b"authorization" in head.special and not peer.connection and peer.trusts is None:
            if authenticates_connection(head):
                if not request.takes_connection():
                    return NOT_DONE_YET
                peer = request.connection.peer
        request.client_connection = peer.connection
        settings = self._settings
        if b"content-type" in head.special and grpc_type(head):
            settings = self._grpc_settings
        if settings.tracer is not None and (begun := settings.tracer.begin(head, request.request_id)) is not None:
            request.span, request.head = begun
        forward = request.forward = (RoutedRequest if head.upgrade is None else UpgradeRequest)(settings, request)
        trailers = request.trailers
        forward.start(request.body, request.body_complete and not trailers)
        if trailers:
            forward.trailers(trailers)
        return NOT_DONE_YET
