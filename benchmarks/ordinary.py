"""The ordinary way of doing what the data path does in a special one, to be measured beside it.

`use(name)` puts an ordinary way in the place of one of ours, in a process that has not begun to import the daemons.
Nothing but `special_paths.py` uses this.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final, cast


def _put(where: object, name: str, way: object) -> None:
    """Put an ordinary way in the place of one of ours, which has to be there."""
    getattr(where, name)
    setattr(where, name, way)


def _reactor() -> None:
    from pico_twisted.app.process import reactor

    _put(reactor, "install_reactor", lambda: None)  # twistd installs Twisted's epoll reactor


def _long_turns() -> None:
    from pico_twisted.app.process import reactor

    _put(reactor, "EVENTS_OF_A_TURN", 10_000)


def _garbage() -> None:
    from pico_twisted.app.process import daemon

    _put(daemon, "spare_what_stays", lambda: None)


def _writes() -> None:
    from pico_twisted.net.socket import options as flow

    _put(flow, "writer", lambda transport: transport.write)


def _turns() -> None:
    from pico_twisted.net.tunnel.session_pump import Tunnel

    def send(self: Any) -> None:
        if not self._paused:
            self._pump()

    _put(Tunnel, "_send_soon", send)


def _frames() -> None:
    from pico_twisted.net.tunnel.websocket_pipe import Stage, WebSocketPipe

    def receive(self: Any, data: bytes) -> None:
        if self._stage is Stage.OPENING:
            self._handshake(data)
        elif self._stage is Stage.OPEN:
            self.session.last_received = self.parts.sweep.now
            self.data = self.data + data
            self.consumeData()

    _put(WebSocketPipe, "dataReceived", receive)


def _masks() -> None:
    from autobahn.websocket.xormasker import create_xor_masker  # type: ignore[attr-defined]

    from pico_twisted.net.tunnel import websocket_pipe

    def apply_mask(data: bytes, mask: bytes) -> bytes:
        masked: bytes = create_xor_masker(mask, len(data)).process(bytes(data))
        return masked

    _put(websocket_pipe, "apply_mask", apply_mask)


def _timers() -> None:
    from pico_twisted.net.agent.serving.exchange import Exchange
    from pico_twisted.net.routing.routed_request import RoutedRequest

    _timed(RoutedRequest, "start", "_finish")
    _timed(Exchange, "begin", "_over")


def _timed(kind: Any, begins: str, ends: str) -> None:
    """A timer of the reactor for each request, in addition to what there is."""
    begin, end = getattr(kind, begins), getattr(kind, ends)
    timers: dict[int, Any] = {}

    def begun(self: Any, *arguments: Any, **options: Any) -> Any:
        from twisted.internet import reactor

        timers[id(self)] = reactor.callLater(30.0, int)
        return begin(self, *arguments, **options)

    def ended(self: Any, *arguments: Any, **options: Any) -> Any:
        timer = timers.pop(id(self), None)
        if timer is not None:
            timer.cancel()
        return end(self, *arguments, **options)

    _put(kind, begins, begun)
    _put(kind, ends, ended)


def _requests() -> None:
    from twisted.web.http import Request

    from pico_twisted.net.proxy.request import ProxyRequest

    make = ProxyRequest.__init__

    class Channel:
        """As far as a Request asks."""

        def __init__(self, transport: Any) -> None:
            self.transport = transport
            self.getPeer = transport.getPeer
            self.getHost = transport.getHost

    def made(self: Any, connection: Any, head: Any, *more: Any) -> None:
        make(self, connection, head, *more)
        request = Request(cast(Any, Channel(connection.transport)))
        for _, name, value in head.fields:
            request.requestHeaders.addRawHeader(name, value)
        request.parseCookies()

    _put(ProxyRequest, "__init__", made)


def _counters() -> None:
    from prometheus_client import Counter, Histogram

    from pico_twisted.net.observe.metrics.requests import REQUEST_BOUNDS_S, RequestCounts

    requests = Counter("ordinary_requests", "Requests.", ("method", "status"))
    seconds = Histogram("ordinary_seconds", "Durations.", buckets=REQUEST_BOUNDS_S)
    received = Counter("ordinary_received", "Bytes in.")
    sent = Counter("ordinary_sent", "Bytes out.")

    def done(self: Any, method: bytes, status: int, duration_s: float, bytes_in: int, bytes_out: int) -> None:
        requests.labels(method.decode("ascii", "replace"), str(status)).inc()
        seconds.observe(duration_s)
        received.inc(bytes_in)
        sent.inc(bytes_out)

    _put(RequestCounts, "done", done)


def _access_log() -> None:
    from twisted.logger import Logger

    from pico_twisted.net.observe.access_log import AccessLog

    log = Logger(namespace="pico_twisted.net.access")

    def request(self: Any, **fields: Any) -> None:
        shown = {
            name: value.decode("ascii", "replace") if isinstance(value, bytes) else value
            for name, value in fields.items()
        }
        log.info("request", **shown)

    _put(AccessLog, "request", request)


def _relay() -> None:
    from pico_twisted.net.links import request as link_request

    # What is read in full has its response read in full.
    _put(link_request, "relayed_request", lambda payload, limits: None)


def _heads() -> None:
    import re

    from pico_twisted.core.http1 import head, server
    from pico_twisted.core.rpc import http

    _put(server, "PLAIN_FOR_NODE", None)
    _put(http, "PLAIN_FOR_AGENT", None)
    _put(head, "PLAIN_RESPONSE", re.compile(rb"(?!)"))


WAYS: Final[dict[str, tuple[str, Callable[[], None]]]] = {
    "reactor": ("Twisted's epoll reactor", _reactor),
    "long turns": ("a turn of the reactor is all that is ready", _long_turns),
    "garbage": ("the garbage collector as Python sets it up", _garbage),
    "writes": ("transport.write, which waits for the reactor's next turn", _writes),
    "turns": ("each frame leaves with a write of its own", _turns),
    "frames": ("Autobahn takes the messages out of what was read", _frames),
    "masks": ("Autobahn's masker lays the masks", _masks),
    "timers": ("a timer of the reactor for each request", _timers),
    "requests": ("a twisted.web Request for each request", _requests),
    "counters": ("prometheus_client counts the requests", _counters),
    "access log": ("each request is an event of Twisted's log", _access_log),
    "heads": ("all heads are taken apart and written from their parts", _heads),
    "relay": ("the holder reads the heads that it passes on", _relay),
}
"""What may be used: by name, in words, and how."""


def use(name: str) -> None:
    """Use an ordinary way from here on."""
    if name != "reactor":
        from pico_twisted.app.process.reactor import install_reactor

        install_reactor()  # what is imported now may import the global one
    WAYS[name][1]()
