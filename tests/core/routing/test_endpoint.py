"""Which endpoint a request is for."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pico_twisted.core.http1.head import HeadLimits, RequestHead, parse_request_head
from pico_twisted.core.routing.endpoint import EndpointError, EndpointNames, normal_endpoint_id

endpoint_of = EndpointNames().endpoint_of
"""As nodes read requests that were told no names."""


def head(host: bytes | None, endpoint: bytes | None = None) -> RequestHead:
    """A request as it came, of HTTP/1.0 when it has no Host."""
    lines = [b"GET / HTTP/1.1" if host is not None else b"GET / HTTP/1.0"]
    if host is not None:
        lines.append(b"Host: " + host)
    if endpoint is not None:
        lines.append(b"X-Pico-Endpoint: " + endpoint)
    return parse_request_head(b"\r\n".join(lines) + b"\r\n\r\n", HeadLimits())


@pytest.mark.parametrize(
    ("host", "endpoint"),
    [
        (b"my-ep.example.com", "my-ep"),
        (b"MY-EP.Example.COM", "my-ep"),
        (b"my-ep.localhost:8000", "my-ep"),
        (b"my-ep.localhost.", "my-ep"),
        (b"a.b.c.d.e", "a"),
        (b"1.example.com", "1"),
        (b"10.0.0.1.example", "10"),
        (b"a_b.example", "a_b"),
    ],
)
def test_first_label_of_host(host: bytes, endpoint: str) -> None:
    """Without a header it is the first label of a Host with two labels or more, in lower case."""
    assert endpoint_of(head(host)) == endpoint


@pytest.mark.parametrize(
    "host",
    [
        b"localhost",
        b"localhost:8000",
        b"localhost.",
        b"127.0.0.1",
        b"127.0.0.1:80",
        b"[::1]",
        b"[::1]:80",
        b"1.2",
        None,
    ],
)
def test_no_endpoint(host: bytes | None) -> None:
    """A bare name, an IP address and a missing Host name no endpoint."""
    with pytest.raises(EndpointError) as caught:
        endpoint_of(head(host))
    assert (caught.value.code, caught.value.message) == ("missing-endpoint", "missing endpoint id")


def test_header_wins() -> None:
    """The header decides, whatever Host says."""
    assert endpoint_of(head(b"other.example.com", b"My.Endpoint_1-x")) == "my.endpoint_1-x"
    assert endpoint_of(head(b"127.0.0.1", b"x")) == "x"


@pytest.mark.parametrize("value", [b"", b"-a", b".a", b"_a", b"a/b", b"a b", b"a" * 129, b"a:1", b"a%20", b"a\tb"])
def test_invalid(value: bytes) -> None:
    """An ID that cannot be is refused, and Host is not asked instead."""
    with pytest.raises(EndpointError) as caught:
        endpoint_of(head(b"my-ep.example.com", value))
    assert (caught.value.code, caught.value.message) == ("invalid-endpoint", "invalid endpoint id")


def test_invalid_first_label() -> None:
    """A first label that is no ID is an invalid one, not a missing one."""
    with pytest.raises(EndpointError) as caught:
        endpoint_of(head(b"-a.example.com"))
    assert caught.value.code == "invalid-endpoint"


def test_longest() -> None:
    """128 characters are an ID."""
    assert normal_endpoint_id(b"A" * 128) == "a" * 128
    assert normal_endpoint_id(b"a\n") is None


@given(st.binary(max_size=140))
def test_normal_form(value: bytes) -> None:
    """The form that is compared is lower-case ASCII, or there is none; and it is its own normal form."""
    normal = normal_endpoint_id(value)
    if normal is not None:
        assert normal == value.decode("ascii").lower()
        assert normal_endpoint_id(normal.encode()) == normal
