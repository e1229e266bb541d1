"""What the ports that take requests are told of routing."""

from __future__ import annotations

import attrs
from twisted.logger import Logger

from pico_twisted.core.sweep import Sweep
from pico_twisted.net.observe.metrics import Metrics
from pico_twisted.net.observe.repeated_warning import RepeatedWarning
from pico_twisted.net.observe.requests import RequestWatch, unwatched
from pico_twisted.net.observe.tracing import Tracer
from pico_twisted.net.routing.interfaces import IRouter

log = Logger()


@attrs.frozen(kw_only=True)
class RoutingSettings:
    """What every routed request of a port shares.

    Attributes:
        router: chooses who gets a request.
        sweep: the process's coarse timer.
        metrics: counts what is tried again.
        timeout_s: how long a service may take until its response begins.
        idle_timeout_s: how long nothing may move while the client is waited for, or behind the response's head.
        requests: takes requests of other nodes that are over.
        tracer: records some of the requests; None when nobody wants that.
    """

    router: IRouter
    sweep: Sweep
    metrics: Metrics
    timeout_s: float
    idle_timeout_s: float
    requests: RequestWatch = attrs.field(factory=unwatched)
    tracer: Tracer | None = None
    _warnings: RepeatedWarning = attrs.field(factory=RepeatedWarning, init=False)

    def rules_broken(self, endpoint: str, upstream: str, reason: str) -> None:
        """A call ended because one side says that the other broke the protocol in it: somebody should know why."""
        suppressed = self._warnings.due(upstream + reason, self.sweep.now)
        if suppressed is not None:
            log.warn(
                "A call broke the protocol: {reason}",
                reason=reason,
                endpoint=endpoint,
                upstream=upstream,
                suppressed=suppressed,
            )
