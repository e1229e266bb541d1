"""The local service of one listener, whatever it speaks: what its calls share, how it is dialled, what it did wrong."""

from __future__ import annotations

import abc
from collections.abc import Sequence
from typing import Any, ClassVar, Final, Protocol

import attrs
from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IProtocolFactory, IStreamClientEndpoint
from twisted.logger import Logger
from twisted.python.failure import Failure

from pico_twisted.config import HeaderEditsConfig, ListenerConfig
from pico_twisted.core.agent.service_call import ServiceRequest
from pico_twisted.core.header_edits import HeaderEdits
from pico_twisted.core.proxy_protocol import write_proxy_header
from pico_twisted.core.rpc.frames import HTTP
from pico_twisted.net.agent.serving.counts import ServiceCounts
from pico_twisted.net.agent.serving.dialling import service_endpoint
from pico_twisted.net.agent.serving.inspector import IInspector
from pico_twisted.net.agent.serving.policy import ListenerPolicy
from pico_twisted.net.agent.serving.queue import Places
from pico_twisted.net.agent.serving.service_health import ServiceHealth
from pico_twisted.net.observe.access_log import LoggedRequest
from pico_twisted.net.observe.repeated_warning import RepeatedWarning
from pico_twisted.net.observe.requests import RequestWatch, unwatched
from pico_twisted.net.socket.dialling import DialReactor
from pico_twisted.net.tls.client import HTTP1_ONLY
from pico_twisted.net.tls.failures import connect_failure_text
from pico_twisted.net.tunnel import TunnelParts

log = Logger()

PROXY_VERSIONS: Final = {"none": 0, "v1": 1, "v2": 2}
"""The versions of the PROXY protocol, as the key names them."""

CONNECT_TIMEOUT_S: Final = 10.0
"""Most seconds for name, connection and TLS: a service beside the agent answers in milliseconds or not at all."""


THIS_PROCESS: Final = "this process"
"""Where a service is that has no address."""


class HeldCall(Protocol):
    """A call that the service serves; see `served_call.ServedCall`."""

    @property
    def held_bytes(self) -> int:
        """Bytes of the response that are kept from the caller."""

    @property
    def never_ends(self) -> bool:
        """Whether its response has begun, and goes on until somebody cuts it."""

    def so_far(self) -> LoggedRequest | None:
        """What can be told of it by now; None before its head has come."""

    def shut(self) -> None:
        """The agent stops: cut the response, for the caller and for the service."""


class Program(Protocol):
    """A service that runs in this process, and is connected to without a socket."""

    def endpoint_for(self, request: ServiceRequest) -> IStreamClientEndpoint:
        """How to connect to it.

        Args:
            request: of the call that the connection is for, which tells who its client is.
        """


@attrs.frozen(kw_only=True)
class ServiceParts:
    """What the service of a listener is given.

    Attributes:
        config: of the listener.
        tunnel: what all of the process shares.
        agent_id: named in the answers that we make ourselves.
        reactor: connects.
        dials: how to connect, when not by the address of the configuration.
        program: serves in this process, instead of what has that address.
        requests: takes calls that are over.
        policy: judges the calls; None when it serves all.
        inspector: looks at the calls; None when nobody does.
        health: hears what becomes of calls; None where that does not matter.
        counts: of all services; None where nothing is counted.
    """

    config: ListenerConfig
    tunnel: TunnelParts
    agent_id: str
    reactor: DialReactor
    dials: IStreamClientEndpoint | None = None
    program: Program | None = None
    requests: RequestWatch = attrs.field(factory=unwatched)
    policy: ListenerPolicy | None = None
    inspector: IInspector | None = None
    health: ServiceHealth | None = None
    counts: ServiceCounts | None = None


class LocalService(abc.ABC):
    """Where the calls of one listener go. Each protocol that services speak has a class of its own.

    Args:
        parts: see there.
        calls: those of another one, which shares them; None for its own.

    Attributes:
        config, agent_id, requests, policy, inspector, health: of the parts.
        host: the Host that it gets; None for the client's.
        request_edits, response_edits: what is changed in heads; None for nothing.
        timeout_s: for its final head; None when the node's alone counts.
        connect_s: for name, connection and TLS.
        sweep: the coarse timer.
        end_of_turn: gathers what one turn brings, if the process does so.
        clock: tells the time, to measure how long calls take.
        metrics: counts them.
        tracer: records some of them; None when nobody wants that.
        endpoint: the endpoint ID.
        addr: where the service is, as text.
        calls: those that it serves now.
        places: of calls that have a connection each; None where there is no limit, or calls share connections.
        kind: the type of those that it serves, of `core.rpc.frames`.
    """

    kind: ClassVar[int] = HTTP
    places: Places | None = None

    def __init__(self, parts: ServiceParts, calls: set[HeldCall] | None = None) -> None:
        config, tunnel = parts.config, parts.tunnel
        self.config = config
        self.policy = parts.policy
        self.inspector = parts.inspector
        self.health = parts.health
        drops_login = config.basic_auth_file and config.authorization == "drop"
        self.request_edits = _edits(config.request_headers, ("authorization",) if drops_login else ())
        self.response_edits = _edits(config.response_headers)
        self.agent_id = parts.agent_id
        self.requests = parts.requests
        host = config.host_header or (config.addr.host_header if config.rewrite_host else "")
        self.host = host.encode("ascii") if host else None
        self.timeout_s = config.timeout
        self.sweep = tunnel.sweep
        self.end_of_turn = tunnel.end_of_turn
        self.clock = tunnel.clock
        self.metrics = tunnel.metrics
        self.tracer = tunnel.tracer
        self.calls: set[HeldCall] = set() if calls is None else calls
        self.endpoint = config.endpoint
        self.addr = str(config.addr) if parts.program is None else THIS_PROCESS
        self.connect_s = min(config.timeout or CONNECT_TIMEOUT_S, CONNECT_TIMEOUT_S)
        self._reactor = parts.reactor
        self._dials = parts.dials
        self._reach = RepeatedWarning()
        self._conduct = RepeatedWarning()

    # What each kind does in its way

    @property
    @abc.abstractmethod
    def connection_count(self) -> int:
        """How many connections to it are open, idle ones too."""

    @abc.abstractmethod
    def client_gone(self, client: bytes) -> None:
        """The client's connection of that name has ended."""

    @abc.abstractmethod
    def retire(self) -> None:
        """Take no new calls, which is for the owner to see to: those that it has go on, and keep no connection open."""

    @abc.abstractmethod
    def close(self) -> None:
        """Close the idle connections, cut the others, and keep none from here on."""

    # What all share

    @property
    def busy(self) -> bool:
        """Whether calls or connections are left."""
        return bool(self.calls) or self.connection_count > 0

    @property
    def waiting(self) -> int:
        """How many calls wait for a connection or a stream."""
        return 0 if self.places is None else self.places.waiting

    def held_bytes(self) -> int:
        """Bytes of responses that are kept from their callers."""
        return sum(call.held_bytes for call in self.calls)

    def dial(
        self, factory: IProtocolFactory, *, alpn: Sequence[bytes] = HTTP1_ONLY, header: bytes = b""
    ) -> Deferred[Any]:  # of what the factory makes
        """Connect to its address. Fails with what Twisted or OpenSSL say, in time; can be cancelled.

        Args:
            factory: makes the protocol that the Deferred fires with.
            alpn: the protocols that an https service is offered, the best one first.
            header: of `header_for`.
        """
        dials = self._dials or service_endpoint(self._reactor, self.config, self.connect_s, alpn=alpn, header=header)
        return dials.connect(factory)

    def header_for(self, request: ServiceRequest) -> bytes:
        """The PROXY protocol header of a connection that serves this request, and only such as have the same; empty
        when the service gets none."""
        version = PROXY_VERSIONS[self.config.proxy_protocol]
        return write_proxy_header(version, request.client, request.asked_port) if version else b""

    def reached(self) -> None:
        """A connection is there, and good."""
        self._reach.cleared()

    def answerless(self, began: float, reason: str, calls: int = 1) -> None:
        """Calls that began then got no connection, or not a byte of an answer on one."""
        if self.health is not None:
            self.health.failed(began, reason, calls)

    def unreachable(self, failure: Failure, began: float, calls: int = 1) -> str:
        """No connection could be made for calls that still want one.

        Args:
            failure: of the attempt.
            began: when that was wanted, by the clock.
            calls: how many want it.

        Returns:
            Why not, in words.
        """
        reason = connect_failure_text(failure)
        self.answerless(began, f"it cannot be reached: {reason}", calls)
        self._warn(self._reach, "The service cannot be reached: {reason}", reason)
        return f"{self.addr} cannot be reached: {reason}"

    def trouble(self, message: str, reason: str, request_id: str) -> None:
        """The service did something wrong on a connection: broke it, broke HTTP, was late."""
        self._warn(self._conduct, message, reason, request_id)

    def _warn(self, repeated: RepeatedWarning, message: str, reason: str, request_id: str = "") -> None:
        suppressed = repeated.due(message + reason, self.sweep.now)
        if suppressed is not None:
            log.warn(
                message,
                endpoint=self.config.endpoint,
                service=self.addr,
                reason=reason,
                suppressed=suppressed,
                **({"request_id": request_id} if request_id else {}),
            )


def _edits(config: HeaderEditsConfig, remove: Sequence[str] = ()) -> HeaderEdits | None:
    return HeaderEdits.of(set_to=config.set, add=config.add, remove=(*config.remove, *remove)) or None
