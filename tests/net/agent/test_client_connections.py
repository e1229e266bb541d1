"""The agent's connections to a service that belong to one client's connection each."""

from __future__ import annotations

import pytest

from pico_twisted.core.http1.client_connection import CLIENT_CONNECTION
from pico_twisted.core.rpc.frames import CLIENT_GONE
from pico_twisted.net.agent.serving import http1_service
from pico_twisted.net.agent.serving.http1_service import CLIENT_IDLE_S
from tests.net.agent.agent_fakes import OK, Bench, FakeTransport, Request

NTLM = b"Authorization: NTLM x\r\n"
ASKS = b"HTTP/1.1 401 No\r\nWWW-Authenticate: NTLM\r\nContent-Length: 0\r\n\r\n"


def named(number: int) -> bytes:
    """The field that a node writes for a client's connection."""
    return CLIENT_CONNECTION + b": %032x\r\n" % number


def served(bench: Bench, number: int = 0) -> FakeTransport:
    """A request, of a client's connection unless the number is 0, that was answered; returns where it went."""
    before = {transport: transport.taken() for transport in bench.service.transports}
    request = bench.get(extra=named(number) if number else b"")
    (used,) = [one for one in bench.service.transports if one not in before or one.value()]
    used.taken()
    used.answer(OK)
    assert request.ended
    return used


def test_each_has_its_own(bench: Bench) -> None:
    """A client's connection keeps the service's connection that it had, and nobody else gets that, named or not."""
    first = {number: served(bench, number) for number in (1, 2, 3)}
    assert len(set(first.values())) == 3
    assert served(bench) not in first.values()
    for number in (2, 1, 3, 2):
        assert served(bench, number) is first[number]


@pytest.mark.parametrize("answer", [OK, ASKS])
@pytest.mark.parametrize("version", [1, 2])
def test_without_a_name_it_is_used_once(answer: bytes, version: int) -> None:
    """When no node says whose a request is that authenticates its connection, the connection is closed behind the
    answer: nodes of older versions do not say it, and one of version 1 passes on what its clients say."""
    bench = Bench(version)
    request = bench.get(extra=NTLM + (named(1) if version == 1 else b""))
    bench.service.last.answer(answer)
    assert request.ended and not bench.local.connections


@pytest.mark.parametrize("field", [b"WWW-Authenticate: Negotiate, Basic", b"Proxy-Authenticate: NTLM"])
def test_a_service_that_asks(bench: Bench, field: bytes) -> None:
    """The same when the service asks for such an authentication, and not when it asks for another one."""
    bench.get()
    bench.service.last.answer(b"HTTP/1.1 401 No\r\n" + field + b"\r\nContent-Length: 0\r\n\r\n")
    assert not bench.local.connections
    bench.get(extra=b"Authorization: Basic YTpi\r\n")
    bench.service.last.answer(b"HTTP/1.1 401 No\r\nWWW-Authenticate: Basic\r\nContent-Length: 0\r\n\r\n")
    assert len(bench.local.connections) == 1


def gone(bench: Bench, payload: bytes, more: bool = False) -> Request:
    """The node says that a client's connection has ended."""
    call = bench.tunnel.theirs.call(CLIENT_GONE, payload, more)
    request = bench.tunnel.requests[call] = Request(tunnel=bench.tunnel, call=call)
    bench.tunnel.pump()
    return request


def test_the_client_is_gone(bench: Bench) -> None:
    """An idle connection of its is closed at once, one in use behind its answer; that is answered, twice too."""
    served(bench, 1)
    assert len(bench.local.connections) == 1
    for _ in range(2):
        assert gone(bench, b"%032x" % 1).ended
        assert not bench.local.connections
    request = bench.get(extra=named(2))
    assert gone(bench, b"%032x" % 2).ended
    bench.service.last.answer(OK)
    assert request.body == b"ok" and not bench.local.connections
    assert bench.nothing_is_left()


@pytest.mark.parametrize("payload", [b"x", b"%033x" % 1])
def test_nonsense_of_a_node(bench: Bench, payload: bytes) -> None:
    """What is no name ends that call alone."""
    assert gone(bench, payload).reset_code == "protocol"
    assert gone(bench, b"%032x" % 1, more=True).reset_code == "protocol"
    assert served(bench)


def test_idle_ones_are_bounded_in_age(bench: Bench) -> None:
    """They may be idle for longer than others, as long as a client's, and not for ever."""
    served(bench, 1)
    bench.pass_time(60)
    assert len(bench.local.connections) == 1
    bench.pass_time(CLIENT_IDLE_S - 50)
    assert not bench.local.connections


def test_they_are_bounded_in_number(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    """Beyond the bound the oldest idle one is closed; when none is idle, the new one is not kept."""
    monkeypatch.setattr(http1_service, "MAX_CLIENTS", 3)
    first = [served(bench, number) for number in range(1, 5)]
    assert len(bench.local.connections) == 3 and not first[0].connected and first[3].connected
    in_use = [bench.get(extra=named(number)) for number in (2, 3, 4)]
    new = bench.get(extra=named(9))
    bench.service.last.answer(OK)
    assert new.ended and not bench.service.last.connected
    for transport in first[1:]:
        transport.answer(OK)
    assert all(request.ended for request in in_use) and len(bench.local.connections) == 3


def test_a_dead_one_is_replaced(bench: Bench) -> None:
    """The service closed it: the client gets a new one, which is its own again."""
    old = served(bench, 1)
    old.finish()
    new = served(bench, 1)
    assert new is not old and served(bench, 1) is new and served(bench) is not new
