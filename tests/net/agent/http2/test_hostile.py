"""Services of HTTP/2 that break its rules, or ask for too much: it costs their own calls alone, and never the agent."""

from __future__ import annotations

import random

import pytest
from h2.errors import ErrorCodes
from h2.settings import SettingCodes

from pico_twisted.net.agent.serving.http2.limits import WINDOW_BYTES
from tests.net.agent.http2.h2_fakes import Fields, H2Peer, Http2Bench, frame

HEADERS, DATA, RST, SETTINGS, PING, GOAWAY, WINDOW_UPDATE, CONTINUATION = 1, 0, 3, 4, 6, 7, 8, 9
END_STREAM, END_HEADERS = 1, 4
OK_BLOCK = b"\x88"  # :status 200, of HPACK's static table


@pytest.mark.parametrize(
    "fields",
    [
        [(b":status", b"200"), (b"connection", b"close")],
        [(b":status", b"200"), (b"Upper", b"case")],
        [(b":status", b"200"), (b"x", b"line\nend")],
        [(b":status", b"200"), (b"x", b"line\r\nx-more: end")],
        [(b":status", b"200"), (b"x", b"nul\0")],
        [(b":status", b"2000")],
        [(b":status", b"20")],
        [(b":status", b"101")],
        [(b":status", b"200"), (b":status", b"200")],
        [(b":status", b"200"), (b"transfer-encoding", b"chunked")],
        [(b":status", b"200"), (b"content-length", b"2"), (b"content-length", b"3")],
        [(b":status", b"200"), (b"content-length", b"-2")],
        [(b":status", b"200"), (b"content-length", b"5")],
        [(b":status", b"200"), (b"content-length", b"1")],
        [(b":path", b"/"), (b":status", b"200")],
        [(b"no", b"status")],
        [(b":status", b"200"), (b"large", b"x" * 40_000)],
        [(b":status", b"200"), *((b"many", b"x") for _ in range(200))],
    ],
)
def test_a_head_that_is_not_valid_fails_its_own_call(h2bench: Http2Bench, fields: Fields) -> None:
    """Whatever is wrong with an answer, its caller gets a 502, and the calls beside it are served."""
    broken, other = h2bench.ask(), h2bench.ask()
    peer = h2bench.peer
    peer.h2.send_headers(1, list(fields))
    peer.h2.send_data(1, b"ok", end_stream=True)
    peer.pump()
    assert broken.status == 502 and broken.error == "agent-1; bad-response"
    peer.answer(3)
    assert other.body == b"ok" and len(h2bench.service.transports) == 1 and h2bench.nothing_is_left()


@pytest.mark.parametrize("trailers", [[(b":status", b"200")], [(b"Upper", b"x")], [(b"x", b"a\r\nb: c")]])
def test_trailers_that_are_not_valid(h2bench: Http2Bench, trailers: Fields) -> None:
    """What was not begun is a 502, what was begun is cut; nobody else is touched."""
    whole, begun = h2bench.ask(), h2bench.ask()
    peer = h2bench.peer
    peer.answer(3, b"half", ends=False)
    for stream in (1, 3):
        if stream == 1:
            peer.h2.send_headers(1, [(b":status", b"200")])
        peer.h2.send_headers(stream, list(trailers), end_stream=True)
    peer.pump()
    assert whole.status == 502 and begun.reset_code == "failed" and h2bench.nothing_is_left()
    other = h2bench.ask()
    peer.answer(5)
    assert other.body == b"ok"


@pytest.mark.parametrize(
    ("code", "error"),
    [
        (ErrorCodes.NO_ERROR, "service-failed"),
        (ErrorCodes.INTERNAL_ERROR, "service-failed"),
        (ErrorCodes.CANCEL, "service-failed"),
        (ErrorCodes.ENHANCE_YOUR_CALM, "service-failed"),
        (ErrorCodes.HTTP_1_1_REQUIRED, "service-unreachable"),
        (0xDEAD, "service-failed"),
    ],
)
def test_streams_that_are_reset(h2bench: Http2Bench, code: int, error: str) -> None:
    """A reset in place of an answer is a 502, one in the middle of it cuts it."""
    request, begun = h2bench.ask(), h2bench.ask()
    peer = h2bench.peer
    peer.answer(3, b"half", ends=False)
    for stream in (1, 3):
        peer.send_raw(frame(RST, 0, stream, int(code).to_bytes(4, "big")))
    assert request.status == 502 and request.error == f"agent-1; {error}"
    assert begun.reset_code == "failed" and h2bench.nothing_is_left()


def test_an_answer_that_is_reset_in_the_same_read_is_a_clean_error(h2bench: Http2Bench) -> None:
    """What was not sent on yet is not begun."""
    request = h2bench.ask()
    h2bench.peer.send_raw(frame(HEADERS, END_HEADERS, 1, OK_BLOCK) + frame(RST, 0, 1, bytes(4)))
    assert request.status == 502 and len(request.frames) == 1


GARBAGE = {
    "http1": b"HTTP/1.1 400 Bad Request\r\nContent-Length: 0\r\n\r\n",
    "nothing": b"",
    "zeros": bytes(1000),
    "noise": random.Random(1).randbytes(5000),
    "tls alert": b"\x15\x03\x01\x00\x02\x02\x46",
    "data first": frame(DATA, 0, 1, b"x"),
    "huge frame": (2**24 - 1).to_bytes(3, "big") + bytes(6),
    "settings of another size": frame(SETTINGS, 0, 0, b"xxxxx"),
}


@pytest.mark.parametrize("garbage", GARBAGE.values(), ids=GARBAGE.keys())
def test_what_is_no_http2_is_not_reached(h2bench: Http2Bench, garbage: bytes) -> None:
    """Nothing was risked on it: the node may try elsewhere."""
    request = h2bench.get(method=b"POST")
    if garbage:
        h2bench.service.last.answer(garbage)
    h2bench.service.last.lose()
    assert request.status == 502 and request.error == "agent-1; service-unreachable" and h2bench.nothing_is_left()


BROKEN = {
    "stream of its own": frame(HEADERS, END_HEADERS | END_STREAM, 2, OK_BLOCK),
    "push": frame(5, END_HEADERS, 1, (2).to_bytes(4, "big") + OK_BLOCK),
    "stream that never was": frame(HEADERS, END_HEADERS, 9, OK_BLOCK),
    "bad hpack": frame(HEADERS, END_HEADERS, 1, b"\xff\xff\xff\xff\xff"),
    "continuation of nothing": frame(CONTINUATION, END_HEADERS, 1, OK_BLOCK),
    "window overflow": frame(WINDOW_UPDATE, 0, 0, b"\x7f\xff\xff\xff") * 2,
    "window of 0": frame(WINDOW_UPDATE, 0, 0, bytes(4)),
    "data beyond the window": frame(HEADERS, END_HEADERS, 1, OK_BLOCK) + frame(DATA, 0, 1, bytes(16_000)) * 20,
    "long ping": frame(PING, 0, 0, bytes(9)),
    "head without end": frame(HEADERS, 0, 1, OK_BLOCK) + frame(CONTINUATION, 0, 1, b"") * 100,
}


@pytest.mark.parametrize("broken", BROKEN.values(), ids=BROKEN.keys())
def test_frames_that_break_the_connection(h2bench: Http2Bench, broken: bytes) -> None:
    """All its calls end at once, each in its way, and the next call has a fresh connection."""
    post, get = h2bench.ask(method=b"POST"), h2bench.ask()
    peer = h2bench.peer
    peer.send_raw(broken)
    assert post.status == 502 or post.reset_code == "failed"
    assert not peer.transport.connected
    fresh = h2bench.peer
    fresh.answer(1)
    assert get.body == b"ok" or get.reset_code == "failed"
    other = h2bench.ask()
    fresh.answer(fresh.last)
    assert other.body == b"ok" and h2bench.nothing_is_left()


FLOODS = {
    "ping": frame(PING, 0, 0, bytes(8)) * 1000,
    "settings": frame(SETTINGS, 0, 0, b"\0\4\0\1\0\0") * 200,
    "empty data": frame(DATA, 0, 1, b"") * 1000,
    "window updates": frame(WINDOW_UPDATE, 0, 1, b"\0\0\0\1") * 4000,
    "padding": frame(DATA, 8, 1, b"\xff" + bytes(255)) * 150,
    "unknown frames": frame(0xEE, 0, 0, bytes(1000)) * 200,
    "priority": frame(2, 0, 1, b"\0\0\0\3\0") * 5000,
}


@pytest.mark.parametrize("flood", FLOODS.values(), ids=FLOODS.keys())
def test_floods_end_the_connection(h2bench: Http2Bench, flood: bytes) -> None:
    """A service that sends what is no answer without end loses its connection, and little was written to it."""
    request = h2bench.ask(method=b"POST", more=True)
    peer = h2bench.peer
    peer.answer(1, None, ends=False)
    for _ in range(200):
        peer.transport.clear()
        if not peer.transport.connected:
            break
        peer.send_raw_only(flood)
    assert not peer.transport.connected, "it goes on"
    assert request.reset_code == "failed" and h2bench.nothing_is_left()


def test_interim_heads_without_end(h2bench: Http2Bench) -> None:
    """What is beyond measure is dropped, and the answer comes all the same."""
    request = h2bench.ask()
    peer = h2bench.peer
    for _ in range(2000):
        peer.h2.send_headers(1, [(b":status", b"103"), (b"link", b"<" + b"a" * 1000 + b">")])
        peer.transport.answer(peer.h2.data_to_send())
    assert sum(len(payload) for payload, _ in request.frames) < 40_000
    peer.answer(1)
    assert request.frames[-1][0].endswith(b"ok")


def test_a_bomb_of_hpack(h2bench: Http2Bench) -> None:
    """A few bytes that unpack to very many end the connection; their caller gets a 502."""
    request = h2bench.ask(method=b"POST")
    peer = h2bench.peer
    value = b"x" * 4000
    bomb = OK_BLOCK + b"\x40\x01a\x7f" + bytes((0xA1, 0x1E)) + value + b"\xbe" * 10_000
    peer.send_raw(frame(HEADERS, END_HEADERS | END_STREAM, 1, bomb))
    assert request.status == 502 and not peer.transport.connected and h2bench.nothing_is_left()


def test_a_window_that_stays_shut(h2bench: Http2Bench) -> None:
    """An upload waits with its caller and costs a bounded number of bytes; others are served."""
    bench = Http2Bench(settings={SettingCodes.INITIAL_WINDOW_SIZE: 0})
    request = bench.post(b"x" * 1000)
    peer = bench.peer
    for _ in range(20):
        request.send(b"x" * 30_000)
    assert peer.body(1) == b"" and request.call.queued >= 500_000
    other = bench.ask()
    peer.answer(3)
    assert other.body == b"ok"
    request.cancel()
    assert bench.nothing_is_left()


def test_streams_that_are_opened_and_given_up_leave_nothing(h2bench: Http2Bench) -> None:
    """A thousand calls whose callers leave, answered late: no stream, no window and no memory is lost."""
    for _ in range(1000):
        request = h2bench.ask()
        peer = h2bench.peer
        stream = peer.last
        peer.h2.send_headers(stream, [(b":status", b"200")])
        peer.h2.send_data(stream, b"x" * 1000)
        late = peer.h2.data_to_send()
        request.cancel()
        peer.transport.answer(late)
        peer.pump()
        peer.requests.clear()
    assert h2bench.nothing_is_left() and len(h2bench.service.transports) == 1
    assert peer.h2.outbound_flow_control_window > WINDOW_BYTES
    h2bench.ask()
    peer.answer(peer.last)


def test_calls_that_are_given_up_do_not_end_the_others(h2bench: Http2Bench) -> None:
    """What was on its way for calls that their callers gave up is no flood, up to their windows: a POST beside them
    is answered. What goes on behind that is one."""
    given_up, other = [h2bench.ask() for _ in range(20)], h2bench.ask(method=b"POST")
    peer = h2bench.peer
    for stream in range(1, 41, 2):
        peer.h2.send_headers(stream, [(b":status", b"200")])
        for _ in range(15):
            peer.h2.send_data(stream, bytes(16_000))
    late = peer.h2.data_to_send()
    for request in given_up:
        request.cancel()
    for start in range(0, len(late), 65_536):
        peer.transport.answer(late[start : start + 65_536])
    peer.answer(41)
    assert other.body == b"ok" and h2bench.nothing_is_left() and len(h2bench.service.transports) == 1
    for _ in range(40):
        peer.send_raw_only(frame(DATA, 0, 1, bytes(16_000)) * 10)
    assert not peer.transport.connected


def test_a_service_that_goes_away_as_soon_as_it_is_there(h2bench: Http2Bench) -> None:
    """One that says good-bye with its first words, each time, is connected to a few times, and not for as long as a
    call waits. The node may try elsewhere; the next call asks again."""
    good_bye = frame(SETTINGS, 0, 0, b"") + frame(GOAWAY, 0, 0, bytes(8))
    request = h2bench.get(method=b"POST")
    connections = h2bench.service.transports
    for _ in range(20):
        if connections[-1].connected:
            connections[-1].answer(good_bye)
    assert len(connections) == 3 and not h2bench.connections()
    assert request.status == 502 and request.error == "agent-1; service-unreachable"
    request = h2bench.get(method=b"POST")
    connections[-1].answer(good_bye)
    h2bench.peers.clear()
    peer = H2Peer(connections[-1])
    peer.answer(1)
    assert request.body == b"ok" and len(connections) == 5 and h2bench.nothing_is_left()


def test_any_bytes_at_any_moment(h2bench: Http2Bench) -> None:
    """Whatever a service sends, calls end, and the agent is left with nothing."""
    for seed in range(150):
        rng = random.Random(seed)
        bench = Http2Bench()
        requests = [bench.ask(method=rng.choice((b"GET", b"POST"))) for _ in range(3)]
        for _ in range(rng.randrange(1, 30)):
            kind, flags = rng.randrange(12), rng.choice((0, 1, 4, 5, 8, 32, rng.randrange(256)))
            stream = rng.choice((0, 1, 3, 5, 7, rng.randrange(2**31)))
            payload = rng.choice((b"", OK_BLOCK, bytes(rng.randrange(20)), rng.randbytes(rng.randrange(100))))
            bench.greet()
            if bench.peers[-1].transport.connected:
                bench.peers[-1].transport.answer(frame(kind, flags, stream, payload))
        bench.local.close()
        for transport in bench.service.transports:
            transport.lose()
        assert all(request.ended or request.reset_code for request in requests), seed
        assert bench.nothing_is_left(), seed
