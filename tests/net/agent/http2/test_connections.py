"""The connections of a service of HTTP/2: how many there are, who waits, what is sent again, how they end."""

from __future__ import annotations

import pytest
from h2.errors import ErrorCodes
from h2.settings import SettingCodes
from twisted.internet.defer import Deferred
from twisted.internet.error import ConnectionRefusedError

from pico_twisted.core.agent.silence import PING_AFTER_S, PONG_S
from pico_twisted.core.rpc import call as rpc
from pico_twisted.core.rpc.session_base import SEND_HIGH_BYTES
from pico_twisted.net.agent.serving.http2.limits import WINDOW_BYTES
from pico_twisted.net.agent.serving.http2.service import AGAIN_S, MOST_CONNECTIONS
from pico_twisted.net.agent.serving.queue import MOST_WAITING
from tests.net.agent.http2.h2_fakes import H2Peer, Http2Bench

LIMIT = SettingCodes.MAX_CONCURRENT_STREAMS
POST = b"Content-Type: text/plain\r\n"


def test_nothing_is_sent_before_the_service_has_spoken(h2bench: Http2Bench) -> None:
    """A request is only risked on a service that said that it speaks HTTP/2."""
    h2bench.get()
    assert b"web" not in h2bench.service.last.value()
    assert h2bench.peer.requests


def test_calls_wait_for_a_stream_in_their_order() -> None:
    """No more streams are open than the service takes; another connection is made, and who came first is first."""
    bench = Http2Bench(settings={LIMIT: 2})
    requests = [bench.get(b"/%d" % number) for number in range(5)]
    for _ in range(4):
        bench.greet()
    assert [len(peer.requests) for peer in bench.peers] == [2, 2, 1]
    assert [fields[b":path"] for peer in bench.peers for fields in peer.requests.values()] == [
        b"/%d" % number for number in range(5)
    ]
    for peer in bench.peers:
        for stream in peer.requests:
            peer.answer(stream)
    assert all(request.body == b"ok" for request in requests) and bench.nothing_is_left()


def test_a_stream_that_ends_serves_who_waits_longest() -> None:
    """While no other connection can be made, the calls that wait get the streams that become free."""
    bench = Http2Bench(settings={LIMIT: 1})
    first = bench.ask()
    bench.service.refusing = ConnectionRefusedError()
    waiting = [bench.ask() for _ in range(2)]
    peer = bench.peer
    assert not waiting[0].frames and list(peer.requests) == [1]
    peer.answer(1)
    assert first.ended and list(peer.requests) == [1, 3]
    waiting[1].cancel()
    peer.answer(3)
    assert waiting[0].ended and list(peer.requests) == [1, 3] and bench.nothing_is_left()


def test_only_so_many_connections_and_only_so_many_wait() -> None:
    """A service that takes one stream at a time has a bounded number of connections, and a bounded number waits."""
    bench = Http2Bench(settings={LIMIT: 1})
    for _ in range(MOST_CONNECTIONS + MOST_WAITING):
        bench.ask()
    assert len(bench.service.transports) == MOST_CONNECTIONS
    assert sum(len(peer.requests) for peer in bench.peers) == MOST_CONNECTIONS
    refused = bench.ask()
    assert refused.status == 503 and refused.error == "agent-1; service-busy"


def test_one_connection_is_enough_where_no_more_are_wanted() -> None:
    """With `max_connections` calls wait for its streams, clients in turn, and only for a time."""
    bench = Http2Bench(settings={LIMIT: 1}, max_connections=1, max_wait=5.0)
    client = b"X-Forwarded-For: 192.0.2.%d\r\n"
    requests = [bench.get(path, client % number) for path, number in ((b"/a", 1), (b"/b", 1), (b"/c", 1), (b"/d", 2))]
    bench.greet()
    peer = bench.peer
    for stream in (1, 3, 5):
        peer.answer(stream)
    assert [fields[b":path"] for fields in peer.requests.values()] == [b"/a", b"/d", b"/b", b"/c"]
    assert len(bench.service.transports) == 1 and bench.local.waiting == 0
    late = bench.get(b"/e")
    assert bench.local.waiting == 1
    bench.pass_time(6.0)
    assert late.status == 503 and late.error == "agent-1; service-busy" and b"retry-after" in late.head
    peer.answer(7)
    assert all(request.body == b"ok" for request in requests) and bench.nothing_is_left()


def test_a_service_that_takes_no_streams_at_all() -> None:
    """Calls wait for as long as the listener allows, on one connection, and get a 504."""
    bench = Http2Bench(settings={LIMIT: 0}, timeout=5.0)
    request = bench.ask()
    bench.greet()
    assert len(bench.service.transports) == 1 and not bench.peer.requests
    bench.pass_time(6)
    assert request.status == 504 and request.error == "agent-1; service-timeout" and bench.nothing_is_left()


def test_a_smaller_limit_holds_from_when_it_is_said(h2bench: Http2Bench) -> None:
    """The service may lower its limit at any time."""
    h2bench.ask()
    peer = h2bench.peer
    peer.say(lambda h2: h2.update_settings({LIMIT: 1}))
    h2bench.ask()
    assert list(peer.requests) == [1] and len(h2bench.service.transports) == 2


@pytest.mark.parametrize("method", [b"GET", b"POST"])
def test_a_refused_stream_is_sent_again_whatever_its_method(h2bench: Http2Bench, method: bytes) -> None:
    """The service has not looked at it (RFC 9113 8.7): with all of its body, on a connection that takes it."""
    other = h2bench.ask()
    request = h2bench.ask(POST, method=method, more=True)
    request.send(b"body", False)
    peer = h2bench.peer
    peer.say(lambda h2: h2.reset_stream(3, ErrorCodes.REFUSED_STREAM))
    assert not request.frames and len(h2bench.service.transports) == 2, "this connection takes no more than it has"
    again = h2bench.peer
    assert again is not peer and again.body(1) == b"body" and again.ended(1)
    again.answer(1)
    peer.answer(1)
    assert request.body == b"ok" and other.body == b"ok" and h2bench.nothing_is_left()
    assert h2bench.retries("stream-refused") == 1


def test_a_service_that_refuses_for_ever(h2bench: Http2Bench) -> None:
    """Three times is enough: the node is told that nothing was done, and may try elsewhere."""
    request = h2bench.ask(method=b"POST")
    for stream in (1, 3, 5):
        h2bench.peer.say(lambda h2: h2.reset_stream(stream, ErrorCodes.REFUSED_STREAM))  # noqa: B023
    assert request.status == 502 and request.error == "agent-1; service-unreachable" and h2bench.nothing_is_left()


def test_what_was_not_kept_is_not_sent_again(h2bench: Http2Bench) -> None:
    """A body of which more came than is kept cannot be sent twice."""
    request = h2bench.post(b"x" * 30_000)
    peer = h2bench.peer
    for _ in range(3):
        peer.take(1, 30_000)
        request.send(b"x" * 30_000)
    peer.say(lambda h2: h2.reset_stream(1, ErrorCodes.REFUSED_STREAM))
    assert request.status == 502 and request.error == "agent-1; service-failed"


def test_streams_above_the_last_of_a_goaway_are_sent_again(h2bench: Http2Bench) -> None:
    """A service that goes away finishes what it has begun; the rest is done on another connection."""
    begun, fresh = h2bench.ask(method=b"POST"), h2bench.ask(method=b"POST")
    peer = h2bench.peer
    peer.send_raw(b"\0\0\x08\x07\0\0\0\0\0" + (1).to_bytes(4, "big") + bytes(4))
    later = h2bench.ask()
    assert len(h2bench.service.transports) == 2
    other = h2bench.peer
    assert {fields[b":method"] for fields in other.requests.values()} == {b"POST", b"GET"}
    peer.answer(1)
    assert begun.body == b"ok" and not peer.transport.connected, "nothing is left for it to do"
    for stream in other.requests:
        other.answer(stream)
    assert fresh.body == b"ok" and later.body == b"ok" and h2bench.nothing_is_left()


@pytest.mark.parametrize(("method", "again"), [(b"GET", True), (b"PUT", True), (b"POST", False)])
def test_a_connection_that_dies_before_the_answer(h2bench: Http2Bench, method: bytes, again: bool) -> None:
    """As over HTTP/1.1: what may be done twice is sent again once, all else is a 502."""
    request = h2bench.ask(method=method)
    peer = h2bench.peer
    peer.transport.lose()
    if not again:
        assert request.status == 502 and request.error == "agent-1; service-failed"
        return
    assert h2bench.retries("stale") == 1
    h2bench.peer.transport.lose()
    assert request.status == 502, "once"
    assert h2bench.nothing_is_left()


def test_a_connection_that_dies_in_the_middle_of_answers(h2bench: Http2Bench) -> None:
    """Each caller sees that its answer was cut."""
    requests = [h2bench.ask(), h2bench.ask()]
    peer = h2bench.peer
    for stream in (1, 3):
        peer.answer(stream, b"half", ends=False)
    peer.transport.lose()
    assert [request.reset_code for request in requests] == ["failed", "failed"] and h2bench.nothing_is_left()


def test_a_service_that_cannot_be_reached(h2bench: Http2Bench) -> None:
    """All that wait hear it, and the next call tries again."""
    h2bench.service.refusing = ConnectionRefusedError()
    assert h2bench.ask().error == "agent-1; service-unreachable"
    h2bench.service.refusing = None
    request = h2bench.ask()
    h2bench.peer.answer(1)
    assert request.body == b"ok"


def test_a_connection_that_does_not_come_in_time(h2bench: Http2Bench) -> None:
    """A service that accepts and says nothing is not reached."""
    request = h2bench.get()
    h2bench.pass_time(11)
    assert request.status == 502 and request.error == "agent-1; service-unreachable"
    assert not h2bench.service.last.connected and h2bench.nothing_is_left()


def test_the_dial_of_a_service_that_is_closed_meanwhile(h2bench: Http2Bench) -> None:
    """An agent that stops while it connects leaves nothing open."""
    attempts: list[Deferred[object]] = []
    h2bench.service.waiting = attempts
    request = h2bench.get()
    h2bench.local.close()
    assert h2bench.service.cancelled == 1 and request.status == 502 and not h2bench.local.busy


def test_an_idle_connection_is_closed_in_good_order(h2bench: Http2Bench) -> None:
    """After the keepalive time, with a GOAWAY."""
    h2bench.ask()
    h2bench.peer.answer(1)
    h2bench.pass_time(50)
    assert h2bench.connections() == 1
    peer = h2bench.peer
    h2bench.pass_time(6)
    assert h2bench.connections() == 0 and not h2bench.local.busy
    assert b"\x07\0\0\0\0\0" in peer.transport.value(), "GOAWAY"


def test_a_retired_service_closes_behind_its_calls(h2bench: Http2Bench) -> None:
    """A reload lets calls go on, and keeps no connection."""
    request = h2bench.ask()
    h2bench.local.retire()
    peer = h2bench.peer
    assert h2bench.local.busy and peer.transport.connected
    peer.answer(1)
    assert request.body == b"ok" and not h2bench.local.busy


def test_a_closed_service_cuts_its_calls(h2bench: Http2Bench) -> None:
    """An agent that stops cuts what is left, and keeps nothing."""
    request = h2bench.ask()
    h2bench.peer.answer(1, b"half", ends=False)
    h2bench.local.close()
    assert request.reset_code == "failed" and not h2bench.local.busy


def test_a_silent_service_is_asked_and_given_up(h2bench: Http2Bench) -> None:
    """A machine that died does not hold up all calls for as long as the kernel hopes."""
    lost = [h2bench.ask(method=b"POST"), h2bench.ask(method=b"POST")]
    peer = h2bench.peer
    h2bench.pass_time(PING_AFTER_S + 1)
    assert b"\0\0\x08\x06\0" in peer.transport.value(), "PING"
    h2bench.pass_time(PONG_S + 1)
    assert not peer.transport.connected
    assert [request.error for request in lost] == ["agent-1; service-failed"] * 2
    request = h2bench.ask()
    h2bench.peer.answer(1)
    assert request.body == b"ok"


def test_a_service_that_answers_pings_may_take_its_time(h2bench: Http2Bench) -> None:
    """A stream may be silent for hours; a service of gRPC is not asked again before it would call that an attack."""
    request = h2bench.ask()
    peer = h2bench.peer
    pings = 0
    for _ in range(60):
        h2bench.pass_time(5)
        pings += peer.transport.value().count(b"\0\0\x08\x06\0")
        peer.pump()
    assert pings == 1 and peer.transport.connected
    peer.answer(1)
    assert request.body == b"ok"


def test_a_slow_caller_holds_up_nobody_else(h2bench: Http2Bench) -> None:
    """The window of its stream stays shut once enough is queued; other streams go on."""
    slow, quick = h2bench.ask(greedy=False), h2bench.ask()
    peer = h2bench.peer
    peer.answer(1, None, ends=False)
    sent = 0
    while room := min(peer.h2.local_flow_control_window(1), 16_384):
        peer.say(lambda h2: h2.send_data(1, b"x" * room))
        sent += room
        assert sent <= SEND_HIGH_BYTES + WINDOW_BYTES + rpc.WINDOW_BYTES, "it never ends"
    assert sent >= SEND_HIGH_BYTES
    peer.answer(3, b"quick")
    assert quick.body == b"quick"
    slow.take(sent // 2)
    slow.take(sent // 2)
    peer.pump()
    assert peer.h2.local_flow_control_window(1) > 0
    slow.cancel()
    assert h2bench.nothing_is_left()


def test_a_slow_service_slows_the_caller_down(h2bench: Http2Bench) -> None:
    """Credit is given for what the service's window took, and not before."""
    request = h2bench.post(b"x" * 60_000)
    h2bench.peer.pump()
    request.send(b"x" * 120_000)
    assert request.call.queued > 50_000, "the caller waits for credit"
    other = h2bench.ask()
    h2bench.peer.answer(3)
    assert other.body == b"ok"
    for _ in range(6):
        h2bench.peer.take(1, 30_000)
    assert request.call.queued == 0
    assert h2bench.peer.body(1) == b"x" * 180_000


def test_a_transport_that_is_full_is_given_no_more(h2bench: Http2Bench) -> None:
    """What a service does not read stays with the callers."""
    request = h2bench.ask(method=b"POST", more=True)
    peer = h2bench.peer
    peer.transport.protocol.pauseProducing()
    request.send(b"x" * 10)
    assert not peer.transport.value()
    peer.transport.protocol.resumeProducing()
    peer.pump()
    assert peer.body(1) == b"x" * 10


def test_a_listener_with_a_timeout() -> None:
    """The head has to come in time; a stream that has one may be silent for as long as the node lets it."""
    bench = Http2Bench(timeout=5.0)
    late, begun = bench.ask(), bench.ask()
    bench.peer.answer(3, b"", ends=False)
    bench.pass_time(6)
    assert late.status == 504 and late.error == "agent-1; service-timeout"
    assert not begun.ended and begun.reset_code is None
    assert bench.peer.resets() == [(1, 8)]


def test_a_second_connection_is_not_tried_all_the_time() -> None:
    """Where only one connection can be had, the others are tried once a second at most."""
    bench = Http2Bench(settings={LIMIT: 1})
    bench.ask()
    bench.service.refusing = ConnectionRefusedError()
    tries: list[object] = []
    connect = bench.service.connect

    def counted(factory: object) -> Deferred[object]:
        tries.append(factory)
        return connect(factory)

    bench.service.connect = counted  # type: ignore[method-assign]
    for _ in range(10):
        bench.ask()
    assert len(tries) == 1
    bench.pass_time(2 * AGAIN_S)
    bench.ask()
    assert len(tries) == 2


def test_both_ends_of_a_goaway_without_streams(h2bench: Http2Bench) -> None:
    """A service that goes away while nothing is open: the next call has another connection."""
    h2bench.ask()
    h2bench.peer.answer(1)
    h2bench.peer.say(lambda h2: h2.close_connection())
    assert h2bench.connections() == 0
    request = h2bench.ask()
    peer: H2Peer = h2bench.peer
    peer.answer(1)
    assert request.body == b"ok"
