"""The PROXY protocol: what its headers say, in every piece that they may come in."""

from __future__ import annotations

import struct
from ipaddress import ip_address

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pico_twisted.core.proxy_protocol import (
    MAX_HEADER_BYTES,
    V2_START,
    ProxyHeaderError,
    read_proxy_header,
    write_proxy_header,
)


def v2(
    command: int = 0x21,
    family: int = 0x11,
    *,
    addresses: bytes | None = None,
    tlvs: bytes = b"",
    length: int | None = None,
) -> bytes:
    """A header of version 2."""
    if addresses is None:
        addresses = ip_address("203.0.113.9").packed + ip_address("10.0.0.1").packed + struct.pack("!HH", 4711, 443)
    body = addresses + tlvs
    return V2_START + struct.pack("!BBH", command, family, len(body) if length is None else length) + body


V6 = ip_address("2001:db8::9").packed + ip_address("::1").packed + struct.pack("!HH", 4711, 443)
GOOD = [
    (b"PROXY TCP4 203.0.113.9 10.0.0.1 4711 443\r\n", "203.0.113.9", 4711),
    (b"PROXY TCP6 2001:DB8::9 ::1 4711 443\r\n", "2001:db8::9", 4711),
    (b"PROXY UNKNOWN\r\n", "", 0),
    (b"PROXY UNKNOWN ffff:f::1 whatever 1 2\r\n", "", 0),
    (v2(), "203.0.113.9", 4711),
    (v2(family=0x21, addresses=V6), "2001:db8::9", 4711),
    (v2(tlvs=b"\x04\x00\x03abc" + b"\x20" * 500), "203.0.113.9", 4711),
    (v2(0x20), "", 0),
    (v2(0x20, 0, addresses=b""), "", 0),
    (v2(0x21, 0, addresses=b""), "", 0),
    (v2(0x21, 0x31, addresses=bytes(216)), "", 0),
]


@pytest.mark.parametrize(("header", "host", "port"), GOOD)
def test_headers(header: bytes, host: str, port: int) -> None:
    """A header tells the client's address, and where it ends; in pieces it is awaited."""
    for rest in (b"", b"GET / HTTP/1.1\r\n"):
        assert read_proxy_header(header + rest) == (len(header), host, port)
    for end in range(len(header)):
        assert read_proxy_header(header[:end]) is None


BAD = [
    b"GET / HTTP/1.1\r\n",
    b"\x16\x03\x01",
    b"proxy TCP4 1.2.3.4 1.2.3.4 1 2\r\n",
    b"PROXY TCP5 1.2.3.4 1.2.3.4 1 2\r\n",
    b"PROXY TCP4 1.2.3.4 1.2.3.4 1 65536\r\n",
    b"PROXY TCP4 1.2.3.400 1.2.3.4 1 2\r\n",
    b"PROXY TCP4 ::1 ::1 1 2\r\n",
    b"PROXY TCP4 1.2.3.4  1.2.3.4 1 2\r\n",
    b"PROXY TCP4 1.2.3.4 1.2.3.4 1 2\n" + b"x" * 100,
    b"PROXY UNKNOWN" + b"x" * 94,
    b"PROXY UNKNOWNX\r\n",
    v2(0x11),
    v2(0x22),
    v2(0x21, 0x12),
    v2(0x21, 0x99),
    v2(addresses=b"\x01\x02"),
    v2(family=0x21),
    v2(length=MAX_HEADER_BYTES),
    V2_START[:5] + b"x",
]


@pytest.mark.parametrize("header", BAD)
def test_what_is_no_header(header: bytes) -> None:
    """Anything else is refused, as soon as it cannot become a header."""
    with pytest.raises(ProxyHeaderError):
        read_proxy_header(header)


@given(st.sampled_from([header for header, _, _ in GOOD]), st.integers(0, 40), st.binary(max_size=4), st.binary())
def test_any_bytes(header: bytes, at: int, put: bytes, noise: bytes) -> None:
    """Whatever comes is read, awaited or refused."""
    for data in (noise, header[:at] + put + header[at + len(put) :]):
        try:
            found = read_proxy_header(data)
        except ProxyHeaderError:
            continue
        assert found is None or found.size <= len(data)


@pytest.mark.parametrize(
    ("client", "v1_header", "v2_body"),
    [
        ("203.0.113.9", b"PROXY TCP4 203.0.113.9 0.0.0.0 0 443\r\n", b"\x11\x00\x0c\xcb\x00\x71\x09" + bytes(6)),
        ("::ffff:203.0.113.9", b"PROXY TCP4 203.0.113.9 0.0.0.0 0 443\r\n", b"\x11\x00\x0c\xcb\x00\x71\x09" + bytes(6)),
        ("2001:db8::9", b"PROXY TCP6 2001:db8::9 :: 0 443\r\n", b"\x21\x00\x24" + V6[:16] + bytes(18)),
    ],
)
def test_a_header_that_is_written(client: str, v1_header: bytes, v2_body: bytes) -> None:
    """Both versions say who the client is and which port it asked for, byte for byte as the specification has it."""
    assert write_proxy_header(1, client, 443) == v1_header
    assert write_proxy_header(2, client, 443) == V2_START + b"\x21" + v2_body + b"\x01\xbb"


@given(st.sampled_from([1, 2]), st.ip_addresses() | st.text(max_size=20), st.integers(0, 0xFFFF))
def test_what_is_written_is_read(version: int, client: object, port: int) -> None:
    """A receiver learns the client that was told, in the form that it has everywhere, or that it is not known."""
    header = write_proxy_header(version, str(client), port)
    found = read_proxy_header(header)
    assert found is not None and found.size == len(header) and found.port == 0
    try:
        ip = ip_address(str(client).partition("%")[0])
    except ValueError:
        assert found.host == ""
    else:
        assert ip_address(found.host) == (getattr(ip, "ipv4_mapped", None) or ip)
