"""Checks of a service: whether it can be connected to, or what it says to a request for a path.

They reach the service as calls do: the same address, TLS, PROXY protocol header and protocol. But no client made them:
no policy judges them, and they are in no access log and in no count of requests. Each has a connection of its own.
"""

from __future__ import annotations

from typing import Final

import attrs
from twisted.internet.defer import Deferred, succeed
from twisted.internet.error import ConnectionDone
from twisted.internet.interfaces import IHandshakeListener
from twisted.internet.protocol import Factory, Protocol, connectionDone
from twisted.python.failure import Failure
from zope.interface import implementer

from pico_twisted.core.proxy_protocol import write_proxy_header
from pico_twisted.core.rpc.call import Call
from pico_twisted.core.rpc.frames import CANCELLED, HTTP
from pico_twisted.net.agent.serving.dialling import service_endpoint
from pico_twisted.net.agent.serving.forwarder import make_call
from pico_twisted.net.agent.serving.kinds import make_service
from pico_twisted.net.agent.serving.local_service import PROXY_VERSIONS, LocalService, ServiceParts
from pico_twisted.net.agent.serving.nobody import NobodyCalls
from pico_twisted.net.observe.metrics import Metrics
from pico_twisted.net.observe.requests import unwatched
from pico_twisted.net.tls.failures import TIMED_OUT, connect_failure_text

USER_AGENT: Final = "pico-agent-health-check"
"""How checks name themselves to services, for the logs of those."""
MOST_BODY_BYTES: Final = 64 * 1024
"""Most bytes of an answer that are waited for once its status is known: the connection is cut behind them."""

_ENDED: Final = b"\r\n\r\n"
_OUR_ERROR: Final = b"x-pico-error: "


class ServiceChecks:
    """Checks the service of one listener (`service_health.Checks`).

    Args:
        parts: of the service.
    """

    __slots__ = ("_parts", "_service")

    def __init__(self, parts: ServiceParts) -> None:
        self._parts = parts
        self._service: LocalService | None = None

    def check(self) -> Deferred[str]:
        """See `Checks.check`."""
        health = self._parts.config.health
        if self._parts.program is not None and not health.path:
            return succeed("")  # it is this process
        checking = Deferred.fromCoroutine(self._ask() if health.path else self._connect())
        checking.addTimeout(health.timeout, self._parts.tunnel.clock)
        return checking.addErrback(self._words)

    def _words(self, failure: Failure) -> str:
        if failure.check(*TIMED_OUT):
            return f"a check took longer than {self._parts.config.health.timeout:g} s"
        return f"a check could not connect: {connect_failure_text(failure)}"

    async def _connect(self) -> str:
        config, parts = self._parts.config, self._parts
        version = PROXY_VERSIONS[config.proxy_protocol]
        header = write_proxy_header(version, "") if version else b""
        endpoint = parts.dials or service_endpoint(parts.reactor, config, config.health.timeout, header=header)
        factory = Factory.forProtocol(_Handshake if config.addr.https else _Connection)
        factory.noisy = False
        made = await endpoint.connect(factory)
        assert isinstance(made, _Connection)
        await made.ready
        return ""

    async def _ask(self) -> str:
        service = self._of_checks()
        config = self._parts.config
        host = config.host_header or config.addr.host_header
        agent = f"{USER_AGENT}/{self._parts.tunnel.version}"
        head = f"GET {config.health.path} HTTP/1.1\r\nHost: {host}\r\nUser-Agent: {agent}\r\nAccept: */*\r\n\r\n"
        call = Call(0, HTTP, False, 0)
        asker = _Asker()
        served = make_call(service, asker, call)
        assert served is not None, "a service that is asked for a path speaks HTTP"
        call.receiver = served
        service.calls.add(served)
        try:
            served.begin(head.encode("ascii"), False)
            await asker.done
        finally:
            if not call.closed and call.receiver is not None:
                call.receiver.reset(CANCELLED, "")
        return asker.wrong

    def _of_checks(self) -> LocalService:
        """The service as checks have it: nothing is counted, and no connection kept."""
        if self._service is None:
            parts, config = self._parts, self._parts.config
            tunnel = attrs.evolve(parts.tunnel, metrics=Metrics("agent", parts.tunnel.version), tracer=None)
            config = attrs.evolve(config, reuse="never", keepalive_timeout=0.0, timeout=None, max_connections=None)
            self._service = make_service(
                attrs.evolve(
                    parts,
                    config=config,
                    tunnel=tunnel,
                    policy=None,
                    inspector=None,
                    health=None,
                    requests=unwatched(),
                )
            )
        return self._service


class _Connection(Protocol):
    """A connection that is closed as soon as it is there."""

    def __init__(self) -> None:
        self.ready: Deferred[None] = Deferred()

    def connectionMade(self) -> None:
        self._there()

    def _there(self) -> None:
        if not self.ready.called:
            self.ready.callback(None)
        assert self.transport is not None
        self.transport.loseConnection()

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        if not self.ready.called:
            self.ready.errback(reason if not reason.check(ConnectionDone) else Failure(ConnectionDone("it was closed")))


@implementer(IHandshakeListener)
class _Handshake(_Connection):
    """The same once the certificate of the service was found good."""

    def connectionMade(self) -> None:
        """Its handshake begins."""

    def handshakeCompleted(self) -> None:
        self._there()


class _Asker(NobodyCalls):
    """The caller of a check's request.

    Attributes:
        done: fires when enough of the answer has come.
        wrong: what is wrong with it, in words; empty when nothing is.
    """

    def __init__(self) -> None:
        self.done: Deferred[None] = Deferred()
        self.wrong = ""
        self._bytes = 0
        self._has_status = False

    def send(self, call: Call, data: bytes, more: bool) -> None:
        """A piece of the answer came (ICallee)."""
        if not self._has_status:
            status = int(data[9:12])
            if 100 <= status < 200:
                return
            self._has_status = True
            if not 200 <= status < 400:
                self.wrong = _words_of(data, status)
        self._bytes += len(data)
        if (not more or self._bytes > MOST_BODY_BYTES) and not self.done.called:
            self.done.callback(None)

    def send_trailers(self, call: Call, block: bytes) -> None:
        """They end the answer (ICallee)."""
        if not self.done.called:
            self.done.callback(None)

    def reset(self, call: Call, code: str, text: str = "") -> None:
        """The answer is broken (ICallee)."""
        self.wrong = f"the answer to a check broke off: {text or code}"
        if not self.done.called:
            self.done.callback(None)


def _words_of(data: bytes, status: int) -> str:
    """What an answer says that is no good one: of the service, or of ours in its place."""
    for line in data.partition(_ENDED)[0].split(b"\r\n"):
        if line.lower().startswith(_OUR_ERROR):
            return f"a check failed: {line.rpartition(b'; ')[2].decode('ascii', 'replace')}"
    return f"a check was answered {status}"
