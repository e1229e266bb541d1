"""What the adapter of libnghttp2 promises beyond it, with frames by hand and with both ends."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pico_twisted.core.http2 import events as e
from pico_twisted.core.http2.connection import Http2Connection, StreamGone
from pico_twisted.core.http2.engine import secret
from pico_twisted.core.http2.settings import Http2Settings
from tests.core.http2.pair import GET, ByHand, Pair, flush
from tests.peers import http2_frames as wire

OK = ((b":status", b"200"),)
SMALL = Http2Settings(streams=4, window_bytes=65_535, header_bytes=4096, header_fields=200)


def test_a_request_and_its_response_with_interim_head_and_trailers_both_ways() -> None:
    """Each part of an exchange arrives as its own event, in order, and both ends are told once that it is over."""
    pair = Pair()
    stream = pair.client.request((*GET, (b"te", b"trailers")), ended=False)
    pair.client.send(stream, b"question", ended=False)
    pair.client.trailers(stream, ((b"asked", b"yes"),))
    _, told = pair.pump()
    assert told == [
        (e.REQUEST, stream, (*GET, (b"te", b"trailers")), False),
        (e.DATA, stream, b"question", False),
        (e.TRAILERS, stream, ((b"asked", b"yes"),), True),
    ]
    pair.server.interim(stream, ((b":status", b"103"), (b"link", b"</a>")))
    pair.server.respond(stream, OK, ended=False)
    pair.server.send(stream, b"answer", ended=False)
    pair.server.trailers(stream, ((b"grpc-status", b"0"),))
    told, at_server = pair.pump()
    assert told == [
        (e.INTERIM, stream, ((b":status", b"103"), (b"link", b"</a>")), False),
        (e.RESPONSE, stream, OK, False),
        (e.DATA, stream, b"answer", False),
        (e.TRAILERS, stream, ((b"grpc-status", b"0"),), True),
        (e.CLOSED, stream, 0, False),
    ]
    assert at_server == [(e.CLOSED, stream, 0, False)]


def test_trailers_without_fields_just_end_the_stream() -> None:
    """No trailers are no fault of the connection: the engine has no frame for an empty field section."""
    pair = Pair()
    stream = pair.client.request(GET, ended=True)
    pair.pump()
    pair.server.respond(stream, OK, ended=False)
    pair.server.send(stream, b"x", ended=False)
    pair.server.trailers(stream, ())
    told, _ = pair.pump()
    assert told[-2:] == [(e.DATA, stream, b"x", True), (e.CLOSED, stream, 0, False)]


def test_the_peer_learns_of_extended_connect_and_of_the_limit_of_streams() -> None:
    """A client may know what the server takes once its SETTINGS have come (RFC 8441 3)."""
    pair = Pair(Http2Settings(streams=7))
    assert pair.client.peer_takes_connect
    assert pair.client.peer_streams == 7
    assert not pair.server.peer_takes_connect
    fields = ((b":method", b"CONNECT"), (b":protocol", b"websocket"), *GET[1:])
    stream = pair.client.request(fields, ended=False)
    _, told = pair.pump()
    assert told == [(e.REQUEST, stream, fields, False)]
    pair.server.respond(stream, OK, ended=False)
    pair.server.send(stream, b"down", ended=True)
    pair.client.send(stream, b"up", ended=False)
    told, at_server = pair.pump()
    assert (e.DATA, stream, b"down", True) in told
    assert at_server == [(e.DATA, stream, b"up", False)], "half closed: the other way goes on"
    pair.client.send(stream, b"", ended=True)
    assert pair.pump()[1][-1] == (e.CLOSED, stream, 0, False)


def test_an_end_in_two_steps_loses_no_request() -> None:
    """A first GOAWAY names no stream, a second the last one: what came before is served, and then it is over."""
    pair = Pair()
    pair.server.announce_end()
    late = pair.client.request(GET, ended=True)  # on its way, while the first one comes
    told, at_server = pair.pump()
    assert (e.GOAWAY, 2**31 - 1, 0, False) in told
    assert at_server == [(e.REQUEST, late, GET, True)]
    pair.server.goaway()
    told, _ = pair.pump()
    assert told == [(e.GOAWAY, late, 0, False)]
    assert not pair.client.takes_requests
    with pytest.raises(StreamGone):
        pair.client.request(GET, ended=True)
    pair.server.respond(late, OK, ended=True)
    told, at_server = pair.pump()
    assert told == [(e.RESPONSE, late, OK, True), (e.CLOSED, late, 0, False), (e.ENDED, 0, 0, False)]
    assert at_server == [(e.CLOSED, late, 0, False), (e.ENDED, 0, 0, False)]


def test_what_a_service_did_not_begin_is_told_apart() -> None:
    """Streams above the one that a GOAWAY names were not begun: they are over with REFUSED_STREAM, and no fault."""
    far = ByHand(client=True)
    first, second = (far.end.request(GET, ended=True) for _ in range(2))
    far.flush()
    told = far.send(wire.goaway(first, 0))
    assert told == [(e.GOAWAY, first, 0, False), (e.CLOSED, second, e.REFUSED_STREAM, False)]


def test_a_stream_that_is_not_read_holds_up_no_other() -> None:
    """With all streams but one full and not consumed, any number of bytes goes through that one."""
    pair = Pair(SMALL)
    pair.consumes = False
    for _ in range(SMALL.streams - 1):
        stream = pair.client.request(GET, ended=False)
        pair.client.send(stream, bytes(2 * SMALL.window_bytes), ended=False)
    pair.pump()
    pair.consumes = True
    stream = pair.client.request(GET, ended=False)
    came = 0
    for _ in range(200):
        pair.client.send(stream, bytes(30_000), ended=False)
        _, told = pair.pump()
        came += sum(len(event[2]) for event in told if event[0] == e.DATA)
    assert came == 200 * 30_000
    assert pair.server.bytes_in < came + SMALL.streams * SMALL.window_bytes + 100_000


def test_what_nobody_took_of_streams_that_are_over_does_not_fill_the_connection() -> None:
    """A thousand uploads that are answered early, unread and cut within a frame leave the window as it was."""
    far = ByHand(SMALL)
    for number in range(1000):
        stream = 2 * number + 1
        far.send(wire.headers(stream, GET, end=False) + wire.data(stream, bytes(9000)))
        far.send(wire.data(stream, bytes(16_384))[:8000])
        if number % 2:
            far.end.respond(stream, OK, ended=True)
        far.end.reset(stream, e.CANCEL)
        assert far.flush() == []
        told = far.send(bytes(16_384 + 9 - 8000))
        assert told[-1] == (e.CLOSED, stream, e.CANCEL, False)
        assert far.end._engine.local_window_size >= SMALL.window_bytes * SMALL.streams
    assert not far.end.ended
    assert not far.end._untaken and not far.end._reset_streams and not far.end._accepted


def test_taking_more_than_there_is_or_too_late_does_nothing() -> None:
    """A consumer may tell of bytes whose stream is over."""
    far = ByHand()
    far.send(wire.headers(1, GET, end=False) + wire.data(1, b"abc"))
    far.end.consumed(1, 100)
    far.end.consumed(99, 100)
    far.send(wire.rst(1))
    far.end.consumed(1, 3)
    assert far.kinds() == [e.REQUEST, e.DATA, e.PEER_RESET, e.CLOSED]


def test_closed_is_the_last_event_of_a_stream_and_comes_once() -> None:
    """Resets that come again, or for streams that never were, are not told of."""
    far = ByHand()
    far.send(wire.headers(1, GET, end=False) + wire.rst(1) + wire.rst(1) + wire.window(1, 10))
    assert far.told[1:] == [(e.PEER_RESET, 1, e.CANCEL, False), (e.CLOSED, 1, e.CANCEL, False)]


def test_a_fault_of_the_peer_is_told_before_its_stream_is_over() -> None:
    """What the peer made us reset is told apart from what it reset, and from what we did."""
    far = ByHand()
    post = wire.request((b"content-length", b"3"), method=b"POST")
    far.send(wire.headers(1, post, end=False) + wire.data(1, b"12345", end=True))
    assert far.told == [
        (e.REQUEST, 1, tuple(post), False),
        (e.FAULT, 1, e.PROTOCOL_ERROR, False),
        (e.CLOSED, 1, e.PROTOCOL_ERROR, False),
    ]
    far.told.clear()
    far.send(wire.headers(3, [*GET, (b"Upper", b"case")]))
    assert far.told == [(e.FAULT, 3, e.PROTOCOL_ERROR, False), (e.CLOSED, 3, e.PROTOCOL_ERROR, False)]
    far.send(wire.headers(5, GET, end=False))
    far.end.reset(5, e.INTERNAL_ERROR)
    assert far.flush() == [(e.CLOSED, 5, e.INTERNAL_ERROR, False)]


@pytest.mark.parametrize("piece", [1, 5, 9, 12, 13, 1000])
def test_a_window_that_becomes_too_large_ends_its_stream_and_no_other(piece: int) -> None:
    """RFC 9113 6.9.1: the stream is reset with FLOW_CONTROL_ERROR, however the bytes come, which counts as the peer's
    fault; another one is answered, and smaller increments behind the large one are taken."""
    far = ByHand()
    heads = wire.headers(1, GET) + wire.headers(3, GET)
    far.send(heads + wire.window(1, 2**31 - 65_535) + wire.window(1, 1) + wire.window(3, 2**30), piece)
    ends = [one[:3] for one in far.told if one[0] in (e.FAULT, e.CLOSED, e.ENDED)]
    assert ends == [(e.FAULT, 1, e.FLOW_CONTROL_ERROR), (e.CLOSED, 1, e.FLOW_CONTROL_ERROR)]
    far.end.respond(3, OK, ended=True)
    far.flush()
    assert [(one.kind, one.stream) for one in far.sent] == [(wire.RST_STREAM, 1), (wire.HEADERS, 3)]
    assert far.sent[0].code == e.FLOW_CONTROL_ERROR


def test_a_stream_that_is_over_at_once_says_so_beside_its_request() -> None:
    """Whoever looks at the events of one read knows that nothing has to be begun, also if we had to reset it."""
    far = ByHand()
    post = wire.request((b"content-length", b"1"), method=b"POST")
    told = far.end.receive(wire.headers(1, post, end=False) + wire.data(1, b"12"))
    assert [event[0] for event in told] == [e.REQUEST, e.FAULT, e.CLOSED]


@pytest.mark.parametrize("size", [40_000, 15_000])
def test_a_head_that_is_too_large_can_be_answered(size: int) -> None:
    """A head over what the peer was told is given to the user of the engine, up to four times as much."""
    far = ByHand(SMALL)
    fields = [*GET, *[(b"x-%d" % number, b"v" * 1000) for number in range(size // 1040)]]
    block = wire.block(fields)
    told = far.send(
        wire.headers(1, block[:16_000], flags=0)
        + b"".join(
            wire.continuation(1, block[at : at + 16_000], end=at + 16_000 >= len(block))
            for at in range(16_000, max(len(block), 16_001), 16_000)
        )
    )
    if size > 4 * SMALL.header_bytes:
        assert told == [(e.ENDED, 0, e.ENHANCE_YOUR_CALM, False)]
        assert far.sent[-1].kind == wire.GOAWAY
        assert far.sent[-1].code == e.ENHANCE_YOUR_CALM
    else:
        assert told == [(e.REQUEST, 1, tuple(fields), True)]


def test_the_last_frame_names_the_last_request_that_was_told_of() -> None:
    """A client may only send again what was not begun: a GOAWAY of ours says which that is (RFC 9113 6.8)."""
    far = ByHand(SMALL)
    far.send(wire.headers(1, GET) + wire.headers(3, GET))
    far.send(wire.headers(5, wire.literal(b"a", b"b" * 100, 0x40) + wire.indexed(62) * 300))
    last = far.sent[-1]
    assert (last.kind, last.code) == (wire.GOAWAY, e.ENHANCE_YOUR_CALM)
    assert int.from_bytes(last.payload[:4], "big") == 3


def test_no_frame_is_written_into_another_one() -> None:
    """When the engine gives up while a frame is half out, there is no last frame."""
    far = ByHand(SMALL)
    far.send(wire.headers(1, GET))
    far.end.respond(1, OK, ended=False)
    far.end.send(1, bytes(10_000), ended=True)
    begun = far.end.to_send(100)
    told = far.end.receive(wire.headers(3, wire.literal(b"a", b"b" * 90, 0x40) + wire.indexed(62) * 200))
    assert told[-1] == (e.ENDED, 0, e.ENHANCE_YOUR_CALM, False)
    assert far.end.to_send(64 * 1024) == b""
    assert len(begun) == 100


def test_a_connection_that_ends_takes_and_gives_nothing_more() -> None:
    """After terminate() there is one GOAWAY, one ENDED, and no call that fails for that."""
    far = ByHand()
    far.send(wire.headers(1, GET))
    far.end.terminate(e.ENHANCE_YOUR_CALM)
    assert far.end.receive(wire.ping()) == []
    assert far.flush() == [(e.ENDED, 0, e.ENHANCE_YOUR_CALM, False)]
    assert [frame.kind for frame in far.sent] == [wire.GOAWAY]
    far.end.terminate(0)
    far.end.ping()
    far.end.goaway()
    far.end.announce_end()
    far.end.reset(1, e.CANCEL)
    far.end.consumed(1, 5)
    with pytest.raises(StreamGone):
        far.end.respond(1, OK, ended=True)
    assert far.end.queued(1) == 0
    assert far.end.peer_streams == 0
    assert not far.end.takes_requests
    assert far.flush() == []


@pytest.mark.parametrize("bad", [b"GET / HTTP/1.1\r\nHost: a\r\n\r\n", bytes(100), b"\xff" * 100])
def test_what_is_not_http2_ends_with_a_reason(bad: bytes) -> None:
    """A peer that speaks something else gets a GOAWAY, and no exception comes out."""
    server = Http2Connection(client=False, settings=Http2Settings())
    assert server.receive(bad)[-1] == (e.ENDED, 0, e.PROTOCOL_ERROR, False)
    out, _ = flush(server)
    frames, rest = wire.read_frames(out)
    assert frames[-1].code == e.PROTOCOL_ERROR and not rest


def test_secrets_are_never_put_into_a_table() -> None:
    """A field marked as secret is a literal that nobody may index (RFC 7541 6.2.3), however often it is sent."""
    pair = Pair()
    sizes = []
    for _ in range(3):
        pair.client.request((*GET, secret(b"authorization", b"Bearer 0123456789abcdef")), ended=True)
        out, _ = flush(pair.client)
        sizes.append(len(out))
        pair.server.receive(out)
    assert sizes[2] > 25
    frames, _ = wire.read_frames(out)
    assert any(byte & 0xF0 == 0x10 for byte in frames[0].payload)


@given(st.data())
def test_however_bytes_are_cut_the_events_are_the_same(data: st.DataObject) -> None:
    """Frames arrive in any pieces: what is told does not depend on them."""
    kinds = st.sampled_from(
        [
            lambda s: wire.headers(s, GET),
            lambda s: wire.headers(s, GET, end=False) + wire.data(s, b"abc") + wire.data(s, b"", end=True),
            lambda s: wire.headers(s, GET, end=False) + wire.headers(s, ((b"t", b"v"),)),
            lambda s: wire.headers(s, GET, end=False) + wire.rst(s),
            lambda s: (
                wire.headers(s, wire.request((b"content-length", b"9")), end=False) + wire.data(s, b"1", end=True)
            ),
            lambda s: wire.priority(s + 100) + wire.ping() + wire.settings((3, 5)),
            lambda s: wire.headers(s, GET) + wire.data(s, b"late"),
            lambda s: wire.headers(s + 6, GET) + wire.headers(s + 2, GET),
            lambda s: wire.priority(s, s),
        ]
    )
    stream = b"".join(
        make(2 * number + 1) for number, make in enumerate(data.draw(st.lists(kinds, min_size=1, max_size=6)))
    )
    whole, cut = ByHand(), ByHand()
    whole.send(stream)
    cut.send(stream, piece=data.draw(st.integers(1, 40)))
    kinds_compared = (e.REQUEST, e.DATA, e.TRAILERS, e.PEER_RESET, e.ENDED)
    assert [ev for ev in whole.told if ev[0] in kinds_compared] == [ev for ev in cut.told if ev[0] in kinds_compared]


@given(st.binary(max_size=300), st.integers(1, 50), st.booleans())
def test_no_bytes_of_a_peer_raise(noise: bytes, piece: int, client: bool) -> None:
    """Whatever comes, in whatever pieces, is events or the end."""
    far = ByHand(client=client)
    far.send(noise, piece=piece)
    far.end.goaway()
    far.flush()


def test_nothing_waits_of_a_stream_that_is_over() -> None:
    """Asking whether a stream's bytes have gone is answered for one that the engine has forgotten, too."""
    pair = Pair()
    stream = pair.client.request(GET, ended=True)
    pair.pump()
    pair.server.respond(stream, OK, ended=True)
    pair.pump()
    assert pair.server.has_sent(stream)
