"""The work that one connection of HTTP/2 causes: as many requests at once as it may have streams; others wait."""

from __future__ import annotations

from itertools import pairwise
from typing import Any

from h2.errors import ErrorCodes
from twisted.internet.task import Clock

from pico_twisted.config import Http2Config
from pico_twisted.core.overload import LATE_S as OVERLOAD_S
from pico_twisted.core.overload import TURNS
from pico_twisted.core.rpc.frames import CANCELLED
from pico_twisted.net.access.load import HELD_BACK_S
from pico_twisted.net.proxy.http2.channel import LAST_STREAMS_S
from pico_twisted.net.proxy.http2.places import BEGUN_OF_A_TURN, GIVEN_UP_S
from pico_twisted.net.proxy.http2.request import WINDOW_BYTES
from tests.doubles.node import MemoryNode
from tests.doubles.turns import one_turn
from tests.net.doubles import OK2, register
from tests.net.proxy.http2_client import Http2Client

LATE_S = GIVEN_UP_S + 0.3
"""By then what was given up counts no more."""


def client_with(given_up: int, streams: int = 10, **keys: Any) -> Http2Client:
    """A client that gave up so many requests just now."""
    client = Http2Client(http2=Http2Config(streams=streams), **keys)
    for _ in range(given_up):
        client.reset(client.request())
    assert len(client.tunnel.opened) == given_up
    return client


def test_rapid_resets() -> None:
    """What was given up keeps its place for a moment: no more is begun meanwhile, and nobody is refused."""
    client = client_with(10)
    for _ in range(20):
        client.reset(client.request())
    assert len(client.tunnel.opened) == 10
    assert {call.reset_code for call in client.tunnel.opened} == {CANCELLED}
    stream = client.request()
    assert len(client.tunnel.opened) == 10
    client.pass_time(LATE_S)
    assert len(client.tunnel.opened) == 11
    client.respond(OK2 + b"ok")
    assert client.answer(stream)[2] == b"ok"
    assert b"pico_http2_refused_total 0" in client.parts.metrics.exposition()


def test_in_order() -> None:
    """Those that wait are begun in the order of their coming, as places become free; nobody overtakes them."""
    client = client_with(7)
    first = [client.request(b"/%d" % number) for number in range(3)]
    waiting = [client.request(b"/%d" % number) for number in range(3, 8)]
    assert len(client.tunnel.opened) == 10
    client.respond(OK2 + b"ok", False, client.tunnel.opened[7])
    client.pass_time(0.1)
    assert client.ended(first[0]) and len(client.tunnel.opened) == 11
    assert client.call.sent.startswith(b"GET /3 ")
    waiting.append(client.request(b"/8"))
    client.pass_time(LATE_S)
    asked = [call.sent.split()[1] for call in client.tunnel.opened[10:]]
    assert asked == [b"/%d" % number for number in range(3, 9)]
    for call in client.tunnel.opened[8:]:
        call.respond(OK2 + b"ok", False)
    client.flush()
    assert all(client.ended(stream) for stream in first + waiting) and client.parts.proxy.serving() == 0


def test_behind_one_that_was_refused_for_overload() -> None:
    """While the node comes late a client is not refused over and over: behind a request that was, those of the same
    connection wait for a moment. What is in progress goes on, and when the node is in time all are begun."""
    client = Http2Client()
    before = client.request()
    load = client.parts.node.ceilings.load
    load._chance = lambda: 0.0
    for _ in range(TURNS):
        client.parts.sweep.lag_s = 2 * OVERLOAD_S
        load._turn(client.parts.sweep.now)
    refused, waiting = client.request(b"/refused"), [client.request(b"/%d" % number) for number in range(5)]
    assert client.answer(refused)[0] == 503 and len(client.tunnel.opened) == 1
    assert not any(client.ended(stream) for stream in waiting)
    client.respond(OK2 + b"ok")
    assert client.answer(before)[2] == b"ok"
    client.pass_time(HELD_BACK_S)
    assert [call.sent.split()[1] for call in client.tunnel.opened[1:]] == [b"/%d" % number for number in range(5)]


def test_many_that_have_waited() -> None:
    """When their wait is over a few of them are begun in each turn of the reactor, so that others have theirs, too."""
    client = client_with(100, streams=100)
    for _ in range(40):
        client.request()
    counts = []
    client.clock.advance(LATE_S)
    for _ in range(4):
        counts.append(len(client.tunnel.opened) - 100)
        client.clock.advance(0)
    assert counts[-1] == 40 and all(later - earlier <= BEGUN_OF_A_TURN for earlier, later in pairwise(counts))


def in_long_turns(count: int) -> tuple[Http2Client, list[int], list[int]]:
    """A client of a node whose turns take too long, which sends so many requests at once; their streams; and how many
    of them were begun by the end of each turn."""
    client = Http2Client(parts=MemoryNode(Clock(), gathers=True))
    register(client.parts, client.tunnel)
    settings = client.parts.proxy.settings
    assert settings.end_of_turn is not None
    settings.end_of_turn.turn_is_long = lambda: True
    client = Http2Client(parts=client.parts, tunnel=client.tunnel)
    streams = [client.request(b"/%d" % number, flush=False) for number in range(count)]
    client.transport.receive(client.h2.data_to_send())
    begun = [len(client.tunnel.opened)]
    for _ in range(count // BEGUN_OF_A_TURN + 1):
        one_turn(client.clock)
        begun.append(len(client.tunnel.opened))
    return client, streams, begun


def test_many_of_one_read() -> None:
    """In a turn that has taken its time a few of them are begun, and a few in each of those that follow, in their
    order: so all others have their part of each turn. Nobody is refused."""
    client, streams, begun = in_long_turns(5 * BEGUN_OF_A_TURN)
    assert begun[0] == BEGUN_OF_A_TURN and begun[-1] == len(streams)
    assert all(later - earlier <= BEGUN_OF_A_TURN for earlier, later in pairwise(begun))
    assert [call.sent.split()[1] for call in client.tunnel.opened] == [b"/%d" % n for n in range(len(streams))]
    for call in client.tunnel.opened:
        call.respond(OK2 + b"ok", False)
    client.flush()
    assert all(client.answer(stream)[2] == b"ok" for stream in streams)


def test_few_of_one_read() -> None:
    """So many as are begun in any turn are begun at once."""
    _, _, begun = in_long_turns(BEGUN_OF_A_TURN)
    assert set(begun) == {BEGUN_OF_A_TURN}


def test_other_frames_while_some_wait_for_their_turn() -> None:
    """What else the client sends makes nothing of them begin before its turn."""
    client, _, _ = in_long_turns(0)
    for number in range(3 * BEGUN_OF_A_TURN):
        client.request(b"/%d" % number, flush=False)
    client.transport.receive(client.h2.data_to_send())
    for _ in range(5):
        client.h2.ping(bytes(8))
        client.transport.receive(client.h2.data_to_send())
    assert len(client.tunnel.opened) == BEGUN_OF_A_TURN
    line = client.parts.proxy.line
    assert line.wait_s() == 0 and line.wait_s in client.parts.sweep.lines
    client.clock.rightNow += 3.0  # no turn comes for so long
    assert line.wait_s() == 3.0
    client.pass_time(0.1)
    assert len(client.tunnel.opened) == 3 * BEGUN_OF_A_TURN


def test_one_that_is_given_up_while_it_waits() -> None:
    """Nothing is made of it, and it takes no place of others."""
    client = client_with(10)
    gone, stays = client.request(b"/gone"), client.request(b"/stays")
    client.reset(gone)
    client.pass_time(LATE_S)
    assert [call.sent.split()[1] for call in client.tunnel.opened[10:]] == [b"/stays"]
    client.respond(OK2 + b"ok")
    assert client.ended(stays)
    lines = [(line["target"], line["status"], line["error"]) for line in client.log[10:]]
    assert lines == [("/gone", 499, "client-gone"), ("/stays", 200, "")]


def test_a_body_that_comes_meanwhile() -> None:
    """It is not taken, so that the client's window bounds it; later it is the service's, with what follows."""
    client = client_with(10)
    stream = client.request(method=b"POST", ended=False)
    for _ in range(4):
        client.send(stream, bytes(WINDOW_BYTES // 4 - 1) + b"x")
    assert client.h2.local_flow_control_window(stream) == 0
    assert client.channel.held_bytes == WINDOW_BYTES and client.parts.proxy.held_bytes() == WINDOW_BYTES
    client.pass_time(LATE_S)
    assert client.call.sent.endswith(bytes(10) + b"x") and client.h2.local_flow_control_window(stream) > 0
    client.send(stream, b"more", True)
    assert client.call.sent.count(b"x") >= 4 and client.call.sent.endswith(b"more") and client.call.send_ended
    client.respond(OK2 + b"ok")
    assert client.ended(stream) and client.channel.held_bytes == 0 and client.log[-1]["bytes_in"] == WINDOW_BYTES + 4


def test_whole_requests() -> None:
    """Bodies that have come whole meanwhile, with trailers or without, go on as if they had come with the head."""
    client = client_with(10)
    whole = client.request(b"/whole", method=b"POST", ended=False)
    client.send(whole, b"bo")
    client.send(whole, b"dy", True)
    trailed = client.request(b"/trailed", method=b"POST", ended=False)
    client.send(trailed, b"body")
    client.h2.send_headers(trailed, [(b"x-sum", b"1")], end_stream=True)
    client.flush()
    client.pass_time(LATE_S)
    for call in client.tunnel.opened[10:]:
        assert call.sent.endswith(b"\r\n\r\nbody") and call.send_ended
        client.respond(OK2 + b"ok", False, call)
    assert client.ended(whole) and client.ended(trailed)


def test_a_websocket_that_waits() -> None:
    """What was sent before it had its place waits for the answer, too."""
    client = client_with(10)
    stream = client.websocket()
    client.send(stream, b"early")
    client.pass_time(LATE_S)
    assert b"early" not in client.call.sent
    client.respond(b"HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n", True)
    assert client.call.sent.endswith(b"early") and client.answer(stream)[0] == 200


def test_a_node_that_stops() -> None:
    """Requests that wait are served like others in progress."""
    client = client_with(10)
    stream = client.request()
    client.parts.proxy.drain()
    client.pass_time(LAST_STREAMS_S + 0.5)
    assert len(client.goaways()) == 2 and not client.transport.half_closed
    client.call.respond(OK2 + b"ok", False)
    client.clock.advance(0)
    assert b"ok" in client.transport.clear() and client.transport.half_closed and client.log[-1]["status"] == 200
    assert stream


def test_a_client_that_leaves() -> None:
    """What waits is over with its connection, and leaves nothing behind."""
    for leave in ("receive_reset", "receive_fin"):
        client = client_with(10)
        client.request()
        getattr(client.transport, leave)()
        client.pass_time(LATE_S)
        assert len(client.tunnel.opened) == 10 and client.parts.proxy.serving() == 0
        assert client.log[-1]["error"] == "client-gone"
        client.parts.stop()
        assert client.clock.getDelayedCalls() == []


def test_one_that_is_shut_while_it_waits() -> None:
    """It is over, and is logged."""
    client = client_with(10)
    stream = client.request()
    (request,) = client.channel.requests()
    request.shut("revoked")
    client.flush()
    client.pass_time(LATE_S)
    assert client.resets(stream) == [ErrorCodes.CANCEL] and len(client.tunnel.opened) == 10
    assert client.log[-1]["error"] == "revoked" and client.parts.proxy.serving() == 0


def test_bodies_that_go_on_behind_their_answers() -> None:
    """A service that answers before it took the body: the rest of that is work, and is counted while it lasts."""
    client = Http2Client(http2=Http2Config(streams=3))
    client.tunnel.takes = False
    for number in range(3):
        stream = client.request(b"/%d" % number, method=b"POST", ended=False)
        while (window := client.h2.local_flow_control_window(stream)) > 0:
            client.send(stream, bytes(min(window, 16_384)))
        client.respond(OK2 + b"ok")
        client.send(stream, b"", True)
        assert client.answer(stream)[2] == b"ok" and client.ended(stream) and not client.call.send_ended
    assert client.channel.held_bytes > 0
    waits = client.request(b"/3")
    client.pass_time(LATE_S)
    assert len(client.tunnel.opened) == 3
    for call in client.tunnel.opened:
        call.take()
    client.tunnel.takes = True
    client.pass_time(0.3)
    assert len(client.tunnel.opened) == 4 and all(call.send_ended for call in client.tunnel.opened)
    client.respond(OK2 + b"ok")
    assert client.ended(waits) and client.channel.held_bytes == 0 and len(client.log) == 4


def test_many_bytes_in_frames_of_their_own() -> None:
    """What waits costs about as much as it has bytes, however it came."""
    client = client_with(10)
    stream = client.request(method=b"POST", ended=False)
    for _ in range(5000):
        client.h2.send_data(stream, b"x")
    client.flush()
    (request,) = client.channel.requests()
    assert len(request._held) <= 2  # type: ignore[attr-defined]
    client.pass_time(LATE_S)
    assert client.call.sent.endswith(b"x" * 5000)
