"""What the frames of an http call mean, for v1 and v2, as caller and as callee."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pico_twisted.core.http1.errors import Http1Error
from pico_twisted.core.http1.head import END, HeadLimits, RequestHead, ResponseHead
from pico_twisted.core.rpc.frames import MAX_BODY_V1
from pico_twisted.core.rpc.http import (
    CallProtocolError,
    RequestReader,
    RequestStream,
    ResponseReader,
    ResponseStream,
)
from pico_twisted.core.rpc.v1 import dialect_v1

LIMITS = HeadLimits()
GET = b"GET /a?b HTTP/1.1\r\nHost: a.b\r\n\r\n"
POST = b"POST / HTTP/1.1\r\nHost: a.b\r\nContent-Length: 5\r\n\r\n"
UNKNOWN = b"POST / HTTP/1.1\r\nHost: a.b\r\n\r\n"
UPGRADE = b"GET / HTTP/1.1\r\nHost: a.b\r\nConnection: Upgrade\r\nUpgrade: x\r\n\r\n"
UPGRADE_POST = UPGRADE.replace(b"GET", b"POST").replace(b"\r\n\r\n", b"\r\nContent-Length: 5\r\n\r\n")
OK = b"HTTP/1.1 200 OK\r\n\r\n"
OK5 = b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\n"
SWITCH = b"HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: x\r\n\r\n"


V1 = dialect_v1(MAX_BODY_V1)


def request(version: int = 2) -> RequestReader:
    """A request as its callee reads it."""
    return RequestStream(LIMITS) if version == 2 else V1.read_request(LIMITS)


def response(version: int = 2, method: bytes = b"GET", upgrade: bool = False) -> ResponseReader:
    """A response as its caller reads it."""
    return (ResponseStream if version == 2 else V1.read_response)(LIMITS, method, upgrade)


def told(events: list[Any]) -> list[Any]:
    """Events, heads as their status or target."""
    return [
        event.target if isinstance(event, RequestHead) else event.status if isinstance(event, ResponseHead) else event
        for event in events
    ]


class TestRequest:
    """v2 requests."""

    def test_without_a_body(self) -> None:
        """A first frame that ends its stream is a request without a body."""
        assert told(request().feed(GET, False)) == [b"/a?b", END]

    def test_body_in_pieces(self) -> None:
        """A body may begin in the first frame; frame boundaries mean nothing."""
        stream = request()
        assert told(stream.feed(POST + b"he", True)) == [b"/", b"he"]
        assert stream.feed(b"ll", True) == [b"ll"]
        assert stream.feed(b"o", False) == [b"o", END]

    def test_whole_in_one_frame(self) -> None:
        """Head and body may be one frame."""
        assert told(request().feed(POST + b"hello", False)) == [b"/", b"hello", END]

    def test_end_in_a_frame_of_its_own(self) -> None:
        """The last frame may be empty."""
        stream = request()
        stream.feed(POST + b"hello", True)
        assert stream.feed(b"", False) == [END]

    def test_unknown_length(self) -> None:
        """A first frame with *more* and no Content-Length begins a body of unknown length."""
        stream = request()
        stream.feed(UNKNOWN, True)
        assert stream.feed(b"x" * 100, True) == [b"x" * 100]
        assert stream.feed(b"", False) == [END]

    @pytest.mark.parametrize(
        ("frames", "fault"),
        [
            ([(b"GET / HTTP/1.1\r\nHost: a.b\r\n", True)], "whole head"),
            ([(b"", False)], "whole head"),
            ([(b"X" * 40_000 + b"\r\n\r\n", True)], "whole head"),
            ([(POST + b"hello!", True)], "more bytes"),
            ([(POST + b"hell", False)], "fewer bytes"),
            ([(POST, False)], "fewer bytes"),
            ([(POST, True), (b"hello", True), (b"!", True)], "more bytes"),
            ([(POST, True), (b"hel", False)], "fewer bytes"),
            ([(b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n", True)], "Transfer-Encoding"),
            ([(UPGRADE, False)], "stay open"),
            ([(UPGRADE + b"early", True)], "before the 101"),
            ([(UPGRADE_POST + b"hello", False)], "stay open"),
            ([(UPGRADE_POST + b"hello!", True)], "before the 101"),
            ([(UPGRADE_POST + b"hel", True), (b"lo!", True)], "before the 101"),
            ([(UPGRADE_POST + b"hel", True), (b"", False)], "fewer bytes"),
            ([(UPGRADE, True), (b"early", True)], "before the 101"),
        ],
    )
    def test_violations(self, frames: list[tuple[bytes, bool]], fault: str) -> None:
        """What breaks the rules of a request stream breaks its call."""
        stream = request()
        for payload, more in frames[:-1]:
            stream.feed(payload, more)
        with pytest.raises(CallProtocolError, match=fault):
            stream.feed(*frames[-1])

    def test_bad_heads(self) -> None:
        """A head that is no valid HTTP is told as such, with its status."""
        for head, status in (
            (b"GET / HTTP/1.1\r\n\r\n", 400),
            (b"GET / HTTP/2.0\r\nHost: a\r\n\r\n", 505),
            (b"CONNECT a:1 HTTP/1.1\r\nHost: a\r\n\r\n", 501),
            (b"GET / HTTP/1.1\r\nHost: a\r\nX: \x00\r\n\r\n", 400),
        ):
            with pytest.raises(Http1Error) as caught:
                request().feed(head, False)
            assert caught.value.status == status

    def test_upgrade(self) -> None:
        """After a 101 the bytes of the upgraded protocol pass, until the stream ends."""
        stream = request()
        (head,) = stream.feed(UPGRADE, True)
        assert isinstance(head, RequestHead) and head.upgrade == b"x"
        stream.upgraded()
        assert stream.feed(b"\x00\xff", True) == [b"\x00\xff"]
        assert stream.feed(b"", False) == [END]

    @pytest.mark.parametrize("early", [False, True])
    def test_upgrade_with_a_body(self, early: bool) -> None:
        """The body comes first, then what follows the 101, which may come before the body has ended."""
        stream = request()
        stream.feed(UPGRADE_POST + b"he", True)
        if not early:
            assert stream.feed(b"llo", True) == [b"llo"]
        stream.upgraded()
        assert stream.feed(b"llo raw" if early else b" raw", True)
        assert stream.feed(b"", False) == [END]

    def test_upgrade_that_was_declined(self) -> None:
        """On another final head the caller just ends its stream."""
        stream = request()
        stream.feed(UPGRADE_POST + b"hello", True)
        assert stream.feed(b"", False) == [END]
        stream = request()
        stream.feed(UPGRADE, True)
        assert stream.feed(b"", False) == [END]

    def test_h2c_is_no_upgrade(self) -> None:
        """An offer of h2c alone is dropped: the request is an ordinary one."""
        head = UPGRADE.replace(b"Upgrade: x", b"Upgrade: h2c")
        assert told(request().feed(head, False)) == [b"/", END]


class TestResponse:
    """v2 responses."""

    @pytest.mark.parametrize("cut", range(1, 6))
    def test_with_a_length(self, cut: int) -> None:
        """A body is as long as its head says, however it is cut into frames."""
        stream = response()
        events = stream.feed(OK5 + b"hello"[:cut], True) + stream.feed(b"hello"[cut:], False)
        assert b"".join(event for event in events if isinstance(event, bytes)) == b"hello"
        assert told(events)[0] == 200 and events[-1] is END

    def test_unknown_length_in_one_frame(self) -> None:
        """A response that is whole in one frame gets the length that it has."""
        head, body, end = response().feed(OK + b"hello", False)
        assert isinstance(head, ResponseHead) and head.length == 5
        assert (body, end) == (b"hello", END)

    def test_unknown_length(self) -> None:
        """A response that goes on has no length until it ends."""
        stream = response()
        (head,) = stream.feed(OK, True)
        assert isinstance(head, ResponseHead) and head.length is None
        assert stream.feed(b"x", True) == [b"x"]
        assert stream.feed(b"", False) == [END]

    @pytest.mark.parametrize("at", [7, 20, len(OK5) - 1])
    def test_a_head_in_several_frames(self, at: int) -> None:
        """A head that is larger than a frame or than the credit that is left goes on in the next frame."""
        stream = response()
        assert stream.feed(OK5[:at], True) == []
        assert told(stream.feed(OK5[at:] + b"hel", True)) == [200, b"hel"]
        assert told(stream.feed(b"lo", False)) == [b"lo", END]

    def test_interim_heads(self) -> None:
        """Any number of heads of 1xx may come before the final one."""
        stream = response()
        for _ in range(1000):
            assert told(stream.feed(b"HTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\n", True)) == [103]
        assert told(stream.feed(OK5 + b"hello", False)) == [200, b"hello", END]

    @pytest.mark.parametrize("status", [204, 304])
    def test_bodiless_statuses(self, status: int) -> None:
        """204 and 304 end with their head, whatever length it tells."""
        head = b"HTTP/1.1 %d X\r\nContent-Length: 5\r\n\r\n" % status
        assert told(response().feed(head, False)) == [status, END]
        with pytest.raises(CallProtocolError):
            response().feed(head + b"hello", False)

    def test_answer_to_head(self) -> None:
        """The answer to HEAD ends with its head, and its length stays what the service said."""
        head, end = response(method=b"HEAD").feed(OK5, False)
        assert isinstance(head, ResponseHead) and head.length == 5 and end is END
        with pytest.raises(CallProtocolError):
            response(method=b"HEAD").feed(OK5 + b"hello", False)

    def test_upgrade(self) -> None:
        """A 101 turns the stream into raw bytes, those right behind the head included."""
        stream = response(upgrade=True)
        head, data = stream.feed(SWITCH + b"\x81\x00", True)
        assert isinstance(head, ResponseHead) and head.status == 101 and data == b"\x81\x00"
        assert stream.feed(b"HTTP/1.1 200 OK\r\n\r\n", True) == [b"HTTP/1.1 200 OK\r\n\r\n"]
        assert stream.feed(b"", False) == [END]

    @pytest.mark.parametrize(
        ("frames", "upgrade"),
        [
            ([(b"HTTP/1.1 200 OK\r\n", False)], False),
            ([(b"HTTP/1.1 200 OK\r\n", True), (b"A: b\r\n", False)], False),
            ([(b"HTTP/1.1 200 OK\r\n", True), (b"A: " + b"b" * 40_000, True)], False),
            ([(b"hello", True)], False),
            ([(b"", False)], False),
            ([(OK5 + b"hello!", False)], False),
            ([(OK5 + b"hell", False)], False),
            ([(OK5, False)], False),
            ([(OK5, True), (b"hello!", True)], False),
            ([(OK5, True), (b"hell", False)], False),
            ([(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n", True)], False),
            ([(b"HTTP/1.1 100 Continue\r\n\r\n", False)], False),
            ([(b"HTTP/1.1 100 Continue\r\n\r\n" + OK, True)], False),
            ([(SWITCH, True)], False),
            ([(OK5, True), (b"hello", True), (OK5, True)], False),
        ],
    )
    def test_violations(self, frames: list[tuple[bytes, bool]], upgrade: bool) -> None:
        """What breaks the rules of a response stream breaks its call."""
        stream = response(upgrade=upgrade)
        for payload, more in frames[:-1]:
            stream.feed(payload, more)
        with pytest.raises(CallProtocolError):
            stream.feed(*frames[-1])

    @pytest.mark.parametrize(
        "head",
        [
            b"HTTP/1.1 099 X\r\n\r\n",
            b"HTTP/1.1 1000 X\r\n\r\n",
            b"HTTP/2.0 200 OK\r\n\r\n",
            b"HTTP/0.0 502 Bad Gateway\r\n\r\n",
            b"HTTP/1.1 200 OK\r\nX: \x01\r\n\r\n",
            b"HTTP/1.1 200 OK\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\n",
            b"HTTP/1.1 101 X\r\n\r\n",
            b"GET / HTTP/1.1\r\nHost: a\r\n\r\n",
        ],
    )
    def test_bad_heads(self, head: bytes) -> None:
        """A head that is no valid HTTP is a bad response; errors of the first Pico are, in v2."""
        with pytest.raises(Http1Error) as caught:
            response(upgrade=True).feed(head, True)
        assert caught.value.status == 502


class TestV1:
    """Whole messages."""

    def test_request(self) -> None:
        """A request is one complete message, with a length or chunked."""
        assert told(request(1).feed(GET, False)) == [b"/a?b", END]
        assert told(request(1).feed(POST + b"hello", False)) == [b"/", b"hello", END]
        chunked = b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nhel\r\n2\r\nlo\r\n0\r\n\r\n"
        assert told(request(1).feed(chunked, False)) == [b"/", b"hello", END]

    def test_upgrade_goes_on_as_a_plain_request(self) -> None:
        """v1 has no upgrades."""
        head, end = request(1).feed(UPGRADE, False)
        assert isinstance(head, RequestHead) and head.upgrade is None and end is END

    @pytest.mark.parametrize(
        "message",
        [
            b"",
            b"GET / HT",
            POST,
            POST + b"hell",
            POST[:-2],
            b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nhe",
        ],
    )
    def test_cut_requests(self, message: bytes) -> None:
        """A message that is not whole is no request."""
        with pytest.raises((CallProtocolError, Http1Error)):
            request(1).feed(message, False)

    def test_response(self) -> None:
        """A response is one complete message in any framing, and has its length afterwards."""
        for message in (
            OK5 + b"hello",
            OK + b"hello",
            b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n",
            b"HTTP/1.0 200 OK\r\n\r\nhello",
            b"HTTP/1.1 100 Continue\r\n\r\n" + OK5 + b"hello",
        ):
            head, body, end = response(1).feed(message, False)
            assert isinstance(head, ResponseHead)
            assert (head.status, head.length, head.chunked) == (200, 5, False)
            assert (body, end) == (b"hello", END)

    def test_own_errors(self) -> None:
        """A v1 agent's own error begins with HTTP/0.0, and its body ends with the message."""
        head, body, end = response(1).feed(b"HTTP/0.0 504 Gateway Timeout\r\nX: y\r\n\r\nno upstream", False)
        assert isinstance(head, ResponseHead)
        assert (head.status, head.length, body, end) == (504, 11, b"no upstream", END)

    @pytest.mark.parametrize("start", [b"HTTP/1.1 502 Bad Gateway", b"HTTP/0.0 502 Bad Gateway"])
    def test_service_cannot_speak_for_pico(self, start: bytes) -> None:
        """What a service behind a v1 agent says in `x-pico-*` is not believed, and does not reach a client."""
        stream = response(1, b"POST")
        message = start + b"\r\nX-Pico-Error: a; service-unreachable\r\nA: b\r\nContent-Length: 2\r\n\r\nno"
        head = stream.feed(message, False)[0]
        assert isinstance(head, ResponseHead)
        assert head.get(b"x-pico-error") is None and head.get(b"a") == b"b"
        assert all(not lower.startswith(b"x-pico-") for lower, _, _ in head.fields)

    def test_own_error_to_head(self) -> None:
        """Also such an error has no body as the answer to HEAD."""
        assert told(response(1, b"HEAD").feed(b"HTTP/0.0 504 X\r\n\r\nno upstream", False)) == [504, END]

    @pytest.mark.parametrize(
        "message",
        [
            b"",
            b"HTTP/1.1 200 OK\r\n",
            OK5 + b"hell",
            b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhel",
            b"HTTP/1.1 100 Continue\r\n\r\n",
            SWITCH,
            b"HTTP/0.0 100 Continue\r\n\r\n",
            b"HTTP/0.1 200 OK\r\n\r\n",
            b"HTTP/0.0 502 X",
        ],
    )
    def test_cut_and_broken_responses(self, message: bytes) -> None:
        """A message that is not one whole response breaks its call."""
        for upgrade in (True, False):
            with pytest.raises((CallProtocolError, Http1Error)):
                response(1, upgrade=upgrade).feed(message, False)

    def test_no_second_response(self) -> None:
        """Bytes behind a whole response are never passed on."""
        assert told(response(1).feed(OK5 + b"hello" + OK5 + b"again", False)) == [200, b"hello", END]


@given(st.lists(st.tuples(st.binary(max_size=60), st.booleans()), max_size=5), st.sampled_from([1, 2]), st.booleans())
def test_any_payload(frames: list[tuple[bytes, bool]], version: int, good_start: bool) -> None:
    """Whatever a peer puts into the frames of a call, it is read, or it is one of the two errors."""
    for stream, start in (
        (request(version), POST + b"hel"),
        (response(version), OK5 + b"hel"),
        (response(version, upgrade=True), SWITCH),
    ):
        try:
            if good_start:
                stream.feed(start, True)
            for payload, more in frames:
                stream.feed(payload, more)
        except (Http1Error, CallProtocolError):
            continue
