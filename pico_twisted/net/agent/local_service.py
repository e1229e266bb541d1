"""The local service of one listener: how requests get there, and what is said of its faults."""

from __future__ import annotations

from typing import Protocol

from twisted.internet.interfaces import IStreamClientEndpoint
from twisted.logger import Logger
from twisted.python.failure import Failure

from pico_twisted.config import ListenerConfig
from pico_twisted.net.agent.pool import ServicePool
from pico_twisted.net.observe.repeated_warning import RepeatedWarning
from pico_twisted.net.socket.dialling import DialReactor
from pico_twisted.net.tls.failures import connect_failure_text
from pico_twisted.net.tunnel import TunnelParts

log = Logger()


class HeldCall(Protocol):
    """A call that the service serves; see `served_call.ServedCall`."""

    @property
    def held_bytes(self) -> int:
        """Bytes of the response that are kept from the caller."""


class LocalService:
    """Where the calls of one listener go.

    Args:
        config: of the listener.
        parts: what all of the process shares.
        agent_id: named in the answers that we make ourselves, and in Via.
        reactor: connects.
        endpoint: how to connect, when not by the address of the configuration.

    Attributes:
        pool: connections to it.
        host: the Host that it gets; None for the client's.
        via: our pseudonym.
        timeout_s: for its final head.
        sweep: the coarse timer.
        seconds: the time, to measure how long calls take.
        metrics: counts them.
        calls: those that it serves now.
    """

    def __init__(
        self,
        config: ListenerConfig,
        parts: TunnelParts,
        *,
        agent_id: str,
        reactor: DialReactor,
        endpoint: IStreamClientEndpoint | None = None,
    ) -> None:
        self.pool = ServicePool(config, parts, reactor=reactor, endpoint=endpoint)
        self.agent_id = agent_id
        self.via = b"pico-" + agent_id.encode("ascii")
        self.host = config.addr.host_header.encode("ascii") if config.rewrite_host else None
        self.timeout_s = config.timeout
        self.sweep = parts.sweep
        self.seconds = parts.clock.seconds
        self.metrics = parts.metrics
        self.calls: set[HeldCall] = set()
        self._endpoint_id = config.endpoint
        self._address = str(config.addr)
        self._reach = RepeatedWarning()
        self._conduct = RepeatedWarning()

    def held_bytes(self) -> int:
        """Bytes of responses that are kept from their callers."""
        return sum(call.held_bytes for call in self.calls)

    def reachable(self) -> None:
        """A connection was made."""
        self._reach.cleared()

    def unreachable(self, failure: Failure) -> None:
        """No connection could be made."""
        self._warn(self._reach, "The service cannot be reached: {reason}", connect_failure_text(failure))

    def trouble(self, message: str, reason: str) -> None:
        """The service did something wrong on a connection: broke it, broke HTTP, was late."""
        self._warn(self._conduct, message, reason)

    def _warn(self, repeated: RepeatedWarning, message: str, reason: str) -> None:
        suppressed = repeated.due(message + reason, self.sweep.now)
        if suppressed is not None:
            log.warn(message, endpoint=self._endpoint_id, service=self._address, reason=reason, suppressed=suppressed)
