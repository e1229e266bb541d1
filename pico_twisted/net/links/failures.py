"""What is remembered of nodes that no link could be opened to: when each may be dialled again, and what was logged."""

from __future__ import annotations

from typing import Final

from twisted.internet.error import ConnectError, DNSLookupError
from twisted.internet.interfaces import IReactorTime
from twisted.logger import Logger
from twisted.python.failure import Failure

from pico_twisted.core.backoff import Backoff
from pico_twisted.core.links.handshake import NotThePeer
from pico_twisted.net.observe.metrics import Metrics
from pico_twisted.net.observe.repeated_warning import RepeatedWarning
from pico_twisted.net.tls.client import explain_tls
from pico_twisted.net.tls.failures import TIMED_OUT, connect_failure_text
from pico_twisted.net.tunnel import HandshakeRefused, HandshakeTimeout

log = Logger()

FIRST_WAIT_S: Final = 0.2
"""Seconds for which a node is not dialled after an attempt in vain. They double with each further one."""
MAX_WAIT_S: Final = 2.0
"""Most seconds for which a node is not dialled: users wait for the first request after it came back."""
FORGET_S: Final = 60.0
"""Seconds after the last attempt until a node's failures are forgotten."""


class _Failed:
    """What is remembered of one node."""

    __slots__ = ("backoff", "last_at", "until", "warnings", "words")

    def __init__(self) -> None:
        self.backoff = Backoff(FIRST_WAIT_S, MAX_WAIT_S)
        self.last_at = 0.0
        self.until = 0.0
        self.words = ""
        self.warnings = RepeatedWarning()


class DialFailures:
    """The attempts that failed, by node.

    Args:
        clock: tells the time.
        metrics: counts them.
    """

    def __init__(self, clock: IReactorTime, metrics: Metrics) -> None:
        self._clock = clock
        self._metrics = metrics
        self._failed: dict[str, _Failed] = {}

    def count(self, node_id: str, address: str, reason: str, words: str) -> None:
        """An attempt was in vain: count it, wait longer, and log it unless that was just said.

        Args:
            node_id: of the node.
            address: where it was dialled; "" when that is not known.
            reason: what it is called in the metrics.
            words: for people.
        """
        self._metrics.link_failed(reason)
        failed = self._failed.setdefault(node_id, _Failed())
        failed.last_at = now = self._clock.seconds()
        failed.until = now + failed.backoff.next_s()
        failed.words = words
        suppressed = failed.warnings.due(words, now)
        if suppressed is not None:
            where = f"{node_id} at {address}" if address else node_id
            log.warn("No link to {where}: {reason}", where=where, node=node_id, reason=words, suppressed=suppressed)

    def why(self, node_id: str) -> str:
        """Why no link to a node could be opened lately; "" when nothing is remembered of it."""
        failed = self._failed.get(node_id)
        return "" if failed is None else failed.words

    def holds_off(self, node_id: str) -> bool:
        """Whether the node must not be dialled yet."""
        failed = self._failed.get(node_id)
        return failed is not None and self._clock.seconds() < failed.until

    def heard(self, node_id: str) -> None:
        """The node lives: it is dialled again soon."""
        failed = self._failed.get(node_id)
        if failed is not None:
            failed.backoff.hold(2 * FIRST_WAIT_S)
            failed.until = min(failed.until, failed.last_at + FIRST_WAIT_S)

    def forget(self, node_id: str) -> bool:
        """A link was opened. Returns whether anything was remembered."""
        return self._failed.pop(node_id, None) is not None

    def forget_old(self) -> None:
        """Forget the nodes that were not dialled for long."""
        now = self._clock.seconds()
        self._failed = {node_id: one for node_id, one in self._failed.items() if now - one.last_at <= FORGET_S}


def explained(failure: Failure) -> tuple[str, str]:
    """What a failed attempt is called in the metrics, and words for people."""
    error = failure.value
    if isinstance(error, NotThePeer):
        return error.reason, str(error)
    if isinstance(error, HandshakeRefused):
        return "refused", f"the node refused ({error.status}): {error.message}"
    words = connect_failure_text(failure)
    if isinstance(error, (HandshakeTimeout, *TIMED_OUT)):
        return "timeout", words
    if isinstance(error, DNSLookupError):
        return "dns", words
    if explain_tls(failure) is not None:
        return "tls", words
    return ("connect" if isinstance(error, ConnectError) else "handshake"), words
