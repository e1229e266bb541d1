"""Why a connection could not be made is told in words, whichever part of it failed."""

from __future__ import annotations

import socket

import pytest
from twisted.internet.defer import Deferred, TimeoutError
from twisted.internet.endpoints import HostnameEndpoint, TCP4ClientEndpoint
from twisted.internet.error import ConnectionRefusedError
from twisted.internet.interfaces import IProtocol, IStreamClientEndpoint
from twisted.internet.protocol import Factory, Protocol
from twisted.python.failure import Failure

from pico_twisted.net.tls.failures import connect_failure_text
from tests.net.in_reactor import in_reactor, reactor


@pytest.mark.parametrize("kind", ["address", "name", "coroutine"])
@in_reactor
async def test_nobody_takes_the_connection(kind: str) -> None:
    """A host that takes no connection and refuses none gives no answer in time, however its endpoint says so."""
    with socket.socket() as full, socket.socket() as fills:
        full.bind(("127.0.0.1", 0))
        full.listen(0)
        port = full.getsockname()[1]
        fills.connect(("127.0.0.1", port))
        endpoint: IStreamClientEndpoint = TCP4ClientEndpoint(reactor, "127.0.0.1", port)
        if kind == "name":
            endpoint = HostnameEndpoint(reactor, b"localhost", port)
        opening = endpoint.connect(Factory.forProtocol(Protocol))
        if kind == "coroutine":
            opening = Deferred.fromCoroutine(_awaited(opening))
        opening.addTimeout(0.1, reactor)
        with pytest.raises(Exception) as caught:
            await opening
    assert connect_failure_text(Failure(caught.value)) == "no answer in time"


async def _awaited(opening: Deferred[IProtocol]) -> IProtocol:
    return await opening


def test_others() -> None:
    """A refusal and a time-out have their words."""
    assert connect_failure_text(Failure(ConnectionRefusedError())) == "nothing listens there"
    assert connect_failure_text(Failure(TimeoutError())) == "no answer in time"
