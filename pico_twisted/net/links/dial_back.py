"""Whether a node can be reached at an address: dialled once, and told in words.

A node that joins asks another one to dial it back where it says that it is, since only others can know whether that is
true. The one that dials is no help to an attacker. It does so only for who has a link to it, and so has proven itself
where the cluster has secrets; it sends a few small packets and makes one connection, no more than gossip would do once
that node is a member; and it does so `MOST_A_SECOND` times a second at most, whoever asks.
"""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Callable
from typing import Final

from twisted.internet.defer import Deferred, DeferredList, succeed
from twisted.internet.error import ConnectError
from twisted.internet.interfaces import IReactorTime
from twisted.python.failure import Failure
from zope.interface import implementer

from pico_twisted.core.links.sync_frames import Reached, encode_reached
from pico_twisted.core.rpc.call import Call
from pico_twisted.core.rpc.frames import REFUSED_NOT_HERE
from pico_twisted.net.links.failures import explained
from pico_twisted.net.links.handshake import LinkClientProtocol
from pico_twisted.net.tunnel.interfaces import ICallAcceptor, ITunnel

MOST_A_SECOND: Final = 8
"""Most nodes that are dialled back in one second. A node that is refused asks again, or another one."""


@implementer(ICallAcceptor)
class DialledOnce:
    """A link that is closed as soon as the other node believes us."""

    def __init__(self) -> None:
        self._tunnel: LinkClientProtocol | None = None
        self._proven: Deferred[None] = Deferred()

    def opened(self, tunnel: LinkClientProtocol) -> Deferred[None]:
        """The connection is there. Returns what fires when the other node believes us, and fails when it does not."""
        self._tunnel = tunnel
        tunnel.closed.addCallback(self._closed)
        return self._proven.addBoth(self._end)

    def _end(self, outcome: object) -> object:
        assert self._tunnel is not None
        self._tunnel.abort()
        return outcome

    def _closed(self, closed: object) -> object:
        if not self._proven.called:
            self._proven.errback(ConnectError(string=f"closed: {getattr(closed, 'reason', '')}"))
        return closed

    def proven(self) -> None:
        """The other node believes us."""
        if not self._proven.called:
            self._proven.callback(None)

    def call_opened(self, tunnel: ITunnel, call: Call, kind: int, payload: bytes, more: bool) -> None:
        """Nothing is served here. See `ICallAcceptor.call_opened`."""
        tunnel.reset(call, REFUSED_NOT_HERE)

    def drain_requested(self, tunnel: ITunnel) -> None:
        """The link is about to be closed anyway."""


def words_of(failure: Failure) -> str:
    """Why a node was not reached over TCP, in few words."""
    error = failure.value
    if isinstance(error, ConnectError) and isinstance(error.osError, OSError) and error.osError.errno:
        return _short(os.strerror(error.osError.errno))
    return explained(failure)[1]


def _short(text: str) -> str:
    return text[:1].lower() + text[1:]


class DialBack:
    """Dials nodes back that ask for it.

    Args:
        clock: tells the time.
        udp: called with an address, `host:port`, and the ID of the node that is expected there; a Deferred of whether
            it answers packets.
        tcp: likewise; a Deferred that fails when no link can be opened.
    """

    def __init__(
        self,
        clock: IReactorTime,
        udp: Callable[[str, str], Deferred[bool]],
        tcp: Callable[[str, str], Deferred[None]],
    ) -> None:
        self._clock = clock
        self._udp = udp
        self._tcp = tcp
        self._begun_at: deque[float] = deque(maxlen=MOST_A_SECOND)

    def dial(self, node_id: str, address: str) -> Deferred[bytes | None]:
        """Try to reach a node at an address.

        Args:
            node_id: of the node.
            address: `host:port`.

        Returns:
            A Deferred of the answer to it, see `encode_reached`; of None when that is too much now.
        """
        now = self._clock.seconds()
        if len(self._begun_at) == MOST_A_SECOND and now - self._begun_at[0] < 1.0:
            return succeed(None)
        self._begun_at.append(now)
        tcp = self._tcp(address, node_id).addCallbacks(lambda _: "", words_of)
        udp = self._udp(address, node_id).addCallback(lambda answers: "" if answers else "no answer")
        both: Deferred[list[tuple[bool, str]]] = DeferredList([udp, tcp])
        return both.addCallback(lambda found: encode_reached(Reached(found[0][1], found[1][1])))
