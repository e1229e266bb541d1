"""Which proxy nodes are reached through: the one of the configuration, or that of the environment."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pico_twisted.core.forward_proxy import ForwardProxies, ForwardProxy, read_forward_proxy

A, B = "http://a:3128", "http://b:3128"


@pytest.mark.parametrize(
    ("text", "proxy", "authorization"),
    [
        ("http://proxy:3128", ForwardProxy("http", "proxy", 3128), b""),
        ("http://proxy:3128/", ForwardProxy("http", "proxy", 3128), b""),
        ("proxy:3128", ForwardProxy("http", "proxy", 3128), b""),
        ("proxy", ForwardProxy("http", "proxy", 80), b""),
        ("https://proxy", ForwardProxy("https", "proxy", 443), b""),
        ("http://[::1]:8", ForwardProxy("http", "::1", 8), b""),
        ("http://ann:s3cret@proxy:1", ForwardProxy("http", "proxy", 1, b"ann:s3cret"), b"Basic YW5uOnMzY3JldA=="),
        ("ann:p%40ss%3A@proxy:1", ForwardProxy("http", "proxy", 1, b"ann:p@ss:"), b"Basic YW5uOnBAc3M6"),
        ("http://ann@proxy:1", ForwardProxy("http", "proxy", 1, b"ann:"), b"Basic YW5uOg=="),
    ],
)
def test_the_url_of_a_proxy(text: str, proxy: ForwardProxy, authorization: bytes) -> None:
    """A scheme, a host and a port, perhaps a user and a password, which no text of it shows."""
    found = read_forward_proxy(text)
    assert found == proxy
    assert found.authorization == authorization
    assert "s3cret" not in str(found) + repr(found)
    assert read_forward_proxy(str(found)) == ForwardProxy(proxy.scheme, proxy.host, proxy.port)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "http://",
        "socks5://proxy:1080",
        "http://proxy/path",
        "http://proxy?x",
        "http://proxy#x",
        "http://proxy:0",
        "http://proxy:99999",
        "http://pro xy",
        "http://proxy\n",
        "http://a%3Ab:c@proxy",
        "http://a:b%0d%0aX-Other:1@proxy",
        "http://a:%00@proxy",
        "http://a:" + 1100 * "x" + "@proxy",
        "http://prox\u00fd",
    ],
)
def test_other_texts_name_no_proxy(text: str) -> None:
    """Another protocol, a path, and credentials that could not be shown, or would be more lines of a head."""
    with pytest.raises(ValueError):
        read_forward_proxy(text)


@given(st.text(max_size=30))
def test_any_text(text: str) -> None:
    """Whatever stands there is read or refused."""
    try:
        found = read_forward_proxy(text)
    except ValueError:
        return
    assert b"\r" not in found.authorization and b"\n" not in found.authorization and 0 < found.port < 65536


@pytest.mark.parametrize(
    ("environ", "https", "http"),
    [
        ({}, None, None),
        ({"HTTPS_PROXY": A}, A, None),
        ({"https_proxy": A, "HTTPS_PROXY": B}, A, None),
        ({"ALL_PROXY": A}, A, A),
        ({"all_proxy": A, "HTTPS_PROXY": B}, B, A),
        ({"HTTPS_PROXY": " "}, None, None),
        ({"HTTP_PROXY": A, "http_proxy": A}, None, None),
        ({"ALL_PROXY": A, "NO_PROXY": "*"}, None, None),
        ({"ALL_PROXY": A, "no_proxy": "node.example.com"}, None, None),
        ({"ALL_PROXY": A, "no_proxy": "", "NO_PROXY": "example.com"}, None, None),
        ({"ALL_PROXY": A, "NO_PROXY": "other.example.com, ample.com,com.,node"}, None, None),
        ({"ALL_PROXY": A, "NO_PROXY": "other.example.com, ample.com, node, :x, a:b"}, A, A),
        ({"ALL_PROXY": A, "NO_PROXY": "node.example.com:8443"}, None, A),
    ],
)
def test_what_the_environment_says(environ: dict[str, str], https: str | None, http: str | None) -> None:
    """The lower case wins; one for https comes before one for all; exemptions are hosts, what is below them, a port."""
    proxies = ForwardProxies("", environ)
    for url, expected in (("wss://node.example.com:8443", https), ("http://node.example.com:8002", http)):
        assert (str(found) if (found := proxies.for_url(url)) else None) == expected
    assert not proxies.unusable


@pytest.mark.parametrize(
    ("exempt", "host", "exempted"),
    [
        ("example.com", "example.com", True),
        ("example.com", "a.b.example.com", True),
        ("example.com", "badexample.com", False),
        (".example.com", "a.example.com", True),
        ("*.example.com", "a.example.com", True),
        ("EXAMPLE.com", "a.Example.COM.", True),
        ("10.0.0.0/8", "10.1.2.3", True),
        ("10.0.0.0/8", "11.1.2.3", False),
        ("10.1.2.3", "10.1.2.3", True),
        ("10.1.2.3:443", "10.1.2.3", True),
        ("10.1.2.3:444", "10.1.2.3", False),
        ("10.0.0.0/8", "10.example.com", False),
        ("2001:db8::/32", "[2001:db8::1]", True),
        ("[2001:db8::1]", "[2001:db8::1]", True),
        ("[2001:db8::1]:443", "[2001:db8::1]", True),
        ("[2001:db8::1]:444", "[2001:db8::1]", False),
        ("0.0.0.0/0", "[2001:db8::1]", False),
        (",, ,", "a.example.com", False),
        ("*.", "a.example.com", False),
    ],
)
def test_exemptions(exempt: str, host: str, exempted: bool) -> None:
    """`no_proxy` names hosts with all below them, addresses, networks, and ports of these."""
    proxies = ForwardProxies("", {"HTTPS_PROXY": A, "NO_PROXY": f"nothing, {exempt}"})
    assert (proxies.for_url(f"https://{host}") is None) == exempted


@pytest.mark.parametrize("url", ["http://localhost:8002", "https://127.9.9.9", "wss://[::1]", "ws://n1.localhost:1"])
def test_this_machine_is_reached_directly(url: str) -> None:
    """Unless the configuration says otherwise: a proxy elsewhere would reach another machine by that name."""
    assert ForwardProxies("", {"ALL_PROXY": A}).for_url(url) is None
    assert str(ForwardProxies(B, {"ALL_PROXY": A}).for_url(url)) == B


@pytest.mark.parametrize("environ", [{}, {"ALL_PROXY": A, "NO_PROXY": "*"}])
def test_the_configuration_comes_first(environ: dict[str, str]) -> None:
    """For all nodes, whatever the environment says; and none is none. A socket of this machine needs none."""
    assert str(ForwardProxies(B, environ).for_url("https://node")) == B
    assert ForwardProxies("none", {"ALL_PROXY": A}).for_url("https://node") is None
    assert ForwardProxies(B, environ).for_url("unix:/run/pico/upstream.sock") is None


def test_a_variable_of_no_use_is_told() -> None:
    """A proxy that speaks something else is not used, and somebody should know."""
    proxies = ForwardProxies("", {"ALL_PROXY": "socks5h://a:1080", "https_proxy": "http://"})
    assert proxies.for_url("https://node") is None
    assert proxies.unusable == ["https_proxy", "ALL_PROXY"]
    assert ForwardProxies(A, {"ALL_PROXY": "socks5h://a:1080"}).unusable == []
