"""What ties a request to an agent: our cookie, the client's address, or the word of another node."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pico_twisted.core.http1.account import account_of_peer
from pico_twisted.core.http1.affinity import ClientTie, LinkTie, cookie_name, tie_of
from pico_twisted.core.http1.forwarding import response_to_client
from pico_twisted.core.http1.head import Framing, HeadLimits, RequestHead, ResponseHead, parse_request_head
from pico_twisted.core.http1.head import parse_response_head as read
from pico_twisted.core.routing.affinity import Affinity, Servers

LIMITS = HeadLimits(head_bytes=1 << 20, fields=1000)
ACCOUNT = account_of_peer(b"192.0.2.7", False, b"a.b")
NAME = cookie_name("ep")
SERVERS = Servers(Affinity.COOKIE, {"aaaaaaaa": ("",), "bbbbbbbb": ("n2",)}, ("aaaaaaaa", "bbbbbbbb"))
pairs = st.lists(
    st.tuples(
        st.sampled_from([NAME, b"session", b"x" + NAME, NAME + b"x", b"$Version"]),
        st.sampled_from([b"aaaaaaaa", b"bbbbbbbb", b"cccccccc", b"", b"a=b", b'"quoted"', b"\xff\xfe", NAME]),
    ),
    max_size=12,
)


def request(*cookies: bytes) -> RequestHead:
    """A request with these Cookie fields."""
    lines = [b"GET / HTTP/1.1", b"Host: a.b", *(b"Cookie: " + cookie for cookie in cookies), b"X-Last: 1"]
    return parse_request_head(b"\r\n".join(lines) + b"\r\n\r\n", LIMITS)


def cookies_of(head: RequestHead) -> list[bytes]:
    """The Cookie fields of a request."""
    return [value for lower, _, value in head.fields if lower == b"cookie"]


class TestCookie:
    """Of a client."""

    def test_names_an_agent(self) -> None:
        """It counts when it names an agent that serves the endpoint, and no service gets it."""
        tie, head = tie_of(request(b"a=1; " + NAME + b"=bbbbbbbb; b=2"), ACCOUNT, "ep")
        assert tie.agents(SERVERS) == ("bbbbbbbb",)
        assert cookies_of(head) == [b"a=1; b=2"] == [head.by_name[b"cookie"]]
        tie, head = tie_of(request(NAME + b"=aaaaaaaa"), ACCOUNT, "ep")
        assert tie.agents(SERVERS) == ("aaaaaaaa",)
        assert b"cookie" not in head.by_name and [field[1] for field in head.fields] == [b"Host", b"X-Last"]

    @pytest.mark.parametrize(
        "value", [b"", b"cccccccc", b"AAAAAAAA", b"n2", b"\xff" * 8, b"aaaaaaaa,bbbbbbbb", b"../a"]
    )
    def test_garbage(self, value: bytes) -> None:
        """One that names nobody, or an agent of another endpoint, ties to nobody, and is replaced."""
        tie, head = tie_of(request(NAME + b"=" + value), ACCOUNT, "ep")
        assert not tie.agents(SERVERS) and not cookies_of(head)
        assert tie.served_by(ResponseHead(200), "aaaaaaaa").fields[0][2].startswith(NAME + b"=aaaaaaaa;")

    def test_of_another_endpoint(self) -> None:
        """The cookie of another endpoint at the same host is another one, and goes on."""
        other = cookie_name("other") + b"=aaaaaaaa"
        tie, head = tie_of(request(other), ACCOUNT, "ep")
        assert not tie.agents(SERVERS) and cookies_of(head) == [other]

    def test_thousands(self) -> None:
        """Thousands of them are read once; the first one counts, and none goes on."""
        many = b"; ".join([NAME + b"=aaaaaaaa", *[NAME + b"=bbbbbbbb"] * 3000, b"last=1"])
        tie, head = tie_of(request(many, many), ACCOUNT, "ep")
        assert tie.agents(SERVERS) == ("aaaaaaaa",) and cookies_of(head) == [b"last=1", b"last=1"]

    @given(st.lists(pairs, max_size=3))
    def test_the_others_go_on(self, given_cookies: list[list[tuple[bytes, bytes]]]) -> None:
        """Whatever a client sends, all cookies but ours go on as they are, in order."""
        fields = [b"; ".join(name + b"=" + value for name, value in one) for one in given_cookies]
        _, head = tie_of(request(*filter(None, fields)), ACCOUNT, "ep")
        onward = [pair for field in cookies_of(head) for pair in field.split(b"; ")]
        assert onward == [name + b"=" + value for one in given_cookies for name, value in one if name != NAME]

    def test_without_one_nothing_changes(self) -> None:
        """A request without it is the same one behind it, also when another cookie's value looks like it."""
        for plain in (request(), request(b"a=1"), request(b"a=" + NAME)):
            _, head = tie_of(plain, ACCOUNT, "ep")
            assert head == plain


class TestAnswer:
    """What tells who served."""

    @pytest.mark.parametrize("https", [False, True])
    def test_set(self, https: bool) -> None:
        """A new client gets a cookie for its session: for the whole host, for no script, and over https for that
        alone; the service's own cookies stay."""
        head = read(b"HTTP/1.1 200 OK\r\nSet-Cookie: sid=1\r\nContent-Length: 0\r\n\r\n", LIMITS)
        tie, _ = tie_of(request(), account_of_peer(b"192.0.2.7", https, b"a.b"), "ep")
        told = response_to_client(tie.served_by(head, "aaaaaaaa"), Framing.BY_LENGTH, close=False)
        line = NAME + b"=aaaaaaaa; Path=/; HttpOnly; SameSite=Lax" + (b"; Secure" if https else b"")
        assert b"\r\nSet-Cookie: sid=1\r\n" in told and b"\r\nSet-Cookie: " + line + b"\r\n" in told

    def test_only_what_is_new(self) -> None:
        """A client that has it is not told again, and one whose agent changed is."""
        tie, _ = tie_of(request(NAME + b"=aaaaaaaa"), ACCOUNT, "ep")
        assert tie.served_by(ResponseHead(200), "aaaaaaaa") == ResponseHead(200)
        assert b"bbbbbbbb" in tie.served_by(ResponseHead(200), "bbbbbbbb").fields[0][2]

    @pytest.mark.parametrize("raw", [b"HTTP/1.1 200 OK\r\nx-pico-agent: zzzzzzzz\r\nA: b\r\n\r\nbody", b""])
    def test_over_a_link(self, raw: bytes) -> None:
        """Another node is told in the first field, which counts whatever an agent wrote; a body behind the head
        stays."""
        head = ResponseHead(200, b"OK", fields=((b"a", b"A", b"b"),), raw=raw)
        told = LinkTie(b"aaaaaaaa").served_by(head, "bbbbbbbb").raw
        assert told.startswith(b"HTTP/1.1 200 OK\r\nx-pico-agent: bbbbbbbb\r\n") and b"\r\nA: b\r\n\r\n" in told
        assert told.endswith(b"body") == bool(raw)
        assert read(told.partition(b"\r\n\r\n")[0] + b"\r\n\r\n", LIMITS).by_name[b"x-pico-agent"] == b"bbbbbbbb"


class TestOthers:
    """What else ties."""

    def test_by_address(self) -> None:
        """A client goes by its address where that is what counts, and where it can have no cookie; all agents come in
        its order."""
        by_address = Servers(Affinity.ADDRESS, SERVERS.nodes, SERVERS.agents)
        tie, _ = tie_of(request(NAME + b"=bbbbbbbb"), ACCOUNT, "ep")
        assert sorted(tie.agents(by_address)) == ["aaaaaaaa", "bbbbbbbb"]
        assert ClientTie(ACCOUNT).agents(SERVERS) == tie.agents(by_address)
        assert ClientTie(ACCOUNT).served_by(ResponseHead(101), "aaaaaaaa") == ResponseHead(101)

    @pytest.mark.parametrize("agent", [b"", b"cccccccc", b"\xff", b"x" * 1000])
    def test_a_node_that_means_nobody(self, agent: bytes) -> None:
        """What another node means and is not known here ties to nobody."""
        assert LinkTie(b"bbbbbbbb").agents(SERVERS) == ("bbbbbbbb",)
        assert not LinkTie(agent).agents(SERVERS)
