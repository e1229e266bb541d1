"""Floods of HTTP/2 end the connection, before they have cost much; honest peers that look alike go on."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from pico_twisted.core.http2 import events as e
from pico_twisted.core.http2 import flood
from pico_twisted.core.http2.flood import Excess, FloodLimits, FloodWatch
from pico_twisted.core.http2.settings import Http2Settings
from tests.core.http2.pair import GET, ByHand, flush
from tests.peers import http2_frames as wire

POST = wire.request(method=b"POST")
LENGTH_1 = wire.request((b"content-length", b"1"), method=b"POST")


class Watched:
    """A server of ours whose user begins every request it may, watched, on a clock of the test."""

    def __init__(self, limits: FloodLimits | None = None, settings: Http2Settings | None = None) -> None:
        self.now = 1000.0
        self.far = ByHand(settings)
        self.watch = FloodWatch(self.far.end, limits or FloodLimits(), self.now)
        self.begun: set[int] = set()
        self.requests = 0
        self.excess: Excess | None = None

    def send(self, data: bytes) -> None:
        """One read, and what it brings about."""
        if self.excess is not None:
            return
        self._saw(self.far.end.receive(data))
        while out := self.far.end.to_send(64 * 1024):
            self._saw(self.far.end.events_of_sending())
            self.far.sent += wire.read_frames(out)[0]
        self._saw(self.far.end.events_of_sending())

    def _saw(self, events: list[e.Event]) -> None:
        self.excess = self.watch.saw(events, self.now) or self.excess
        if self.excess is None and self.far.end.ended:
            self.excess = Excess(next(event[2] for event in events if event[0] == e.ENDED), "engine")
        for event in events:
            if event[0] == e.REQUEST and event[1] not in self.watch.not_begun:
                self.begun.add(event[1])
                self.requests += 1
            elif event[0] == e.CLOSED:
                self.begun.discard(event[1])


def streams(make: Callable[[int], bytes], first: int, count: int) -> bytes:
    return b"".join(make(2 * number + 1) for number in range(first, first + count))


def attack(
    make: Callable[[int], bytes], per_read: int, *, reads: int = 3000, watched: Watched | None = None
) -> Watched:
    """Send what `make` gives for each stream, so many in each read, a millisecond apart."""
    watched = watched or Watched()
    for read in range(reads):
        watched.send(streams(make, read * per_read, per_read))
        watched.now += 0.001
        if watched.excess is not None:
            break
    return watched


@pytest.mark.parametrize("per_read", [1, 7, 200])
def test_rapid_reset(per_read: int) -> None:
    """Requests that are given up at once (CVE-2023-44487) end the connection. Of one read none is begun."""
    watched = attack(lambda stream: wire.headers(stream, GET) + wire.rst(stream), per_read)
    assert watched.excess == Excess(e.ENHANCE_YOUR_CALM, "resets")
    assert watched.requests == 0


def test_rapid_reset_in_reads_of_its_own() -> None:
    """If each reset comes a moment later, no more is begun than the limit of streams, and what comes back with time."""
    watched = Watched()
    for stream in range(1, 10_000, 2):
        watched.send(wire.headers(stream, GET))
        watched.now += 0.0005
        watched.send(wire.rst(stream))
        watched.now += 0.0005
    assert watched.excess == Excess(e.ENHANCE_YOUR_CALM, "resets")
    assert watched.requests <= flood.RESETS + 3
    assert not watched.begun


MADE_YOU_RESET: dict[str, Callable[[int], bytes]] = {
    "WINDOW_UPDATE of 0": lambda s: wire.headers(s, POST, end=False) + wire.window(s, 0),
    "a window over 2^31-1": lambda s: wire.headers(s, POST, end=False) + wire.window(s, 2**31 - 1) * 2,
    "HEADERS on half-closed": lambda s: wire.headers(s, GET) + wire.headers(s, GET),
    "DATA on half-closed": lambda s: wire.headers(s, GET) + wire.data(s, b"x"),
    "PRIORITY of another length": lambda s: wire.headers(s, GET) + wire.frame(wire.PRIORITY, 0, s, b"1234"),
    "PRIORITY on itself": lambda s: wire.headers(s, GET) + wire.priority(s, s),
    "DATA over its length": lambda s: wire.headers(s, LENGTH_1, end=False) + wire.data(s, b"12"),
    "trailers that do not end": lambda s: (
        wire.headers(s, POST, end=False) + wire.headers(s, ((b"a", b"b"),), end=False)
    ),
    "trailers with a pseudo-header field": lambda s: (
        wire.headers(s, POST, end=False) + wire.headers(s, ((b":path", b"/"),))
    ),
}


@pytest.mark.parametrize("primitive", MADE_YOU_RESET)
@pytest.mark.parametrize("per_read", [1, 50])
def test_made_you_reset(primitive: str, per_read: int) -> None:
    """Resets that a peer makes us send (CVE-2025-8671) count as its own, and nothing is begun for them."""
    watched = attack(MADE_YOU_RESET[primitive], per_read)
    assert watched.excess is not None
    assert watched.requests <= 1  # a fault of the connection leaves what came before it in the same read
    assert watched.far.sent[-1].kind == wire.GOAWAY or watched.excess.reason == "resets"


@pytest.mark.parametrize("primitive", ["DATA over its length", "trailers that do not end"])
def test_made_you_reset_in_reads_of_its_own(primitive: str) -> None:
    """If the fault comes a moment later, no more is begun than the limit of streams."""
    watched = Watched()
    for stream in range(1, 10_000, 2):
        whole = MADE_YOU_RESET[primitive](stream)
        head = 9 + int.from_bytes(whole[:3], "big")
        for part in (whole[:head], whole[head:]):
            watched.send(part)
            watched.now += 0.0005
    assert watched.excess == Excess(e.ENHANCE_YOUR_CALM, "resets")
    assert watched.requests <= flood.RESETS + 3


FLOODS: dict[str, tuple[bytes, str]] = {
    "ping": (wire.ping(), "ping"),
    "settings": (wire.settings((wire.INITIAL_WINDOW, 10)), "settings"),
    "settings of nothing": (wire.settings(), "settings"),
    "priority": (wire.priority(1), "frames"),
    "unknown frames": (wire.frame(0x42, 0, 0, bytes(50)), "frames"),
    "window of the connection": (wire.window(0, 1), "frames"),
    "resets of nothing": (wire.rst(1), "frames"),
    "pong": (wire.ping(ack=True), "frames"),
    "goaway": (wire.goaway(), "frames"),
}


@pytest.mark.parametrize("name", FLOODS)
def test_floods_of_frames(name: str) -> None:
    """Frames that are no message and that nobody asked for end the connection within a few megabytes."""
    one, reason = FLOODS[name]
    watched = Watched()
    watched.send(wire.headers(1, POST, end=False) + wire.rst(1))
    sent = 0
    while watched.excess is None and sent < 4 * flood.NOISE_BYTES:
        watched.send(one * 100)
        sent += 100 * len(one)
        watched.now += 0.001
    assert watched.excess is not None
    assert watched.excess.reason in (reason, "engine")
    by_engine = {"goaway": e.NO_ERROR, "resets of nothing": e.INTERNAL_ERROR}
    assert watched.excess.code == by_engine.get(name, e.ENHANCE_YOUR_CALM)


def test_empty_data() -> None:
    """DATA of nothing, again and again (CVE-2019-9518)."""
    watched = Watched()
    watched.send(wire.headers(1, POST, end=False))
    for _ in range(100):
        watched.send(wire.data(1) * 100)
    assert watched.excess is not None and watched.excess.code == e.ENHANCE_YOUR_CALM


def test_padding_is_noise() -> None:
    """Bytes that say nothing count, also within frames that say something."""
    watched = Watched()
    watched.send(wire.headers(1, POST, end=False))
    padded = wire.frame(wire.DATA, wire.PADDED, 1, bytes((255,)) + b"x" + bytes(255))
    for _ in range(500):
        watched.far.end.consumed(1, 1 << 20)
        watched.send(padded * 20)
    assert watched.excess == Excess(e.ENHANCE_YOUR_CALM, "frames")


def test_continuation_without_end() -> None:
    """A head that never ends (CVE-2024-27316) is given up after a few frames."""
    watched = Watched()
    watched.send(wire.headers(1, GET, flags=0))
    for _ in range(20):
        watched.send(wire.continuation(1, wire.literal(b"a", b"b"), end=False))
    assert watched.excess == Excess(e.ENHANCE_YOUR_CALM, "engine")


def test_a_bomb_of_hpack_is_bounded_by_what_is_held() -> None:
    """Heads of 40,000 bytes in 30 each, whose streams stay open with shut windows: what is too much is refused, and
    what is held stays bounded (RFC 7541 7.3)."""
    watched = Watched()
    watched.send(wire.settings((wire.INITIAL_WINDOW, 0)))
    cookie = (b"cookie", b"c" * 3900)
    watched.send(wire.headers(1, [*GET]) + wire.rst(1))
    watched.send(wire.headers(3, wire.block(GET) + wire.literal(*cookie, 0x40)))
    bomb = wire.block(GET) + wire.indexed(62) * 10
    watched.send(b"".join(wire.headers(stream, bomb) for stream in range(5, 250, 2)))
    assert watched.excess is None
    assert len(watched.begun) * 39_000 < flood.HELD_HEAD_BYTES + 40_000
    refused = [frame for frame in watched.far.sent if frame.kind == wire.RST_STREAM]
    assert {frame.code for frame in refused} == {e.REFUSED_STREAM}
    assert len(refused) > 50


def test_a_head_beyond_all_bounds_ends_the_connection() -> None:
    """Each byte on the wire stands for 4,000: it is over after 70 of them."""
    watched = Watched()
    watched.send(wire.headers(1, wire.block(GET) + wire.literal(b"a", b"b" * 4000, 0x40) + wire.indexed(62) * 100))
    assert watched.excess == Excess(e.ENHANCE_YOUR_CALM, "engine")
    assert watched.requests == 0


def test_an_answer_that_nobody_takes_is_given_up() -> None:
    """A window that stays at 0, or opens by a byte now and then, holds an answer for a minute and no longer."""
    watched = Watched()
    watched.send(wire.settings((wire.INITIAL_WINDOW, 0)))
    watched.send(wire.headers(1, GET) + wire.headers(3, GET) + wire.headers(5, GET) + wire.headers(7, GET))
    for stream in (1, 3, 5, 7):
        watched.far.end.respond(stream, ((b":status", b"200"),), ended=False)
        watched.far.end.send(stream, bytes(60_000), ended=stream != 7)
    watched.send(wire.window(0, 1 << 20))
    watched.send(wire.window(7, 60_000))  # an idle stream of events: all that there was has gone
    given_up: dict[int, float] = {}
    start = watched.now
    for _ in range(30):
        for stream in watched.watch.stalled(watched.now):
            given_up.setdefault(stream, watched.now - start)
            watched.far.end.reset(stream, e.CANCEL)
        watched.now += 5.0
        if 3 not in given_up:
            watched.send(wire.window(3, 1))
        watched.send(wire.window(5, 4000))
    assert set(given_up) == {1, 3}
    assert all(flood.STALL_S <= after <= flood.STALL_S + 10 for after in given_up.values())
    assert watched.excess is None


def test_a_tab_that_is_closed_is_no_attack() -> None:
    """A hundred streams given up at once, and again after a while of use, with answers in between."""
    watched = Watched()
    first = 0
    for _ in range(20):
        watched.send(streams(lambda s: wire.headers(s, GET), first, 100))
        watched.send(streams(wire.rst, first, 100))
        first += 100
        watched.now += 5.0
        watched.send(streams(lambda s: wire.headers(s, GET), first, 60))
        for stream in sorted(watched.begun):
            watched.far.end.respond(stream, ((b":status", b"204"),), ended=True)
        watched.send(b"")
        first += 60
    assert watched.excess is None


def test_deadlines_are_no_attack() -> None:
    """Calls that are given up after a second have had their place for that long."""
    watched = Watched()
    for round_number in range(50):
        watched.send(streams(lambda s: wire.headers(s, GET), round_number * 100, 100))
        watched.now += flood.EARLY_S + 0.01
        watched.send(streams(wire.rst, round_number * 100, 100))
    assert watched.excess is None
    assert watched.requests == 5000


def test_answers_that_are_not_taken_to_their_end_are_no_attack() -> None:
    """Who seeks in a video gives up what has begun, again and again."""
    watched = Watched()
    for stream in range(1, 2001, 2):
        watched.send(wire.headers(stream, GET))
        watched.far.end.respond(stream, ((b":status", b"200"),), ended=False)
        watched.far.end.send(stream, bytes(1000), ended=False)
        watched.send(wire.rst(stream))
        watched.send(wire.window(0, 1000))
    assert watched.excess is None


def test_a_download_that_is_measured_by_pings_is_no_attack() -> None:
    """gRPC sends a PING with each WINDOW_UPDATE while bytes come."""
    watched = Watched()
    watched.send(wire.settings((wire.INITIAL_WINDOW, 1 << 20)) + wire.headers(1, GET))
    watched.far.end.respond(1, ((b":status", b"200"),), ended=False)
    for _ in range(20_000):
        watched.far.end.send(1, bytes(1000), ended=False)
        flush(watched.far.end)
        watched.send(wire.window(0, 1000) + wire.window(1, 1000) + wire.ping())
    assert watched.excess is None


def test_small_messages_are_no_attack() -> None:
    """A stream of messages of six bytes each, with the acknowledgements of a naive peer for the answers."""
    watched = Watched()
    watched.send(wire.headers(1, POST, end=False))
    watched.far.end.respond(1, ((b":status", b"200"),), ended=False)
    for _ in range(10_000):
        watched.send(wire.data(1, b"\0\0\0\0\1x"))
        watched.far.end.consumed(1, 6)
        watched.far.end.send(1, b"\0\0\0\0\1y", ended=False)
        watched.send(wire.window(0, 6) + wire.window(1, 6))
    assert watched.excess is None


def test_what_is_kept_of_streams_goes_with_them() -> None:
    """A connection that lives long keeps nothing of what is over."""
    watched = Watched()
    watched.send(wire.settings((wire.INITIAL_WINDOW, 10)))
    for number in range(2000):
        stream = 2 * number + 1
        watched.send(wire.headers(stream, GET))
        watched.far.end.respond(stream, ((b":status", b"200"),), ended=False)
        watched.far.end.send(stream, bytes(11), ended=True)
        watched.send(b"")
        assert watched.watch.stalled(watched.now) == []
        watched.send(wire.window(stream, 1))
    end, watch = watched.far.end, watched.watch
    assert not watch._open and not watch._stalls and not watch.not_begun
    assert not end._untaken and not end._accepted and not end._reset_streams
    assert len(end._order._ended) <= 64


def test_what_was_on_its_way_of_streams_that_we_gave_up() -> None:
    """Forty uploads that are refused at once, whose clients have each sent a window by then, are no flood. The windows
    are pardoned once: who goes on sends a flood."""
    watched = Watched()
    given_up = range(1, 81, 2)
    watched.send(b"".join(wire.headers(stream, POST, end=False) for stream in given_up))
    for stream in given_up:
        watched.far.end.reset(stream, e.NO_ERROR)
    late = b"".join(wire.data(stream, bytes(16 * 1024), end=False) * 4 for stream in given_up)
    assert len(late) > 2 * flood.NOISE_BYTES
    for start in range(0, len(late), 64 * 1024):
        watched.send(late[start : start + 64 * 1024])
    assert watched.excess is None
    for _ in range(20):
        watched.send(wire.data(1, bytes(16 * 1024), end=False) * 4)
    assert watched.excess is not None
