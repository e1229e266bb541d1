"""The token that an agent shows: in each handshake, and on the sessions that are open when it has another one.

What is needed. A token for an hour holds a session of weeks only if the next one is shown on it before the first one
ends. What can go wrong. A node looks at one credential at a time, and says so. It may refuse the new one, and then the
session goes on with the old one, as long as that is good; the node says why, and the operator has to hear of it. It may
know the token a moment later, so it is asked again. An agent may have thousands of sessions, and their nodes must not
be made to check thousands of signatures at once.
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import islice
from typing import Final

from prometheus_client.core import GaugeMetricFamily
from twisted.internet.interfaces import IReactorTime
from twisted.logger import Logger
from zope.interface import implementer

from pico_twisted.core.rpc.capabilities import CREDENTIAL_CALLS
from pico_twisted.core.rpc.credential import Verdict, decode_verdict
from pico_twisted.core.rpc.frames import CREDENTIAL, REFUSED_BUSY
from pico_twisted.net.observe.repeated_warning import RepeatedWarning
from pico_twisted.net.tunnel import TunnelClientProtocol
from pico_twisted.net.tunnel.interfaces import Closed, ICallReceiver

log = Logger()

SHOWN_AT_ONCE: Final = 100
"""Most sessions on which a new token is shown in one look: with one a second, ten thousand have seen it in 100 s."""
AGAIN_S: Final = 30.0
"""Seconds after which a refused token is shown again: whoever renews it may tell the agent before the nodes."""


class ShownToken:
    """The token of an agent.

    Args:
        token: the first one; empty for none.
        clock: tells the time.

    Attributes:
        token: that is shown now.
    """

    def __init__(self, token: str, clock: IReactorTime) -> None:
        self.token = token
        self._clock = clock
        self._last_shown: dict[TunnelClientProtocol, str] = {}
        self._behind: dict[TunnelClientProtocol, None] = {}  # sessions on which the present one is to be shown
        self._refused_on: dict[TunnelClientProtocol, None] = {}  # those on which it is to be shown again
        self._again_at = 0.0
        self._accepted = RepeatedWarning()
        self._refusals = RepeatedWarning()

    def opened(self, tunnel: TunnelClientProtocol, token: str) -> None:
        """A session is open, which was dialled with a token that may not be the present one any more."""
        self._last_shown[tunnel] = token
        tunnel.closed.addCallback(self._closed, tunnel)
        self._look_at(tunnel)

    def _closed(self, closed: Closed, tunnel: TunnelClientProtocol) -> Closed:
        self._last_shown.pop(tunnel, None)
        self._behind.pop(tunnel, None)
        self._refused_on.pop(tunnel, None)
        return closed

    def change(self, token: str) -> None:
        """There is another one."""
        self.token = token
        self._behind.clear()
        self._refused_on.clear()
        for tunnel in self._last_shown:
            self._look_at(tunnel)
        self.look()

    def _look_at(self, tunnel: TunnelClientProtocol) -> None:
        knows = CREDENTIAL_CALLS in tunnel.capabilities and tunnel.version > 1
        if self.token and knows and self._last_shown.get(tunnel, self.token) != self.token:
            self._behind[tunnel] = None

    def look(self) -> None:
        """Show it on sessions that have not seen it. Called about once a second."""
        if self._refused_on and self._clock.seconds() >= self._again_at:
            self._behind.update(self._refused_on)
            self._refused_on.clear()
        for tunnel in list(islice(self._behind, SHOWN_AT_ONCE)):
            del self._behind[tunnel]
            self._last_shown[tunnel] = self.token
            tunnel.call(CREDENTIAL, self.token.encode("ascii"), False, _Answer(self, tunnel, self.token))

    def expiry(self) -> Iterator[GaugeMetricFamily]:
        """When the first credential ends, for the metrics."""
        known = [until for tunnel in self._last_shown if (until := tunnel.credential_until) is not None]
        if known:
            name = "pico_agent_credential_expiry_timestamp_seconds"
            yield GaugeMetricFamily(name, "When the first credential ends that holds a session.", value=min(known))

    def answered(self, tunnel: TunnelClientProtocol, token: str, verdict: Verdict) -> None:
        """A node has answered."""
        now, node = self._clock.seconds(), tunnel.node_id or tunnel.peer
        if verdict.accepted:
            tunnel.credential_until = verdict.expires_at
            if self._accepted.due(f"{node} {token}", now) is not None:
                log.info("The new token is good at node {node}", node=node, endpoint=tunnel.endpoint)
            return
        if token == self.token and tunnel in self._last_shown:
            self._refused_on[tunnel] = None
            self._again_at = now + AGAIN_S
        words = verdict.words.replace(token, "(the token)")
        suppressed = self._refusals.due(f"{node} {words}", now)
        if suppressed is not None:
            log.warn(
                "Node {node} refuses the new token, and sessions go on with the old one: {reason}",
                node=node,
                endpoint=tunnel.endpoint,
                reason=words,
                suppressed=suppressed,
            )

    def busy(self, tunnel: TunnelClientProtocol) -> None:
        """A node looks at no other credential now: show it again."""
        if tunnel in self._last_shown and self.token:
            self._behind[tunnel] = None


@implementer(ICallReceiver)
class _Answer:
    """Takes a node's answer."""

    def __init__(self, owner: ShownToken, tunnel: TunnelClientProtocol, token: str) -> None:
        self._owner = owner
        self._tunnel = tunnel
        self._token = token
        self._answered = False

    def frame(self, payload: bytes, more: bool) -> None:
        """The first frame is the answer; whatever follows is none."""
        if not self._answered:
            self._answered = True
            self._owner.answered(self._tunnel, self._token, decode_verdict(payload))

    def reset(self, code: str, text: str) -> None:
        """No answer comes."""
        if code == REFUSED_BUSY:
            self._owner.busy(self._tunnel)
        else:
            log.warn("Node {node} did not answer about the new token: {reason}", node=self._tunnel.node_id, reason=code)

    def lost(self) -> None:
        """The session has ended, and the next one shows the token anyway."""

    def drained(self) -> None:
        """Nothing waits."""
