"""How a path may be read, where its beginning names an endpoint."""

from __future__ import annotations

import posixpath
import re
from collections.abc import Callable
from urllib.parse import unquote_to_bytes

from hypothesis import assume, given
from hypothesis import strategies as st

from pico_twisted.core.paths import AmbiguousPathError, is_below, readings
from pico_twisted.core.public_url import domain_of, endpoint_url

Reading = Callable[[bytes], bytes]

SERVICES: list[Reading] = [
    unquote_to_bytes,
    lambda path: path.replace(b"\\", b"/"),
    lambda path: re.sub(rb"/{2,}", b"/", path),
    lambda path: re.sub(rb";[^/]*", b"", path),
    lambda path: re.split(rb"[?#\0]", path, maxsplit=1)[0],
    lambda path: posixpath.normpath(path) + (b"/" if path.endswith(b"/") else b""),
]
"""What services do with a path before they look where it leads, each some of it, in an order of its own."""

PIECES = re.findall(r"\S+", r"/ // api a p %61 %2561 %2f %252F . .. %2e %252e ; %3b \ %5c %00 % %25 ? %3f # x %70i é")
PATHS = st.lists(st.sampled_from(PIECES), max_size=8).map(lambda pieces: ("/" + "".join(pieces)).encode())


@given(PATHS, st.lists(st.sampled_from(SERVICES), max_size=7))
def test_no_service_reads_it_differently(target: bytes, service: list[Reading]) -> None:
    """A path that is not refused leads to the same endpoint in our reading and in that of any service."""
    try:
        ours = {is_below(reading, b"/api") for reading in readings(target)}
    except AmbiguousPathError:
        assume(False)
    assume(len(ours) == 1)
    path = target.partition(b"?")[0]
    for step in service:
        path = step(path)
    assert {is_below(path, b"/api")} == ours


@given(st.binary(max_size=200))
def test_any_bytes(target: bytes) -> None:
    """Whatever is asked for is read or refused, and what has no odd byte has one reading, as it is."""
    try:
        found = readings(b"/" + target)
    except AmbiguousPathError:
        return
    assert 1 <= len(found) <= 2
    assert all(reading.startswith(b"/") for reading in found)


def test_decoding_ends() -> None:
    """A path of nested escapes is refused after a few looks, however long it is."""
    try:
        readings(b"/%" + b"25" * 4000)
    except AmbiguousPathError:
        return
    raise AssertionError("it was read")


def test_below() -> None:
    """A prefix ends where a segment does, and the empty one holds everything."""
    assert is_below(b"/api", b"/api") and is_below(b"/api/", b"/api") and is_below(b"/api/x", b"/api")
    assert not is_below(b"/apis", b"/api") and not is_below(b"/", b"/api") and not is_below(b"*", b"/api")
    assert is_below(b"*", b"") and is_below(b"/", b"")


def test_urls_of_endpoints() -> None:
    """An endpoint has a URL where its ID is a label that can stand in for the star."""
    url = "https://*.tunnel.example.com:8443"
    assert endpoint_url(url, "My-Endpoint") == "https://my-endpoint.tunnel.example.com:8443"
    assert endpoint_url(url, "a" * 63) and not endpoint_url(url, "a" * 64)
    for endpoint in ("my.endpoint", "a-", "", "*"):
        assert endpoint_url(url, endpoint) == ""
    assert endpoint_url("https://pico.example.com", "a") == endpoint_url("", "a") == ""
    assert (domain_of(url), domain_of("https://pico.example.com"), domain_of("")) == ("tunnel.example.com", "", "")
