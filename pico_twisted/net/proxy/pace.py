"""Clients that send the body of a request so slowly that it never ends.

Each holds a call of the node and perhaps a connection of the service, for the price of a byte now and then. So a body
has to come at some rate on average, with time ahead, for as long as the response has not begun: from then on it is the
service that decides to go on. What we do not read, since the service is slow, is not held against the client.
"""

from __future__ import annotations

from typing import Final

from pico_twisted.net.proxy.request import ProxyRequest

GRACE_S: Final = 30.0
"""Seconds that a body may be behind its rate: a lost connection of a phone is back by then, or gone."""

LOOK_S: Final = 5.0
"""Seconds between two looks at a body that comes."""


class BodyPace:
    """Looks now and then at how fast the body of a request has come, until it is complete or a response begins.

    Args:
        request: in progress.
    """

    def __init__(self, request: ProxyRequest) -> None:
        self._request = request
        self._sweep = request.connection.port.settings.sweep
        self._since = self._sweep.now
        self._before = 0  # bytes that had come by then
        self.deadline = self._since + LOOK_S
        request.awaits_continue = request.head.expect_continue
        self._sweep.add(self)

    def deadline_passed(self, now: float) -> None:
        """It is time for a look."""
        request, port = self._request, self._request.connection.port
        if request.body_complete or request.status:
            self._sweep.discard(self)
            return
        self.deadline = now + LOOK_S
        if not request.is_read or (request.awaits_continue and not request.bytes_in):
            self._since, self._before = now, request.bytes_in  # the client cannot send now, or need not
        elif request.bytes_in - self._before < port.min_body_rate * (now - self._since - GRACE_S):
            request.break_off(port.body_too_slow())
