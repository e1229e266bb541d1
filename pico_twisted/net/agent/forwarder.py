"""Serves the calls of one listener's sessions, by its local service."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from twisted.internet.interfaces import IReactorTime
from twisted.logger import Logger
from twisted.python.failure import Failure
from zope.interface import implementer

from pico_twisted.core.protocol_limits import REQUEST_LIMITS
from pico_twisted.net.agent.exchange import Exchange
from pico_twisted.net.agent.pool import ServicePool
from pico_twisted.net.interfaces import ICallAcceptor
from pico_twisted.net.observe.metrics import Metrics
from pico_twisted.net.observe.repeated_warning import RepeatedWarning
from pico_twisted.net.observe.weather import why_not_connected
from pico_twisted.net.turn import Sweep

log = Logger()


@implementer(ICallAcceptor)
class Forwarder:
    """Hands the calls of one listener to its service.

    Args:
        endpoint: the endpoint ID, for logs.
        service: the service's address as text, for logs.
        agent_id: named in the answers that we make ourselves, and in Via.
        pool: connections to the service.
        host: the Host that the service gets; None for the client's.
        timeout_s: for the service's final head.
        v1_body_bytes: of a response towards a v1 node.
        sweep: the coarse timer.
        clock: measures how long calls take.
        metrics: counts them.
        drain_requested: called with the tunnel when the node asks for a replacement.
    """

    def __init__(
        self,
        *,
        endpoint: str,
        service: str,
        agent_id: str,
        pool: ServicePool,
        host: bytes | None,
        timeout_s: float,
        v1_body_bytes: int,
        sweep: Sweep,
        clock: IReactorTime,
        metrics: Metrics,
        drain_requested: Callable[[object], None],
    ) -> None:
        self.agent_id = agent_id
        self.via = b"pico-" + agent_id.encode("ascii")
        self.pool = pool
        self.host = host
        self.timeout_s = timeout_s
        self.v1_body_bytes = v1_body_bytes
        self.request_limits = REQUEST_LIMITS
        self.sweep = sweep
        self.seconds = clock.seconds
        self.metrics = metrics
        self.exchanges: set[Exchange] = set()
        """The calls that are being served."""
        self._endpoint = endpoint
        self._service = service
        self._drain_requested = drain_requested
        self._reach = RepeatedWarning()
        self._conduct = RepeatedWarning()

    def call_opened(self, tunnel: Any, call: Any, kind: int, payload: bytes, more: bool) -> Exchange:
        """Serve an http call (ICallAcceptor). Other kinds are answered by the session itself."""
        self.metrics.call_started("service")
        exchange = Exchange(self, tunnel, call)
        call.receiver = exchange
        self.exchanges.add(exchange)
        exchange.begin(payload, more)
        return exchange

    def drain_requested(self, tunnel: object) -> None:
        """The node will close this session (ICallAcceptor)."""
        self._drain_requested(tunnel)

    def held_bytes(self) -> int:
        """Bytes of responses that are gathered for v1 nodes."""
        return sum(exchange.held_bytes for exchange in self.exchanges)

    # What its exchanges tell

    def reachable(self) -> None:
        """A connection to the service was made."""
        self._reach.cleared()

    def unreachable(self, failure: Failure) -> None:
        """No connection to the service could be made."""
        self._warn(self._reach, "The service cannot be reached: {reason}", why_not_connected(failure))

    def trouble(self, message: str, reason: str) -> None:
        """The service did something wrong on a connection: broke it, broke HTTP, was late."""
        self._warn(self._conduct, message, reason)

    def _warn(self, repeated: RepeatedWarning, message: str, reason: str) -> None:
        suppressed = repeated.due(message + reason, self.sweep.now)
        if suppressed is not None:
            log.warn(message, endpoint=self._endpoint, service=self._service, reason=reason, suppressed=suppressed)
