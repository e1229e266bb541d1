"""What is written to a client of HTTP/2 leaves, whatever happens meanwhile."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from pico_twisted.core.http2.connection import Http2Connection
from pico_twisted.core.http2.settings import Http2Settings
from pico_twisted.net.proxy.http2.output import STREAM_HIGH_BYTES, Http2Output
from tests.peers.http2_frames import PREFACE


class Written:
    """A writer of the only stream, that does something when it is told to pause or to go on."""

    stream = 1

    def __init__(self, pauses: Callable[[], None], goes_on: Callable[[], None]) -> None:
        self.pause_response = pauses
        self.resume_response = goes_on


# GET http://x/ of the static table, with a literal :authority, on stream 1 (RFC 7541 6.2.2)
REQUEST = b"\0\0\x06\x01\x05\0\0\0\x01\x82\x86\x84\x01\x01x"


def opened(wrote: list[bytes]) -> tuple[Http2Connection, Http2Output]:
    """A connection on which a request has come, and what writes to its client."""
    engine = Http2Connection(client=False, settings=Http2Settings())
    output = Http2Output(engine, wrote.append, None, lambda events: None, lambda: None)
    engine.receive(PREFACE + b"\0\0\0\x04\0\0\0\0\0" + REQUEST)
    output.respond(1, [(b":status", b"200")], False)
    return engine, output


def test_behind_an_exception() -> None:
    """One that a writer raised ends that turn, and no other: what is written then leaves."""

    def broken() -> None:
        raise RuntimeError("a fault of ours")

    wrote: list[bytes] = []
    engine, output = opened(wrote)
    with pytest.raises(RuntimeError):
        output.send(Written(broken, broken), bytes(2 * STREAM_HIGH_BYTES + 65_535), False)
    before = len(wrote)
    engine.ping()
    output.soon()
    assert len(wrote) == before + 1


def test_what_a_writer_says_when_it_goes_on() -> None:
    """It leaves with the same turn."""
    wrote: list[bytes] = []
    engine, output = opened(wrote)
    writer = Written(lambda: None, lambda: output.send(writer, b"the rest", True))
    output.send(writer, bytes(STREAM_HIGH_BYTES + 65_536), False)
    assert output.is_stalled(writer)
    window = b"\0\0\x04\x08\0\0\0\0%c\0\x0f\0\0"
    engine.receive(window % 0 + window % 1)
    output.received()
    assert wrote[-1].endswith(b"the rest") and not output.is_stalled(writer)
