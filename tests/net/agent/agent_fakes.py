"""What the agent's tests stand on: the node's end of a tunnel, and a service that does as it is told."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass, field
from typing import Any, cast

import attrs
from twisted.internet.defer import Deferred, fail, maybeDeferred, succeed
from twisted.internet.error import ConnectionDone, ConnectionLost
from twisted.internet.interfaces import IStreamClientEndpoint
from twisted.internet.task import Clock
from twisted.internet.testing import StringTransport
from twisted.python.failure import Failure
from zope.interface import implementer

from pico_twisted.config import ListenerConfig, ServiceAddress
from pico_twisted.core.http1.head import HeadLimits
from pico_twisted.core.rpc import session_base as rpc
from pico_twisted.core.rpc.budget import Budget
from pico_twisted.core.rpc.call import Call
from pico_twisted.core.rpc.capabilities import TRAILERS
from pico_twisted.core.rpc.dialect import V2
from pico_twisted.core.rpc.frames import CLIENT_GONE, HEALTH, HTTP, MAX_BODY_V1
from pico_twisted.core.rpc.v1 import dialect_v1
from pico_twisted.net.agent.own_health import OwnHealth
from pico_twisted.net.agent.serving.basic_auth import InThread
from pico_twisted.net.agent.serving.forwarder import Forwarder
from pico_twisted.net.agent.serving.kinds import make_service
from pico_twisted.net.agent.serving.local_service import ServiceParts
from pico_twisted.net.agent.serving.policy import Policies
from pico_twisted.net.observe.metrics import Metrics
from pico_twisted.net.sweep import ReactorSweep
from pico_twisted.net.tunnel import Closed, TunnelParts
from pico_twisted.net.tunnel.interfaces import IHttpReceiver

OK = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"
UPGRADE = b"Connection: Upgrade\r\nUpgrade: echo\r\n"


class FakeTunnel:
    """A tunnel whose other end is another session in the same process, pumped at once."""

    node_id = "n1"
    endpoint = "web"
    slot = "0.0"
    agent_id = "agent-1"
    peer = "node:8002"
    rtt_s = 0.0
    call_count = 0
    capabilities: Collection[bytes] = ()

    def __init__(self, acceptor: Any, version: int = 2, v1_body_bytes: int = MAX_BODY_V1) -> None:
        self.version = version
        self.dialect = V2 if version == 2 else dialect_v1(v1_body_bytes)
        self.acceptor = acceptor
        self.closed: Deferred[Closed] = Deferred()
        self.requests: dict[Call, Request] = {}
        self.blocked = False
        """Nothing leaves the agent's session while this is set, as if the transport was full."""
        options: dict[str, Any] = {"max_calls": 10_000, "now": 0.0}
        self.ours = self.dialect.session(
            asks_always=False, serves=(HTTP, CLIENT_GONE, HEALTH), budget=Budget(2**30), **options
        )
        self.theirs = self.dialect.session(asks_always=False, budget=Budget(2**30), **options)
        self.resets: list[tuple[str, str]] = []
        self.consumed_bytes = 0
        self._pumping = False

    def request(self, payload: bytes, more: bool = False, *, greedy: bool = True) -> Request:
        """Call the agent. A caller that is not greedy grants no credit."""
        call = self.theirs.call(HTTP, payload, more)
        request = self.requests[call] = Request(tunnel=self, call=call, greedy=greedy)
        self.pump()
        return request

    def send(self, call: Call, data: bytes, more: bool) -> None:
        self.ours.send(call, data, more)
        self.pump()

    def send_trailers(self, call: Call, block: bytes) -> None:
        self.ours.takes_trailers = TRAILERS in self.capabilities
        self.ours.send_trailers(call, block)
        self.pump()

    def reset(self, call: Call, code: str, text: str = "") -> None:
        if not call.closed:
            self.resets.append((code, text))
        self.ours.reset(call, code, text)
        self.pump()

    def consumed(self, call: Call, count: int) -> None:
        self.consumed_bytes += count
        self.ours.consumed(call, count, 0.0)
        self.pump()

    def held_bytes(self) -> int:
        return int(self.ours.held_bytes())

    def end(self) -> None:
        """The session is lost."""
        for call in self.ours.calls():
            if call.receiver is not None:
                call.receiver.lost()

    def pump(self) -> None:
        """Carry frames both ways until nothing moves."""
        if self._pumping:
            return
        self._pumping = True
        moved = True
        while moved:
            moved = False
            for frame in self.theirs.frames_to_send():
                moved = True
                self._to_agent(self.ours.receive(frame))
            if not self.blocked:
                for frame in self.ours.frames_to_send():
                    moved = True
                    self._to_caller(self.theirs.receive(frame))
            for call in self.ours.take_drained():
                moved = True
                if not call.closed and call.receiver is not None:
                    call.receiver.drained()
            self.ours._check_invariants()
        self._pumping = False

    def _to_agent(self, event: Any) -> None:
        if event is None:
            return
        what, call, payload, extra = event
        if what == rpc.OPENED:
            receiver = self.acceptor.call_opened(self, call, call.kind, payload, extra)
            if call.receiver is None:
                call.receiver = receiver
        elif call.receiver is None:
            return
        elif what == rpc.FRAME:
            call.receiver.frame(payload, extra)
        elif what == rpc.ENDED_WITH:
            cast(IHttpReceiver, call.receiver).trailers(payload)
        elif what == rpc.WAS_RESET:
            call.receiver.reset(payload, extra)

    def _to_caller(self, event: Any) -> None:
        if event is None:
            return
        what, call, payload, extra = event
        request = self.requests[call]
        if what == rpc.FRAME:
            request.frames.append((payload, extra))
            if request.greedy:
                self.theirs.consumed(call, len(payload), 0.0)
        elif what == rpc.ENDED_WITH:
            request.trailers = payload
        elif what == rpc.WAS_RESET:
            request.reset_code = payload
            request.reset_text = extra


@dataclass(eq=False)
class Request:
    """One call, as its caller sees it."""

    tunnel: FakeTunnel
    call: Call
    greedy: bool = True
    frames: list[tuple[bytes, bool]] = field(default_factory=list)
    reset_code: str | None = None
    reset_text: str = ""
    trailers: bytes = b""

    def end_with(self, block: bytes) -> None:
        """End the request with trailers."""
        self.tunnel.theirs.takes_trailers = True
        self.tunnel.theirs.send_trailers(self.call, block)
        self.tunnel.pump()

    def send(self, data: bytes, more: bool = True) -> None:
        """Send a piece of the request."""
        self.tunnel.theirs.send(self.call, data, more)
        self.tunnel.pump()

    def cancel(self, code: str = "cancelled") -> None:
        """Give up."""
        self.tunnel.theirs.reset(self.call, code)
        self.tunnel.pump()

    def take(self, count: int) -> None:
        """Consume that much of the response."""
        self.tunnel.theirs.consumed(self.call, count, 0.0)
        self.tunnel.pump()

    @property
    def ended(self) -> bool:
        """The response is complete."""
        return bool(self.trailers or (self.frames and not self.frames[-1][1]))

    @property
    def received(self) -> bytes:
        """All of the response so far."""
        return b"".join(payload for payload, _ in self.frames)

    @property
    def head(self) -> bytes:
        """The (first) head of the response."""
        return self.received.partition(b"\r\n\r\n")[0]

    @property
    def status(self) -> int:
        """Of that head; 0 without one."""
        return int(self.received[9:12]) if self.received else 0

    @property
    def body(self) -> bytes:
        """What is behind that head."""
        return self.received.partition(b"\r\n\r\n")[2]

    @property
    def error(self) -> str | None:
        """The value of x-pico-error."""
        for line in self.head.split(b"\r\n"):
            name, _, value = line.partition(b": ")
            if name.lower() == b"x-pico-error":
                return value.decode()
        return None


class FakeTransport(StringTransport):
    """A connection to a service; the test is the service."""

    half_closed = False
    protocol: Any

    @property
    def aborted(self) -> bool:
        """Was it cut?"""
        return self.disconnected

    def unregisterProducer(self) -> None:
        self.producer = None

    def loseWriteConnection(self) -> None:
        self.half_closed = True

    def abortConnection(self) -> None:
        super().abortConnection()
        self.lose(ConnectionLost())

    def loseConnection(self) -> None:
        super().loseConnection()
        if not self.disconnected:
            self.lose(ConnectionDone())

    # What the service does

    def answer(self, data: bytes) -> None:
        """Send bytes."""
        self.protocol.dataReceived(data)

    def finish(self) -> None:
        """Close the service's half."""
        self.protocol.readConnectionLost()

    def lose(self, error: Exception | None = None) -> None:
        """Break the connection."""
        if self.connected:
            self.connected = False
            self.protocol.connectionLost(Failure(error or ConnectionLost()))

    def taken(self) -> bytes:
        """What was sent to the service since the last time."""
        data = self.value()
        self.clear()
        return bytes(data)


@implementer(IStreamClientEndpoint)
class FakeEndpoint:
    """Makes connections to the test."""

    def __init__(self) -> None:
        self.transports: list[FakeTransport] = []
        self.refusing: Exception | None = None
        self.waiting: list[Deferred[Any]] | None = None
        """Attempts that the test lets go on with `proceed`; None: they succeed at once."""
        self.cancelled = 0
        self._factories: list[Any] = []

    @property
    def last(self) -> FakeTransport:
        """The newest connection."""
        return self.transports[-1]

    def connect(self, factory: Any) -> Deferred[Any]:
        if self.refusing is not None:
            return fail(self.refusing)
        if self.waiting is not None:
            attempt: Deferred[Any] = Deferred(lambda _: self._cancel())
            self.waiting.append(attempt)
            self._factories.append(factory)
            return attempt
        return succeed(self._connected(factory))

    def proceed(self) -> None:
        """Let the oldest attempt succeed."""
        assert self.waiting
        self.waiting.pop(0).callback(self._connected(self._factories.pop(0)))

    def _cancel(self) -> None:
        self.cancelled += 1

    def _connected(self, factory: Any) -> Any:
        protocol = factory.buildProtocol(None)
        transport = FakeTransport()
        transport.protocol = protocol
        self.transports.append(transport)
        protocol.makeConnection(transport)
        return protocol


def listener_config(
    address: ServiceAddress | None = None, *, rewrite_host: bool = False, timeout_s: float | None = 30.0
) -> ListenerConfig:
    """The configuration of a listener."""
    return ListenerConfig(
        endpoint="web",
        addr=address or ServiceAddress("http", "127.0.0.1", 3000),
        timeout=timeout_s,
        rewrite_host=rewrite_host,
    )


def tunnel_parts(clock: Any, sweep: ReactorSweep, metrics: Metrics) -> TunnelParts:
    """What a process shares."""
    return TunnelParts(
        clock=clock,
        sweep=sweep,
        metrics=metrics,
        budget=Budget(2**30),
        head_limits=HeadLimits(),
        max_calls=10_000,
        version="0.0.1",
    )


class Bench:
    """A forwarder between a tunnel of the test and a service of the test.

    Args:
        version: of the tunnel.
        rewrite_host, timeout_s: of the listener.
        v1_body_bytes: of a tunnel of version 1.
        in_thread: where passwords are checked.
        listener: other keys of the listener.

    Attributes:
        stopped_s: for how long a limit has stopped the agent.
    """

    def __init__(
        self,
        version: int = 2,
        *,
        rewrite_host: bool = False,
        timeout_s: float | None = 30.0,
        v1_body_bytes: int = 1 << 20,
        in_thread: InThread = maybeDeferred,
        **listener: Any,
    ) -> None:
        self.clock = Clock()
        self.sweep = ReactorSweep(self.clock)
        self.sweep.start()
        self.metrics = Metrics("agent")
        self.service = FakeEndpoint()
        config = attrs.evolve(listener_config(rewrite_host=rewrite_host, timeout_s=timeout_s), **listener)
        self.policies = Policies(in_thread, self.metrics, self.sweep)
        self.local: Any = make_service(  # of the class that the listener's configuration asks for
            ServiceParts(
                config=config,
                tunnel=tunnel_parts(self.clock, self.sweep, self.metrics),
                agent_id="agent-1",
                reactor=None,
                dials=self.service,
                policy=self.policies.of(config),
            )
        )
        self.drains: list[object] = []
        self.stopped_s = 0.0
        own_health = OwnHealth(self.sweep, lambda: self.stopped_s)
        self.forwarder = Forwarder(self.local, own_health, self.drains.append)
        self.tunnel = FakeTunnel(self.forwarder, version, v1_body_bytes)

    def get(self, target: bytes = b"/", extra: bytes = b"", method: bytes = b"GET", **options: Any) -> Request:
        """A request without a body."""
        return self.tunnel.request(method + b" " + target + b" HTTP/1.1\r\nHost: web\r\n" + extra + b"\r\n", **options)

    def post(self, body: bytes, extra: bytes = b"", *, more: bool = True, **options: Any) -> Request:
        """A request whose head and first bytes of body come together."""
        head = b"POST /up HTTP/1.1\r\nHost: web\r\n" + extra + b"\r\n"
        return self.tunnel.request(head + body, more, **options)

    def pass_time(self, seconds: float) -> None:
        """Let the sweep turn."""
        for _ in range(round(seconds / 0.2)):
            self.clock.advance(0.2)

    def warm_up(self) -> FakeTransport:
        """Have one idle connection in the pool; returns its transport."""
        request = self.get()
        self.service.last.taken()
        self.service.last.answer(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n")
        assert request.ended
        return self.service.last

    def nothing_is_left(self) -> bool:
        """No call is being served, on either side."""
        return not self.local.calls and not self.tunnel.ours.call_count() and not self.tunnel.theirs.call_count()
