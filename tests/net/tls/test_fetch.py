"""Questions to other servers."""

from __future__ import annotations

import pytest
from twisted.internet.defer import TimeoutError
from twisted.internet.testing import MemoryReactorClock

from pico_twisted.net.tls.fetch import Fetcher, HttpsPolicy


@pytest.mark.parametrize("scheme", ["http", "https"])
def test_a_server_that_takes_no_connection_was_asked_for_too_long(scheme: str) -> None:
    """A deadline is a deadline, whatever the question waits for when it comes."""
    reactor = MemoryReactorClock()
    asked = Fetcher(reactor, HttpsPolicy()).fetch(f"{scheme}://127.0.0.1:8001/", "", timeout_s=2.0)
    failures: list[object] = []
    asked.addErrback(lambda failure: failures.append(failure.type))
    reactor.advance(1.0)
    assert reactor.tcpClients and not failures
    reactor.advance(1.0)
    assert failures == [TimeoutError]
