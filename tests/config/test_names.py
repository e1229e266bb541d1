"""The names of endpoints, as an operator writes them."""

from __future__ import annotations

from pathlib import Path

import pytest

from pico_twisted.config import ConfigFaults, load_node
from pico_twisted.config.names import HostRule, read_host_rule, read_public_url
from pico_twisted.core.public_url import PUBLIC_URL_PATTERN


@pytest.mark.parametrize(
    ("text", "url"),
    [
        ("https://*.tunnel.example.com", "https://*.tunnel.example.com"),
        ("HTTPS://*.Tunnel.Example.COM.:443/", "https://*.tunnel.example.com"),
        ("https://*.münchen.example:8443", "https://*.xn--mnchen-3ya.example:8443"),
        ("http://*.localhost:8000", "http://*.localhost:8000"),
        ("http://pico.example.com:80", "http://pico.example.com"),
        ("https://10.0.0.1:8443", "https://10.0.0.1:8443"),
        ("https://[2001:DB8::1]", "https://[2001:db8::1]"),
        ("https://[::1]:1", "https://[::1]:1"),
    ],
)
def test_public_urls(text: str, url: str) -> None:
    """They come out in the one form that is told to agents, and that is its own form."""
    assert read_public_url(text) == read_public_url(url) == url
    assert PUBLIC_URL_PATTERN.fullmatch(url)


@pytest.mark.parametrize(
    "text",
    [
        "tunnel.example.com",
        "ftp://x.example",
        "wss://x.example",
        "https://",
        "https://*",
        "https://*.",
        "https://a.*.example",
        "https://a*.example",
        "https://*.*.example",
        "https://*.10.0.0.1",
        "https://*.[::1]",
        "https://::1",
        "https://x.example/path",
        "https://x.example//",
        "https://x.example?a",
        "https://u@x.example",
        "https://x.example:0",
        "https://x.example:",
        "https://x..example",
        "https://-x.example",
        "https://☃️‍.example",
        " https://x.example",
    ],
)
def test_no_public_urls(text: str) -> None:
    """Anything but a scheme, a host and a port is a fault."""
    with pytest.raises(ValueError):
        read_public_url(text)


@pytest.mark.parametrize(
    ("text", "rule"),
    [
        ("shop.example.com=shop", ("shop.example.com", "", "shop")),
        ("Shop.Example.COM./=SHOP", ("shop.example.com", "", "shop")),
        ("bücher.example/api/v2/=b", ("xn--bcher-kva.example", "/api/v2", "b")),
        ("*.acme.example.com=acme-*", ("*.acme.example.com", "", "acme-*")),
        ("*.example.net=*", ("*.example.net", "", "*")),
        ("*.example.net/@a=b", ("*.example.net", "/@a", "b")),
        ("10.0.0.1=a", ("10.0.0.1", "", "a")),
        ("[2001:DB8::1]/x=a", ("2001:db8::1", "/x", "a")),
        ("localhost=a", ("localhost", "", "a")),
    ],
)
def test_rules(text: str, rule: tuple[str, str, str]) -> None:
    """A host, perhaps with a path, and an endpoint; and they are written as they are read."""
    assert read_host_rule(text) == rule
    assert read_host_rule(str(HostRule(*rule))) == rule


@pytest.mark.parametrize(
    "text",
    [
        "shop.example.com",
        "=shop",
        "shop.example.com=",
        "shop.example.com=-shop",
        "shop.example.com=shop-*",
        "*.example.com=a-*-*",
        "*=shop",
        "a.*.example=shop",
        "shop.example.com:8443=shop",
        "https://shop.example.com=shop",
        "::1=a",
        "1.2=a",
        "shop.example.com/a//b=a",
        "shop.example.com/a/../b=a",
        "shop.example.com/%61=a",
        "shop.example.com/a;b=a",
        "shop.example.com/a?b=a",
        "shop.example.com/é=a",
    ],
)
def test_no_rules(text: str) -> None:
    """A host with a port, a path that services read in several ways, an endpoint that cannot be: all faults."""
    with pytest.raises(ValueError):
        read_host_rule(text)


def hosts(tmp_path: Path, text: str, **flags: str) -> tuple[HostRule, ...]:
    """The rules of a file."""
    (tmp_path / "pico.yaml").write_text(text)
    found = load_node("pico.yaml", {f"proxy.{key}": value for key, value in flags.items()}, directory=str(tmp_path))
    return found.proxy.hosts


def test_a_mapping_a_list_and_a_flag_are_the_same(tmp_path: Path) -> None:
    """The reader of a file writes what is easiest to read there."""
    rules = (HostRule("shop.example.com", "/api", "shop-api"), HostRule("*.acme.example.com", "", "acme-*"))
    mapping = "{shop.example.com/api: shop-api, '*.acme.example.com': 'acme-*'}"
    for text in (mapping, "[shop.example.com/api=shop-api, '*.acme.example.com=acme-*']"):
        assert hosts(tmp_path, f"proxy: {{hosts: {text}}}") == rules
    assert hosts(tmp_path, "proxy: {hosts: {}}") == ()
    assert hosts(tmp_path, "", hosts="shop.example.com/api=shop-api,*.acme.example.com=acme-*") == rules


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("  hosts:\n    a.example: b\n    shop.example:8: c", "proxy.hosts.shop.example:8 (pico.yaml:4): found"),
        ("  hosts:\n    a.example: {b: c}", "proxy.hosts.a.example (pico.yaml:3): found a mapping"),
        ("  hosts: ['a.example=b', 'A.example.=c']", 'found "a.example=b" and "a.example=c"'),
        ("  hosts: {a.example/x: b, a.example/x/: b}", 'found "a.example/x=b" and "a.example/x=b"'),
        (
            "  public_url: https://*.a.example\n  hosts: {'*.a.example': b}",
            'found "*.a.example=b", which leaves no name to proxy.public_url',
        ),
        ("  public_url: a.example", "expected the http or https URL of all endpoints"),
    ],
)
def test_faults(text: str, words: str, tmp_path: Path) -> None:
    """What is wrong is told at the start, with its line: two equal hosts, and names that nothing can reach."""
    with pytest.raises(ConfigFaults) as raised:
        hosts(tmp_path, f"proxy:\n{text}")
    assert words in str(raised.value)


def test_a_path_of_a_name_of_the_public_url(tmp_path: Path) -> None:
    """Part of what is below the public URL may be another endpoint's."""
    text = "proxy:\n  public_url: https://*.a.example\n  hosts: {'*.a.example/docs': docs, x.a.example: y}"
    assert len(hosts(tmp_path, text)) == 2
