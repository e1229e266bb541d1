"""The life of a tunnel: its node away at the start, back later, away again; refused; given up."""

from __future__ import annotations

import socket
from typing import Any

import pytest
from twisted.internet.defer import CancelledError
from twisted.internet.error import CannotListenError
from twisted.internet.protocol import Factory
from twisted.web.resource import Resource
from twisted.web.server import Site

from pico_twisted import Tunnel
from pico_twisted.door.server_endpoint import PicoServerEndpoint
from pico_twisted.door.settings import EndpointSettings
from tests.door.test_served import HEAD
from tests.integration.harness import RunningNode, eventually, outcome
from tests.net.in_reactor import in_reactor, reactor


class Told(Factory[Any]):
    """A factory that keeps when it was started and stopped."""

    noisy = False

    def __init__(self) -> None:
        self.told: list[str] = []

    def startFactory(self) -> None:
        self.told.append("start")

    def stopFactory(self) -> None:
        self.told.append("stop")


class Hello(Resource):
    """Says hello."""

    isLeaf = True

    def render_GET(self, request: Any) -> bytes:  # Twisted's, which has no types
        return b"hello"


def url_of(node: RunningNode) -> str:
    """Where agents reach a node."""
    return f"http://127.0.0.1:{node.upstream_port}"


def nobody() -> int:
    """A port where nobody listens."""
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        return int(sock.getsockname()[1])


async def hello(node: RunningNode) -> bytes:
    """The answer of the endpoint `web`."""
    client = await node.client(b"GET /" + HEAD + b"Connection: close\r\n\r\n")
    return await client.until_end()


@in_reactor
async def test_a_node_that_is_away_at_the_start(node: RunningNode) -> None:
    """The tunnel waits; it is registered once a node is there, and again when that has closed its sessions."""
    tunnel = Tunnel("web", Site(Hello()), url=[f"http://127.0.0.1:{nobody()}", url_of(node)], reactor=reactor)
    upstream = node.parts.upstream
    port = reactor.listenTCP(0, upstream, interface="127.0.0.1")
    late = port.getHost().port
    await port.stopListening()
    waiting = Tunnel("web", Site(Hello()), url=f"http://127.0.0.1:{late}", reactor=reactor)
    starting = waiting.start()
    await tunnel.start()
    assert not starting.called and not waiting.registered and waiting.url == ""
    await tunnel.stop()
    assert b"no-upstreams" in await hello(node)
    port = reactor.listenTCP(late, upstream, interface="127.0.0.1")
    assert await starting is waiting
    assert waiting.registered and (await hello(node)).endswith(b"hello")
    for connection in list(upstream.connections):
        connection.transport.abortConnection()
    await eventually(lambda: not waiting.registered)
    await eventually(lambda: waiting.registered)
    assert (await hello(node)).endswith(b"hello")
    await waiting.stop()
    await port.stopListening()
    with pytest.raises(RuntimeError, match="started once"):
        waiting.start()


@in_reactor
async def test_a_tunnel_that_is_given_up(node: RunningNode) -> None:
    """A start that waits for a node can be cancelled, or stopped, and whoever waits for it is told; nothing is dialled
    any more, and no call is left."""
    for stop in (False, True):
        factory = Told()
        tunnel = Tunnel("web", factory, url=f"http://127.0.0.1:{nobody()}", reactor=reactor)
        starting = tunnel.start()
        if stop:
            await tunnel.stop()
            error = await outcome(starting)
            assert str(error) == "endpoint web cannot be registered: it was stopped before a node took it"
        else:
            starting.cancel()
            assert isinstance(await outcome(starting), CancelledError)
        await tunnel.stop()
        assert factory.told == ["start", "stop"]
    never = Tunnel("web", 1, url=url_of(node), reactor=reactor)
    await never.stop()


@in_reactor
async def test_a_refusal_is_told_in_words(node: RunningNode) -> None:
    """What answers is none of a node's upstream ports: the start fails, and nothing goes on behind it."""
    factory = Told()
    tunnel = Tunnel("web", factory, url=f"http://127.0.0.1:{node.proxy_port}", reactor=reactor)
    error = await outcome(tunnel.start())
    assert isinstance(error, CannotListenError)
    assert str(error).startswith("endpoint web cannot be registered: that is the proxy port"), str(error)
    assert factory.told == ["start", "stop"]
    await tunnel.stop()
    at_endpoint = Told()
    settings = EndpointSettings(endpoint="web", url=f"http://127.0.0.1:{node.proxy_port}")
    error = await outcome(PicoServerEndpoint(reactor, settings).listen(at_endpoint))
    assert isinstance(error, CannotListenError)
    assert at_endpoint.told == ["start", "stop"]


@in_reactor
async def test_a_port_of_twisted(node: RunningNode) -> None:
    """`listen` fires with what Twisted wants of a port; stopping it twice is stopping it once."""
    factory = Told()
    endpoint = PicoServerEndpoint(reactor, EndpointSettings(endpoint="web", url=url_of(node)))
    port: Any = await endpoint.listen(factory)
    assert port.getHost().host == "web"
    port.startListening()
    first, second = port.stopListening(), port.stopListening()
    await first
    await second
    assert factory.told == ["start", "stop"]


@in_reactor
async def test_a_tunnel_of_a_local_port(node: RunningNode) -> None:
    """And in an `async with`, which stops it."""
    service = reactor.listenTCP(0, Site(Hello()), interface="127.0.0.1")
    async with Tunnel("web", service.getHost().port, url=url_of(node), reactor=reactor) as tunnel:
        assert tunnel.endpoint == "web"
        assert (await hello(node)).endswith(b"hello")
    assert b"no-upstreams" in await hello(node)
    await service.stopListening()
