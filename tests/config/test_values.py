"""The texts of durations, sizes, addresses and the like."""

from __future__ import annotations

import ipaddress
import re
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pico_twisted.config import Address, AgentConfig, NodeConfig, ServiceAddress, in_networks
from pico_twisted.config.fields import all_keys
from pico_twisted.config.values import (
    duration_text,
    read_bind_address,
    read_boolean,
    read_duration,
    read_integer,
    read_join_address,
    read_network,
    read_node_url,
    read_reachable_address,
    read_service_address,
    read_size,
    size_text,
)


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("500ms", 0.5),
        ("15s", 15.0),
        ("1m", 60.0),
        ("1h", 3600.0),
        ("1m30s", 90.0),
        ("1h1ms", 3600.001),
        ("1.5s", 1.5),
        ("0s", 0.0),
    ],
)
def test_durations_are_read_as_seconds(text: str, seconds: float) -> None:
    """A duration is a number with its unit, or several with the larger units first."""
    assert read_duration(text) == seconds


@pytest.mark.parametrize(
    "text", ["", "5", "xx", "-5s", "5 s", "5S", "s", "30s1m", "1s1s", "1d", "1e3s", ".5s", "5s ", "５s", "1m\n"]
)
def test_other_texts_are_no_durations(text: str) -> None:
    """A number without its unit is not guessed at, nor are signs, blanks, repeated or misplaced units."""
    with pytest.raises(ValueError):
        read_duration(text)


@given(st.integers(0, 10**9))
def test_every_duration_has_a_text_that_reads_back(milliseconds: int) -> None:
    """The samples and the help show defaults as texts that mean the same when they are used."""
    assert read_duration(duration_text(milliseconds / 1000)) == milliseconds / 1000


@given(st.integers(0, 10**12 - 1))
def test_every_size_has_a_text_that_reads_back(count: int) -> None:
    """As for durations."""
    assert read_size(size_text(count)) == count


@pytest.mark.parametrize(
    ("text", "count"), [("0", 0), ("512", 512), ("64KiB", 65536), ("16MiB", 16 << 20), ("1GiB", 1 << 30), ("7B", 7)]
)
def test_sizes_are_read_as_bytes(text: str, count: int) -> None:
    """A size is a number of bytes, or of a unit of them."""
    assert read_size(text) == count


@pytest.mark.parametrize("text", ["", "-1", "1KB", "1k", "1.5MiB", "64 KiB", "MiB", "1_000", "٣"])
def test_other_texts_are_no_sizes(text: str) -> None:
    """Units of 1000 and fractions are refused: nobody agrees on what they mean."""
    with pytest.raises(ValueError):
        read_size(text)


@pytest.mark.parametrize(
    ("text", "host", "port"),
    [
        (":8000", "", 8000),
        ("127.0.0.1:8000", "127.0.0.1", 8000),
        ("[::1]:8000", "::1", 8000),
        ("localhost:0", "localhost", 0),
        ("node-1.example.com:65535", "node-1.example.com", 65535),
    ],
)
def test_addresses_to_listen_on(text: str, host: str, port: int) -> None:
    """Each form of an address is read, and written again as it was."""
    address = read_bind_address(text)
    assert (address.host, address.port) == (host, port)
    assert str(address) == text


def test_a_port_alone() -> None:
    """It is that of every interface."""
    assert read_bind_address("8000") == read_bind_address(":8000")


@pytest.mark.parametrize(
    "text",
    [
        "",
        ":",
        "80000",
        "localhost",
        "localhost:",
        ":65536",
        ":-1",
        ":80x",
        "::1:8000",
        "[::1]",
        "[::1]8000",
        "[localhost]:8000",
        "[::g]:8000",
        "999.1.1.1:80",
        "1.2.3:80",
        "host name:80",
        "-x:80",
        "http://localhost:80",
        "a" * 300 + ":80",
    ],
)
def test_other_texts_are_no_addresses(text: str) -> None:
    """What could not be listened on is refused when it is read, not when the port is opened."""
    with pytest.raises(ValueError):
        read_bind_address(text)


@pytest.mark.parametrize("text", [":8000", "0.0.0.0:8000", "[::]:8000", "localhost:0"])
def test_an_advertised_address_can_be_connected_to(text: str) -> None:
    """All interfaces and port 0 are for listening; nobody can connect there."""
    with pytest.raises(ValueError):
        read_reachable_address(text)


@pytest.mark.parametrize(
    ("text", "host", "port"),
    [
        ("node1", "node1", 8003),
        ("node1.example.com:9000", "node1.example.com", 9000),
        ("10.1.2.3", "10.1.2.3", 8003),
        ("10.1.2.3:9000", "10.1.2.3", 9000),
        ("[2001:db8::1]", "2001:db8::1", 8003),
        ("[2001:db8::1]:9000", "2001:db8::1", 9000),
        ("[fe80::1%eth0]", "fe80::1%eth0", 8003),
    ],
)
def test_addresses_to_join(text: str, host: str, port: int) -> None:
    """Names and IPs, with the gossip port of its own or the default one."""
    assert read_join_address(text) == Address(host, port)
    assert read_join_address(str(Address(host, port))) == Address(host, port)


@pytest.mark.parametrize(
    "text",
    ["", ":8003", "[]", "[node1]", "[::1", "::1", "0.0.0.0", "[::]", "node1:0", "node1:", "a b", "1.2.3", "http://a"],
)
def test_other_texts_cannot_be_joined(text: str) -> None:
    """Neither what is no address nor what nobody can connect to."""
    with pytest.raises(ValueError):
        read_join_address(text)


def test_which_addresses_are_all_interfaces() -> None:
    """The start tells an operator when a port is bound to every interface."""
    assert [Address(host, 1).is_all for host in ("", "0.0.0.0", "::", "127.0.0.1", "::1")] == [True] * 3 + [False] * 2


@pytest.mark.parametrize(
    ("text", "address", "host_header"),
    [
        ("3000", ServiceAddress("http", "localhost", 3000), "localhost:3000"),
        (":3000", ServiceAddress("http", "localhost", 3000), "localhost:3000"),
        ("127.0.0.1:80", ServiceAddress("http", "127.0.0.1", 80), "127.0.0.1"),
        ("[::1]:3000", ServiceAddress("http", "::1", 3000), "[::1]:3000"),
        ("http://web", ServiceAddress("http", "web", 80), "web"),
        ("http://web:8080/", ServiceAddress("http", "web", 8080), "web:8080"),
        ("https://web", ServiceAddress("https", "web", 443), "web"),
        ("https://[::1]:8443", ServiceAddress("https", "::1", 8443), "[::1]:8443"),
        ("h2c://web:50051", ServiceAddress("h2c", "web", 50051), "web:50051"),
        ("h2c://web", ServiceAddress("h2c", "web", 80), "web"),
        ("unix:/run/app.sock", ServiceAddress("http", "", 0, "/run/app.sock"), "localhost"),
        ("unix:///run/app.sock", ServiceAddress("http", "", 0, "/run/app.sock"), "localhost"),
        ("unix:@app", ServiceAddress("http", "", 0, "@app"), "localhost"),
        ("https+unix:/run/a:b.sock", ServiceAddress("https", "", 0, "/run/a:b.sock"), "localhost"),
        ("h2c+unix:/run/app.sock", ServiceAddress("h2c", "", 0, "/run/app.sock"), "localhost"),
        ("http://unix:80", ServiceAddress("http", "unix", 80), "unix"),
        ("unix:/" + 106 * "x", ServiceAddress("http", "", 0, "/" + 106 * "x"), "localhost"),
    ],
)
def test_where_a_service_listens(text: str, address: ServiceAddress, host_header: str) -> None:
    """A port, host:port, URLs and sockets name a service; its own `Host` leaves out the scheme's own port."""
    assert read_service_address(text) == address
    assert address.host_header == host_header
    assert read_service_address(str(address)) == address


@pytest.mark.parametrize(
    "text",
    [
        "",
        "0",
        "web",
        "web:0",
        "ftp://web",
        "unix:",
        "unix:80",
        "unix:run/app.sock",
        "unix://host/app.sock",
        "unix:/run/",
        "unix:/run/a\nb",
        "unix:@",
        "unix:/" + 107 * "x",
        "unix:/" + 54 * "\u00e9",
        "tcp+unix:/run/app.sock",
        "http://web/path",
        "http://web?x",
        "http://u:p@web",
        "http://",
        "http://web:",
        "http://web:99999",
        "http://we b",
        "http://web\n",
        "http://1.2.3.999",
        "http://[web]:80",
    ],
)
def test_other_texts_name_no_service(text: str) -> None:
    """A path, a query or a user name would be ignored in silence, so they are refused."""
    with pytest.raises(ValueError):
        read_service_address(text)


@pytest.mark.parametrize(
    ("text", "url"),
    [
        ("http://localhost:8002", "http://localhost:8002"),
        ("https://pico.example.com/", "https://pico.example.com:443"),
        ("ws://pico", "ws://pico:80"),
        ("wss://[::1]:8002/", "wss://[::1]:8002"),
    ],
)
def test_urls_of_nodes(text: str, url: str) -> None:
    """A node's URL always has its port once it is read."""
    assert read_node_url(text) == url


@pytest.mark.parametrize(
    "text",
    ["", "localhost:8002", "tcp://x:1", "http://x/base", "http://u@x", "http://x:0", "http://x#a", "http://x:1:2"],
)
def test_other_texts_are_no_urls_of_nodes(text: str) -> None:
    """A scheme is needed: it says whether the tunnel is encrypted."""
    with pytest.raises(ValueError):
        read_node_url(text)


def test_networks() -> None:
    """A range is a CIDR with nothing behind its prefix; a plain address is a range of one."""
    assert read_network("10.0.0.0/8") == ipaddress.ip_network("10.0.0.0/8")
    assert read_network("2001:db8::1") == ipaddress.ip_network("2001:db8::1/128")
    for mapped in ("::ffff:10.0.0.0/104", "::ffff:a00:0/104"):  # which no address of a client would be in
        assert read_network(mapped) == ipaddress.ip_network("10.0.0.0/8")
    assert read_network("::ffff:10.1.2.3") == ipaddress.ip_network("10.1.2.3")
    assert read_network("::/0") == ipaddress.ip_network("::/0")
    for text in ("10.0.0.1/8", "10.0.0.0/33", "example.com", ""):
        with pytest.raises(ValueError):
            read_network(text)


def test_which_peers_are_in_a_network() -> None:
    """An IPv4 peer is recognised on a port that listens on IPv6 too; what is no IP is nowhere."""
    networks = (ipaddress.ip_network("10.0.0.0/8"), ipaddress.ip_network("2001:db8::/32"))
    inside = ("10.1.2.3", "::ffff:10.1.2.3", "2001:db8::1", "2001:db8::1%eth0")
    outside = ("11.0.0.1", "::ffff:11.0.0.1", "2001:db9::1", "unix", "")
    assert all(in_networks(networks, ip) for ip in inside)
    assert not any(in_networks(networks, ip) for ip in outside)


def test_booleans_and_whole_numbers() -> None:
    """true and false, yes and no, on and off in any case; whole numbers in plain digits."""
    assert all(map(read_boolean, ("true", "Yes", "ON"))) and not any(map(read_boolean, ("False", "no", "off")))
    assert read_integer("-12") == -12
    for text in ("y", "1", ""):
        with pytest.raises(ValueError):
            read_boolean(text)
    for text in ("1.0", "0x10", "1_000", "", "1" * 20):
        with pytest.raises(ValueError):
            read_integer(text)


@pytest.mark.parametrize("section", [NodeConfig, AgentConfig])
def test_what_is_expected_is_accepted(section: type[Any]) -> None:
    """The words about a value that does not fit propose none that would be refused as well."""
    for key in all_keys(section):
        if key.kind is not None and key.kind.name in ("size", "duration"):
            examples = re.findall(r"\b[0-9][0-9a-zA-Z]*", key.kind.expected)
            assert examples
            for example in examples:
                assert key.kind.parse(example) is not None, f"{key.dotted}: {example}"
