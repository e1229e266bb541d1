"""A call on its way between a node link and an agent: read as little as can be, and passed on unchanged."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pico_twisted.core.http1.account import Peer, account_of_peer
from pico_twisted.core.http1.errors import Http1Error
from pico_twisted.core.http1.forwarding import request_from_link, request_to_tunnel
from pico_twisted.core.http1.head import END, HeadLimits, RequestHead, ResponseHead, parse_request_head
from pico_twisted.core.links.relay import RelayedResponse, meant_for, relayed_request
from pico_twisted.core.rpc.http import CallProtocolError, ResponseStream

LIMITS = HeadLimits()
HEAD = b"POST /a?b HTTP/1.1\r\nx-pico-endpoint: my-endpoint\r\nHost: a.b\r\nContent-Length: 5\r\n\r\n"
ONWARD = b"POST /a?b HTTP/1.1\r\nHost: a.b\r\nContent-Length: 5\r\n\r\n"

names = st.sampled_from([b"Accept", b"Cookie", b"X-Any", b"Content-Type", b"Range", b"x-pico-trace"])
values = st.binary(max_size=30).map(lambda raw: bytes(0x21 + byte % 0x5E for byte in raw))


def from_client(fields: list[tuple[bytes, bytes]], length: int | None, upgrade: bool) -> RequestHead:
    """A head as a client sends it."""
    lines = [b"POST /x?y HTTP/1.1", b"Host: svc.example.com", *(name + b": " + value for name, value in fields)]
    if length is not None:
        lines.append(b"Content-Length: %d" % length)
    if upgrade:
        lines.append(b"Connection: Upgrade\r\nUpgrade: websocket")
    return parse_request_head(b"\r\n".join(lines) + b"\r\n\r\n", LIMITS)


def onto_link(head: RequestHead) -> bytes:
    """The head as the node that took it sends it to another node."""
    return request_to_tunnel(
        head,
        account=account_of_peer(b"127.0.0.1", False, head.host),
        peer=Peer(b"192.0.2.7"),
        request_id=b"r1",
        endpoint=b"svc",
    )


class TestRequest:
    """Requests."""

    @given(st.sampled_from([b"", b"0123456789abcdef" * 2]), st.lists(st.tuples(names, values)), st.binary(max_size=9))
    def test_an_agent_that_is_meant(self, connection: bytes, fields: list[tuple[bytes, bytes]], body: bytes) -> None:
        """The field that names an agent is behind those that nodes of earlier versions look for; it is taken out, and
        what a client sends under its name never stands there."""
        head = from_client([*fields, (b"x-pico-agent", b"forged00")], None, upgrade=False)
        peer = Peer(b"192.0.2.7", connection=connection)
        account = account_of_peer(b"127.0.0.1", False, head.host)
        payload = request_to_tunnel(head, account=account, peer=peer, request_id=b"r1", endpoint=b"svc")
        plain = relayed_request(payload + body, LIMITS)
        meant = relayed_request(meant_for(payload, "aaaaaaaa") + body, LIMITS)
        assert plain is not None and meant is not None
        assert (plain[0].agent, meant[0].agent) == (b"", b"aaaaaaaa")
        assert meant[0].raw == plain[0].raw and meant[1] == plain[1] == body
        assert meant[0].client_connection == plain[0].client_connection == connection
        assert parse_request_head(meant_for(payload, "aaaaaaaa"), LIMITS).by_name[b"x-pico-agent"] == b"aaaaaaaa"

    @given(st.lists(st.tuples(names, values), max_size=8), st.none() | st.integers(0, 9), st.binary(max_size=9))
    def test_as_if_it_was_read_in_full(
        self, fields: list[tuple[bytes, bytes]], length: int | None, body: bytes
    ) -> None:
        """What a node puts on a link goes on to an agent with the same bytes as when it is read and written anew."""
        head = from_client(fields, length, upgrade=False)
        payload = onto_link(head)
        relayed = relayed_request(payload + body, LIMITS)
        assert relayed is not None
        onward, rest = relayed
        whole = parse_request_head(payload, LIMITS)
        again, anew = (parse_request_head(raw, LIMITS) for raw in (onward.raw, request_from_link(whole)))
        assert sorted(again.fields) == sorted(field for field in anew.fields if not field[0].startswith(b"x-pico-"))
        assert (again.method, again.target, again.host, again.length) == (b"POST", b"/x?y", head.host, length)
        assert (onward.method, onward.endpoint, rest) == (b"POST", b"svc", body)
        assert onward.upgrade is None
        assert (onward.length, onward.has_body) == (length, bool(length))
        assert onward.expect_continue == whole.expect_continue

    def test_only_the_endpoint_is_taken_out(self) -> None:
        """All other bytes go on as they are."""
        relayed = relayed_request(HEAD + b"hello", LIMITS)
        assert relayed is not None
        assert (relayed[0].raw, relayed[1]) == (ONWARD, b"hello")

    @pytest.mark.parametrize(
        "payload",
        [
            b"",
            b"\r\n",
            b"\r\n\r\n",
            HEAD[:-1],
            HEAD[:30],
            ONWARD,
            HEAD.replace(b"x-pico-endpoint: ", b"x-pico-endpoint:"),
            HEAD.replace(b"x-pico-endpoint: my-endpoint\r\n", b"").replace(
                b"\r\n\r\n", b"\r\nx-pico-endpoint: e\r\n\r\n"
            ),
            b"GET / HTTP/1.1\r\nx-pico-endpoint: e\r\nHost: a\r\nA: " + b"a" * LIMITS.head_bytes + b"\r\n\r\n",
        ],
    )
    def test_what_is_written_otherwise(self, payload: bytes) -> None:
        """A head without the endpoint in front, cut short or too long is left to the one who reads in full."""
        assert relayed_request(payload, LIMITS) is None

    def test_upgrades(self) -> None:
        """An upgrade is read in full."""
        assert relayed_request(onto_link(from_client([], None, upgrade=True)), LIMITS) is None

    def test_no_other_field_follows(self) -> None:
        """The endpoint may be the only field."""
        relayed = relayed_request(b"GET / HTTP/1.0\r\nx-pico-endpoint: e\r\n\r\n", LIMITS)
        assert relayed is not None
        assert relayed[0].raw == b"GET / HTTP/1.0\r\n\r\n"

    def test_a_bad_head_is_found_when_it_is_read(self) -> None:
        """For an agent of version 1 the node reads the whole head, and refuses a bad one."""
        relayed = relayed_request(b"GET / HTTP/1.1\r\nx-pico-endpoint: e\r\nHost: a b\r\n\r\n", LIMITS)
        assert relayed is not None
        with pytest.raises(Http1Error):
            assert relayed[0].has_body

    @given(st.binary(max_size=200))
    def test_any_bytes(self, payload: bytes) -> None:
        """Whatever comes, nothing is raised, and nothing but one line is taken out."""
        for start in (b"", b"GET / HTTP/1.1\r\nx-pico-endpoint: "):
            relayed = relayed_request(start + payload, LIMITS)
            if relayed is not None:
                head, rest = relayed
                taken = b"x-pico-endpoint: " + head.endpoint + b"\r\n"
                assert len(head.raw) + len(taken) + len(rest) == len(start + payload)
                assert head.raw.endswith(b"\r\n\r\n")


def response(method: bytes = b"GET", upgrade_asked: bool = False) -> RelayedResponse:
    """A response for a link."""
    return RelayedResponse(LIMITS, method, upgrade_asked)


class TestResponse:
    """Responses."""

    @pytest.mark.parametrize("status", [200, 204, 301, 304, 404, 500, 503, 504, 599])
    def test_ordinary_ones(self, status: int) -> None:
        """The first frame goes on whole, with the body bytes in it; what follows is body."""
        first = b"HTTP/1.1 %d Any\r\nContent-Length: 7\r\n\r\nabc" % status
        stream = response()
        (head,) = stream.feed(first, True)
        assert isinstance(head, ResponseHead)
        assert (head.status, head.raw) == (status, first)
        assert stream.feed(b"", True) == []
        assert stream.feed(b"defg", False) == [b"defg", END]

    def test_one_frame(self) -> None:
        """A response in one frame ends with it."""
        events = response().feed(b"HTTP/1.1 200 OK\r\n\r\nall", False)
        assert events[1:] == [END]

    @pytest.mark.parametrize(
        "first",
        [
            b"HTTP/1.1 502 Bad Gateway\r\nx-pico-error: a; service-unreachable\r\nContent-Length: 2\r\n\r\n{}",
            b"HTTP/1.0 200 OK\r\nContent-Length: 2\r\n\r\n{}",
            b"HTTP/1.1 200\r\nContent-Length: 2\r\n\r\n{}",
        ],
    )
    def test_what_is_read_in_full(self, first: bytes) -> None:
        """A 502 may say that no service was reached, and other status lines are not those of our agents."""
        whole = ResponseStream(LIMITS, b"GET", False)
        assert response().feed(first, False) == whole.feed(first, False)

    def test_interim_heads_and_upgrades(self) -> None:
        """1xx heads come before an ordinary response, or before a 101 and what follows it."""
        stream = response(upgrade_asked=True)
        (interim,) = stream.feed(b"HTTP/1.1 103 Early\r\nLink: a\r\n\r\n", True)
        assert isinstance(interim, ResponseHead)
        assert (interim.status, interim.get(b"link")) == (103, b"a")
        switch = b"HTTP/1.1 101 Switching\r\nConnection: Upgrade\r\nUpgrade: x\r\n\r\n"
        (head,) = stream.feed(switch, True)
        assert isinstance(head, ResponseHead)
        assert (head.status, head.upgrade) == (101, b"x")
        assert stream.feed(b"raw", False) == [b"raw", END]

    def test_an_upgrade_that_nobody_asked_for(self) -> None:
        """It is refused here."""
        with pytest.raises(CallProtocolError):
            response().feed(b"HTTP/1.1 101 S\r\nConnection: Upgrade\r\nUpgrade: x\r\n\r\n", True)

    @given(st.binary(max_size=60), st.booleans())
    def test_any_bytes(self, payload: bytes, more: bool) -> None:
        """Bytes that are no response are refused, or passed on as they are."""
        try:
            events = response().feed(payload, more)
        except (Http1Error, CallProtocolError):
            return
        assert isinstance(events[0], ResponseHead)
