"""What the tunnels of a process share, and what is said in the handshake of agents."""

from __future__ import annotations

from typing import Final

import attrs
from twisted.internet.interfaces import IReactorTime, ISSLTransport

from pico_twisted.core.http1.head import HeadLimits
from pico_twisted.core.rpc.budget import Budget
from pico_twisted.core.rpc.capabilities import OWN_CAPABILITIES, PLAIN_CAPABILITIES
from pico_twisted.core.rpc.dialect import Dialect
from pico_twisted.core.rpc.frames import MAX_BODY_V1
from pico_twisted.core.rpc.v1 import dialect_v1
from pico_twisted.core.sweep import Sweep
from pico_twisted.net.observe.metrics import Metrics
from pico_twisted.net.observe.tracing import Tracer
from pico_twisted.net.socket.end_of_turn import EndOfTurn

LISTENER_PATH: Final = b"/pico/v1/listener/"
ELSEWHERE: Final = "elsewhere"
"""Code of a refusal: another node can take this session, so that the listener is at more than one."""
AFFINITY: Final = b"x-pico-affinity"
"""Name of the field of a handshake that says what ties the endpoint's clients to an agent."""
CREDENTIAL_UNTIL: Final = "x-pico-credential-until"
"""Name of the field of a 101 that tells when the credential of the session ends, in seconds since 1970."""
MAX_ELSEWHERE: Final = 16
"""Most nodes that an agent may name which it would rather not register with: as many as a listener may have
sessions."""


def own_capabilities(transport: object) -> dict[str, str]:
    """What we say of ourselves in the 101 on a connection, as a field of it."""
    return OWN_CAPABILITIES if ISSLTransport.providedBy(transport) else PLAIN_CAPABILITIES


@attrs.frozen(kw_only=True)
class TunnelParts:
    """What every tunnel of a process shares.

    With an `end_of_turn` the frames of one turn of the reactor leave with one write; without one each leaves at once.
    """

    clock: IReactorTime
    sweep: Sweep
    metrics: Metrics
    budget: Budget
    head_limits: HeadLimits
    max_calls: int
    version: str
    end_of_turn: EndOfTurn | None = None
    v1: Dialect = dialect_v1(MAX_BODY_V1)
    tracer: Tracer | None = None  # records requests, where that is configured
