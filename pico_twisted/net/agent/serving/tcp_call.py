"""One TCP call on its way through the agent: a connection to the service, and then bytes both ways.

What is needed. The caller has to know whether the service was reached before it sends a byte, and why not. So the 101
leaves once there is a connection, and before that an error is an answer as of an http call. From the 101 on it is a
call like one behind an upgrade (`upgraded`): each side may end its stream first, and a connection that breaks is a
reset at the other end.

What can go wrong. The caller sends before the 101: it does not know the protocol. The service refuses, hangs, or resets
at once; a client gives up while it is dialled. None of that costs more than this call.
"""

from __future__ import annotations

from typing import Final

from zope.interface import implementer

from pico_twisted.core.agent.service_call import ServiceRequest, ServiceResponse
from pico_twisted.core.http1.errors import Http1Error
from pico_twisted.core.protocol_limits import REQUEST_LIMITS
from pico_twisted.core.rpc.call import Call
from pico_twisted.core.rpc.http import CallProtocolError
from pico_twisted.net.agent.serving.connection import ServiceConnection
from pico_twisted.net.agent.serving.policy import Denied
from pico_twisted.net.agent.serving.served_call import ConnectionCall, Stage
from pico_twisted.net.agent.serving.tcp_service import TcpService
from pico_twisted.net.agent.serving.upgraded import UpgradedCall
from pico_twisted.net.socket.options import keep_watch
from pico_twisted.net.tunnel.interfaces import ICaller, IHttpReceiver

METHOD: Final = b"TCP"
"""What stands for the method of a TCP call in the metrics and the access log."""

_CONNECTED: Final = b"HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: tcp\r\n\r\n"


@implementer(IHttpReceiver)
class TcpCall(ConnectionCall):
    """Serves one TCP call until its service is reached.

    Args:
        service: serves it.
        tunnel: the session that the call is on.
        call: the call.
    """

    _service: TcpService

    def __init__(self, service: TcpService, tunnel: ICaller, call: Call) -> None:
        request = ServiceRequest(tunnel.dialect.read_request(REQUEST_LIMITS))
        super().__init__(service, tunnel, call, request, ServiceResponse(request))

    def begin(self, payload: bytes, more: bool) -> None:
        """Take the call's first frame.

        Args:
            payload: of the frame.
            more: further frames follow.
        """
        request, service = self._request, self._service
        try:
            request.begin(payload, more, host=None)
            if not request.upgrade_asked or request.body_bytes:
                raise CallProtocolError("a TCP call begins with a head that offers an upgrade, and nothing else")
            request.method = METHOD
            if service.policy is not None:
                service.policy.judge(self._call, request)
            waits = None if service.places is None else service.places.enter(self._call, request.client)
        except (Http1Error, CallProtocolError) as error:
            self._refuse(error)
            return
        except Denied as denied:
            self._fail(*denied.answer)
            return
        self._tunnel.consumed(self._call, len(payload))
        opening = self._opening = self._dial() if waits is None else waits.addCallback(lambda _: self._dial())
        opening.addCallbacks(self._opened, self._unreachable)
        opening.addErrback(self._broken)

    def frame(self, payload: bytes, more: bool) -> None:
        """A further frame of the caller (IHttpReceiver), which is to wait for our answer."""
        if self._stage is Stage.LINGERING:
            if not more:
                self._over()
        else:
            self._refuse(CallProtocolError("bytes of a TCP call before its 101"))

    def trailers(self, block: bytes) -> None:
        """The caller breaks the rules: there are no trailers here (IHttpReceiver)."""
        self._refuse(CallProtocolError("trailers where there are none"))

    def drained(self) -> None:
        """An answer in the service's place has left (IHttpReceiver)."""

    def _opened(self, connection: ServiceConnection) -> None:
        self._opening = None
        keep_watch(connection.transport)
        health = self._service.health
        if health is not None and health.judge.failures:
            health.answered(self._started)
        self._stage = Stage.OVER
        upgraded = UpgradedCall(self, connection)
        connection.user = self._call.receiver = upgraded
        self._service.calls.discard(self)
        self._service.calls.add(upgraded)
        upgraded.begin(_CONNECTED)
