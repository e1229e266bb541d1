"""Serves calls that no client made, in the way in which the calls of a listener are served.

They reach the service as the others do: the same address, TLS, edits of headers, time limits. But a policy is for
clients, and so are the counts, the access log and what is known of the health of the service: replays are in none of
these. So they have connections of their own, too: what one of a client left there is nobody else's.
"""

from __future__ import annotations

import attrs
from zope.interface import implementer

from pico_twisted.core.rpc.call import Call
from pico_twisted.net.agent.serving.forwarder import make_call
from pico_twisted.net.agent.serving.inspector import IReplays
from pico_twisted.net.agent.serving.kinds import make_service
from pico_twisted.net.agent.serving.local_service import LocalService, ServiceParts
from pico_twisted.net.observe.metrics import Metrics
from pico_twisted.net.observe.requests import unwatched
from pico_twisted.net.tunnel.interfaces import ICaller


@implementer(IReplays)
class Replays:
    """See `IReplays`.

    Args:
        parts: of the service of the listener.
    """

    def __init__(self, parts: ServiceParts) -> None:
        self._parts = parts
        self._service: LocalService | None = None

    def begin(self, caller: ICaller, call: Call, payload: bytes) -> None:
        """See `IReplays.begin`."""
        if self._service is None:
            parts = self._parts
            tunnel = attrs.evolve(parts.tunnel, metrics=Metrics("agent", parts.tunnel.version))
            self._service = make_service(
                attrs.evolve(parts, tunnel=tunnel, policy=None, health=None, counts=None, requests=unwatched())
            )
        service = self._service
        served = make_call(service, caller, call)
        assert served is not None, "who replays asks for what the listener speaks"
        call.receiver = served
        service.calls.add(served)
        service.metrics.call_started("service")
        served.begin(payload, False)

    def close(self) -> None:
        """See `IReplays.close`."""
        service, self._service = self._service, None
        if service is not None:
            service.close()


def tell_inspector(parts: ServiceParts) -> ServiceParts:
    """Tell whoever looks at the calls, if somebody does, that a listener has this service. Returns the parts."""
    if parts.inspector is not None:
        parts.inspector.serves(parts.config, Replays(parts))
    return parts
