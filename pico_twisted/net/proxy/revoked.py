"""Clients that are revoked: what they have in progress may finish within the grace period, and is cut then.

Their next request is refused by the gate, so only requests that have begun are looked for here: a long one, a stream,
or an upgraded connection, which would go on for as long as the client likes.
"""

from __future__ import annotations

from typing import Final

from twisted.logger import Logger

from pico_twisted.core.access.revocations import Revocations
from pico_twisted.core.access.subject import Reason, Subject
from pico_twisted.net.proxy.port import ClientRequest, ProxyPort

log = Logger()

REVOKED: Final = Reason.REVOKED.value
"""The error of a request that was cut so, in the access log."""


class RevokedClients:
    """Ends what clients of a port have in progress once they are revoked.

    Args:
        port: the proxy port.
        revoked: says who is.
        grace_s: how long requests in progress may take.
    """

    def __init__(self, port: ProxyPort, revoked: Revocations, grace_s: float) -> None:
        self._port = port
        self._revoked = revoked
        self._grace_s = grace_s
        self._sweep = port.settings.sweep
        self._until: dict[ClientRequest, float] = {}
        self._sweep.each(self._look)

    def end(self) -> int:
        """Somebody was revoked, or that was taken back. Returns how many requests that ends."""
        until = self._sweep.now + self._grace_s
        theirs = [one for one in self._port.in_progress() if one not in self._until and self._subject(one) is not None]
        self._until.update(dict.fromkeys(theirs, until))
        return len(theirs)

    def _subject(self, request: ClientRequest) -> Subject | None:
        """Who a request is from, if they are revoked."""
        visitor = request.visitor
        return visitor.subject if visitor is not None and self._revoked.is_revoked(visitor.subject) else None

    def _look(self, now: float) -> None:
        due = [one for one, until in self._until.items() if now >= until]
        if not due:
            return
        in_progress = set(self._port.in_progress())
        for request in due:
            del self._until[request]
            subject = self._subject(request)
            if subject is not None and request in in_progress:
                log.info("A request of {subject} is cut: it was revoked", subject=subject.name)
                request.shut(REVOKED)
