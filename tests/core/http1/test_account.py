"""The one account of a client, and that both families of forwarding fields tell it."""

from __future__ import annotations

from ipaddress import ip_address, ip_network

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pico_twisted.core.http1.account import MAX_PROXIES, Account, Peer, account_of_peer, account_of_proxy
from pico_twisted.core.http1.errors import Http1Error
from pico_twisted.core.http1.head import HeadLimits, parse_request_head

TRUSTED = [ip_network("10.0.0.0/8"), ip_network("fd00::/8")]


def trusts(ip: str) -> bool:
    try:
        address = ip_address(ip)
    except ValueError:
        return False
    return any(address in network for network in TRUSTED if network.version == address.version)


def told(*lines: bytes, ip: bytes = b"10.0.0.1", https: bool = False, host: bytes = b"ep.example.com") -> Account:
    """The account of a request that a trusted proxy passes on."""
    data = b"\r\n".join([b"GET / HTTP/1.1", b"Host: " + host, *lines, b"", b""])
    return account_of_proxy(parse_request_head(data, HeadLimits()), Peer(ip, https, trusts))


def fields(account: Account) -> dict[str, str]:
    """The fields that tell it, each of which comes once."""
    pairs = [line.split(": ", 1) for line in account.lines.decode("ascii").split("\r\n")]
    assert len(dict(pairs)) == len(pairs)
    return {name.lower(): value for name, value in pairs}


# What a client of a load balancer with TLS gets, whichever family the balancer speaks.
BALANCED = {
    "x-forwarded-host": "ep.example.com",
    "x-forwarded-for": "203.0.113.9, 10.0.0.1",
    "x-forwarded-proto": "https",
    "x-forwarded-port": "443",
    "forwarded": "for=203.0.113.9;proto=https;host=ep.example.com, for=10.0.0.1",
}


@pytest.mark.parametrize(
    "lines",
    [
        pytest.param((b"X-Forwarded-For: 203.0.113.9", b"X-Forwarded-Proto: https"), id="only X-Forwarded-*"),
        pytest.param((b"Forwarded: for=203.0.113.9;proto=https",), id="only Forwarded"),
        pytest.param(
            (b"x-forwarded-for: 203.0.113.9", b"x-forwarded-proto: HTTPS", b"forwarded: For=203.0.113.9;Proto=https"),
            id="both agree",
        ),
        pytest.param(
            (
                b"Forwarded: for=6.6.6.6;proto=http;host=evil",
                b"X-Forwarded-For: 203.0.113.9",
                b"X-Forwarded-Proto: https",
            ),
            id="both contradict",
        ),
        pytest.param((b"X-Forwarded-For: 203.0.113.9:4711", b"X-Forwarded-Proto: wss"), id="a port and wss"),
        pytest.param((b'Forwarded: for="203.0.113.9:4711" ; proto="https";by=_x',), id="quoted"),
        pytest.param((b"X-Forwarded-For: 6.6.6.6, 203.0.113.9", b"X-Forwarded-Proto: https"), id="a claim before"),
        pytest.param((b"X-Forwarded-For: ???, 203.0.113.9", b"X-Forwarded-Proto: https"), id="nonsense before"),
        pytest.param((b"Forwarded: for=6.6.6.6;proto=http", b"Forwarded: for=203.0.113.9;proto=https"), id="two lines"),
        pytest.param(
            (b"X-Forwarded-For: ::ffff:203.0.113.9", b"X-Forwarded-Proto: https,https"), id="a mapped address"
        ),
    ],
)
def test_a_load_balancer_that_ends_tls(lines: tuple[bytes, ...]) -> None:
    """A service behind a load balancer with TLS gets one account in both families, whichever of them the balancer
    sent; what the balancer's client claimed before it does not count."""
    account = told(*lines)
    assert fields(account) == BALANCED
    assert (account.address, account.https, account.port) == (b"203.0.113.9", True, 443)


def test_a_proxy_on_a_unix_socket() -> None:
    """It has no address, so it is not listed behind the client; one that tells nothing is an unknown client."""
    account = told(b"X-Forwarded-For: 203.0.113.9, 10.0.0.7", ip=b"unix")
    assert (account.address, account.proxies) == (b"203.0.113.9", (b"10.0.0.7",))
    assert fields(account)["x-forwarded-for"] == "203.0.113.9, 10.0.0.7"
    assert told(ip=b"unix").address == b"unknown"
    assert told(b"X-Forwarded-For: unix", ip=b"unix").address == b"unknown"
    assert account_of_peer(b"unix", False, None).address == b"unknown"


@pytest.mark.parametrize(
    ("lines", "chain", "forwarded"),
    [
        (
            (b"X-Forwarded-For: 6.6.6.6, 203.0.113.9, 10.0.0.7, 10.0.0.8", b"X-Forwarded-Proto: https, http, http"),
            "203.0.113.9, 10.0.0.7, 10.0.0.8, 10.0.0.1",
            "for=203.0.113.9;proto=https;host=ep.example.com, for=10.0.0.7, for=10.0.0.8, for=10.0.0.1",
        ),
        (
            (b"Forwarded: for=6.6.6.6, for=203.0.113.9;proto=https;host=a, for=10.0.0.7;proto=http;host=b",),
            "203.0.113.9, 10.0.0.7, 10.0.0.1",
            "for=203.0.113.9;proto=https;host=a, for=10.0.0.7, for=10.0.0.1",
        ),
        (
            (b"X-Forwarded-For: 10.0.0.6, 10.0.0.7", b"X-Forwarded-Proto: https"),
            "10.0.0.6, 10.0.0.7, 10.0.0.1",
            "for=10.0.0.6;proto=https;host=ep.example.com, for=10.0.0.7, for=10.0.0.1",
        ),
        (
            (b"Forwarded: for=203.0.113.9, for=10.0.0.7;proto=https",),
            "203.0.113.9, 10.0.0.7, 10.0.0.1",
            "for=203.0.113.9;proto=https;host=ep.example.com, for=10.0.0.7, for=10.0.0.1",
        ),
    ],
)
def test_lists_of_several_proxies(lines: tuple[bytes, ...], chain: str, forwarded: str) -> None:
    """A list is read from its end, over all trusted proxies, to the first address that is none: that is the client."""
    written = fields(told(*lines))
    assert (written["x-forwarded-for"], written["forwarded"]) == (chain, forwarded)
    assert written["x-forwarded-proto"] == "https"


@pytest.mark.parametrize(
    ("value", "address", "node"),
    [
        (b"[2001:DB8::1]:4711", "2001:db8::1", '"[2001:db8::1]"'),
        (b"2001:db8:0::1", "2001:db8::1", '"[2001:db8::1]"'),
        (b"fe80::1%eth0", "fe80::1", '"[fe80::1]"'),
        (b"_hidden", "_hidden", "_hidden"),
        (b"unknown", "unknown", "unknown"),
    ],
)
def test_addresses_of_other_forms(value: bytes, address: str, node: str) -> None:
    """IPv6 with and without a port, and names that hide an address, are told in the form of each family."""
    both = (
        b"X-Forwarded-For: " + value,
        b'Forwarded: for="' + (value if b":" not in value or b"]" in value else b"[::2]") + b'"',
    )
    written = fields(told(both[0]))
    assert written["x-forwarded-for"] == f"{address}, 10.0.0.1"
    assert written["forwarded"] == f"for={node};proto=http;host=ep.example.com, for=10.0.0.1"
    if b":" not in value or b"]" in value:
        assert fields(told(both[1])) == written


@pytest.mark.parametrize(
    "line",
    [
        b"X-Forwarded-For: 999.1.1.1",
        b"X-Forwarded-For: <script>",
        b"X-Forwarded-For: 203.0.113.9 evil",
        b"X-Forwarded-For: ,,",
        b"X-Forwarded-Proto: ftp",
        b"X-Forwarded-Host: a b",
        b"X-Forwarded-Port: 70000",
        b"X-Forwarded-Port: -1",
        b'Forwarded: for="1.2.3.4',
        b"Forwarded: for=1.2.3.4;for=5.6.7.8",
        b"Forwarded: for 1.2.3.4",
        b"Forwarded: ;;,",
        b"Forwarded:",
    ],
)
def test_what_breaks_the_syntax_says_nothing(line: bytes) -> None:
    """A proxy that tells nothing, or nonsense, is itself the client that is known."""
    assert fields(told(line)) == {
        "x-forwarded-host": "ep.example.com",
        "x-forwarded-for": "10.0.0.1",
        "x-forwarded-proto": "http",
        "x-forwarded-port": "80",
        "forwarded": "for=10.0.0.1;proto=http;host=ep.example.com",
    }


@pytest.mark.parametrize(
    ("lines", "host", "port", "authority"),
    [
        ((b"X-Forwarded-Proto: https",), "ep.example.com", "443", "host=ep.example.com"),
        (
            (b"X-Forwarded-Proto: https", b"X-Forwarded-Port: 8443"),
            "ep.example.com",
            "8443",
            'host="ep.example.com:8443"',
        ),
        (
            (b"X-Forwarded-Host: shop.example:81", b"X-Forwarded-Port: 8443"),
            "shop.example:81",
            "81",
            'host="shop.example:81"',
        ),
        ((b'Forwarded: host="[::1]:81"',), "[::1]:81", "81", 'host="[::1]:81"'),
        ((b"X-Forwarded-Host: [::1]",), "[::1]", "80", 'host="[::1]"'),
    ],
)
def test_hosts_and_ports(lines: tuple[bytes, ...], host: str, port: str, authority: str) -> None:
    """The port is the one that the client asked for: of the host, else as the proxy tells it, else the scheme's."""
    written = fields(told(*lines))
    assert (written["x-forwarded-host"], written["x-forwarded-port"]) == (host, port)
    assert written["forwarded"].partition(", ")[0].split(";")[-1] == authority


def test_x_real_ip() -> None:
    """X-Real-IP of a trusted proxy is told anew, so it cannot contradict the rest, and counts where it is alone."""
    assert fields(told(b"X-Real-IP: 6.6.6.6", b"X-Forwarded-For: 203.0.113.9"))["x-real-ip"] == "203.0.113.9"
    alone = fields(told(b"X-Real-IP: 203.0.113.9"))
    assert (alone["x-real-ip"], alone["x-forwarded-for"]) == ("203.0.113.9", "203.0.113.9, 10.0.0.1")
    assert "x-real-ip" not in fields(told(b"X-Forwarded-For: 203.0.113.9"))


def test_a_long_chain_is_bounded() -> None:
    """However many proxies there are, no more are told on than there is room for."""
    account = told(b"X-Forwarded-For: " + b", ".join(b"10.0.1.%d" % number for number in range(200)))
    assert len(account.proxies) == MAX_PROXIES
    assert account.proxies[-2:] == (b"10.0.1.199", b"10.0.0.1")


@pytest.mark.parametrize(
    ("client_ip", "host", "plain", "element"),
    [
        (b"2001:db8::1", b"a", "2001:db8::1", 'for="[2001:db8::1]";proto=http;host=a'),
        (b"fe80::1%eth0", b"a", "fe80::1", 'for="[fe80::1]";proto=http;host=a'),
        (b"::ffff:192.0.2.1", b"a", "192.0.2.1", "for=192.0.2.1;proto=http;host=a"),
        (b"192.0.2.1", b"a.b:80", "192.0.2.1", 'for=192.0.2.1;proto=http;host="a.b:80"'),
        (b"192.0.2.1", b"[::1]:80", "192.0.2.1", 'for=192.0.2.1;proto=http;host="[::1]:80"'),
        (b"192.0.2.1", None, "192.0.2.1", "for=192.0.2.1;proto=http"),
        (b"", b"a", "unknown", "for=unknown;proto=http;host=a"),
        (b"/run/x.sock", b"a", "unknown", "for=unknown;proto=http;host=a"),
        (b"1.2.3.4\r\nX: y", b"a", "unknown", "for=unknown;proto=http;host=a"),
        (b'1";x="', b"a", "unknown", "for=unknown;proto=http;host=a"),
    ],
)
def test_a_client_without_a_proxy(client_ip: bytes, host: bytes | None, plain: str, element: str) -> None:
    """What is known of a client's connection, in both families; IPv6 is quoted in Forwarded (RFC 7239 6), and what is
    no address is unknown."""
    written = fields(account_of_peer(client_ip, False, host))
    assert (written["x-forwarded-for"], written["forwarded"]) == (plain, element)


PIECES = st.sampled_from(
    [b"for=", b"proto=https", b"host=a", b";", b",", b" ", b'"', b"[", b"]", b"\\", b"10.0.0.2", b"::1", b":8", b"_x"]
)  # fmt: skip
VALUES = st.lists(PIECES | st.binary(max_size=3), max_size=12).map(b"".join)
NAMES = st.sampled_from([b"X-Forwarded-For", b"Forwarded", b"X-Forwarded-Host", b"X-Forwarded-Proto", b"X-Real-IP"])


@given(st.lists(st.tuples(NAMES, VALUES).map(b": ".join), max_size=4))
def test_whatever_a_proxy_tells(lines: list[bytes]) -> None:
    """Whatever is in these fields, what is told on is well-formed, and reads back as the same account."""
    try:
        account = told(*lines)
    except Http1Error:
        return
    written = fields(account)
    again = b"Forwarded: " + written["forwarded"].encode("ascii")
    assert (account.https, account.host) == (
        written["x-forwarded-proto"] == "https",
        written["x-forwarded-host"].encode(),
    )
    x_family = told(*(f"{name}: {value}".encode() for name, value in written.items() if name != "forwarded"))
    assert (x_family.address, x_family.https, x_family.host, x_family.port) == (
        account.address,
        account.https,
        account.host,
        account.port,
    )
    read = told(again)
    assert (read.address, read.https, read.port) == (account.address, account.https, account.port)
