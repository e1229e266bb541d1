"""A call behind its 101: raw bytes between the caller and the service, until both have ended. No time is too long.

A service that has ended its half, and then resets the connection, has not taken what it was sent. The kernel tells that
to whoever reads or writes, and nobody may: so such a connection is looked at once a second. And one that takes nothing
for a while has not ended: so the call is over when the kernel has all that came, and not before.
"""

from __future__ import annotations

from functools import partial
from typing import Final

from zope.interface import implementer

from pico_twisted.core.agent.service_call import ENDED
from pico_twisted.core.rpc.frames import FAILED, PROTOCOL
from pico_twisted.core.sweep import NEVER
from pico_twisted.net.agent.serving.connection import ServiceConnection
from pico_twisted.net.agent.serving.served_call import ConnectionCall, Stage
from pico_twisted.net.socket.options import holds_output, is_dead
from pico_twisted.net.tunnel.interfaces import IHttpReceiver

_BROKEN: Final = "the service broke the connection"

LOOK_S: Final = 1.0
"""Seconds between two looks at a connection whose service has ended its half."""


@implementer(IHttpReceiver)
class UpgradedCall(ConnectionCall):
    """Passes the bytes of one call on.

    Args:
        before: the call so far, which is not to be used any more.
        connection: to the service.
    """

    def __init__(self, before: ConnectionCall, connection: ServiceConnection) -> None:
        super().__init__(before._service, before._tunnel, before._call, before._request, before._response)
        self._stage = Stage.UPGRADED
        self._started = before._started
        self.span = before.span
        self._status = 101
        self._owed = before._owed
        self._connection = connection

    def begin(self, data: bytes) -> None:
        """Begin with the 101 and what was read behind it."""
        connection = self._connection
        assert connection is not None
        connection.deadline = NEVER
        self._send(connection, data)
        if self._request.body is ENDED and self._connection is connection:
            connection.end_writing()

    def frame(self, payload: bytes, more: bool) -> None:
        """Bytes for the service (ICallReceiver)."""
        connection = self._connection
        if connection is None:
            if not more:
                self._over()
            return
        self._request.body_bytes += len(payload)
        self._owed += len(payload)
        if payload:
            connection.write(payload)
        if connection.writable:
            self.service_took()
        if not more:
            self._request.body = ENDED
            connection.end_writing()
            if self._stage is Stage.HALF_UPGRADED:
                self._leave_once_sent(connection)

    def trailers(self, block: bytes) -> None:
        """The caller breaks the rules: an upgraded protocol has no trailers (IHttpReceiver)."""
        self._give_up(PROTOCOL, "trailers where there are none")

    def drained(self) -> None:
        """What was queued for the caller has gone (ICallReceiver)."""
        if self._connection is not None:
            self._connection.resume()

    def service_took(self) -> None:
        """The service's transport wrote what it had."""
        owed, self._owed = self._owed, 0
        self._tunnel.consumed(self._call, owed)

    def service_data(self, data: bytes) -> None:
        """Bytes for the caller."""
        connection = self._connection
        assert connection is not None
        self._response.body_bytes += len(data)
        self._send(connection, data)

    def service_ended(self) -> None:
        """The service closed its half of the connection."""
        connection = self._connection
        assert connection is not None
        self._stage = Stage.HALF_UPGRADED
        self._tunnel.send(self._call, b"", False)
        connection.deadline = self._service.sweep.now + LOOK_S
        if self._request.body is ENDED:
            self._leave_once_sent(connection)

    def service_lost(self) -> None:
        """The connection is gone."""
        self._cut()
        end_of_turn = self._service.end_of_turn
        if self._stage is Stage.HALF_UPGRADED:
            self._linger(0.0)
        elif end_of_turn is not None and self._call.queued:
            end_of_turn.add(partial(self._give_up, FAILED, _BROKEN))  # a reset would overtake its last words
        else:
            self._give_up(FAILED, _BROKEN)

    def service_late(self, now: float) -> None:
        """Look at the connection of a service that has ended its half."""
        connection = self._connection
        assert connection is not None
        connection.deadline = now + LOOK_S
        if self._request.body is ENDED:
            self._leave_once_sent(connection)
        if self._connection is connection and is_dead(connection.transport):
            self.service_lost()

    def _leave_once_sent(self, connection: ServiceConnection) -> None:
        """Both streams have ended: the call is over, unless something waits for the service."""
        if holds_output(connection.transport):
            return
        self._connection = None
        connection.user = None
        connection.close()
        self._over()
