"""The names by which clients reach endpoints, as an operator writes them: the public URL, and rules for hosts."""

from __future__ import annotations

import re
from typing import NamedTuple, TypeVar

import attrs
import idna

from pico_twisted.config.faults import Misfits
from pico_twisted.config.kinds import Kind, Many
from pico_twisted.config.values import read_host, read_port
from pico_twisted.core.text import ENDPOINT_ID_PATTERN, bracketed, is_ip

T = TypeVar("T")

_LABEL = r"[a-z0-9_](?:[a-z0-9_-]{0,61}[a-z0-9_])?"
_NAME = re.compile(rf"(?=.{{1,253}}\Z){_LABEL}(?:\.{_LABEL})*")
_PATH = re.compile(r"(?:/[A-Za-z0-9._~!$&'()+:@-]+)*", re.ASCII)
"""Paths of which every service reads the same: no byte in them is ever escaped, or means something else unescaped."""


class HostRule(NamedTuple):
    """A host, or part of one, with the endpoint that it names; see `core.routing.endpoint.Rule`."""

    host: str
    path: str
    endpoint: str

    def __str__(self) -> str:
        return f"{bracketed(self.host)}{self.path}={self.endpoint}"


def read_domain(text: str) -> str:
    """Read a name of the DNS as requests have it: in lower case, in ASCII (RFC 5891), without a dot at its end.

    Raises:
        ValueError: it is none, or an IP address.
    """
    name = text.lower() if text.isascii() else idna.encode(text, uts46=True).decode("ascii")
    name = name.removesuffix(".")
    if not _NAME.fullmatch(name) or name.rpartition(".")[2].isdecimal():
        raise ValueError("not a name")
    return name


def _read_host(text: str) -> str:
    bare = text.removeprefix("[").removesuffix("]") if text.startswith("[") else text
    return read_host(bare) if is_ip(bare) and (":" in bare) == (bare != text) else read_domain(text)


def read_public_url(text: str) -> str:
    """Read where clients reach endpoints: `https://*.tunnel.example.com`, with or without `*` and a port.

    Returns:
        What `core.public_url.PUBLIC_URL_PATTERN` matches.
    """
    scheme, separator, rest = text.partition("://")
    scheme = scheme.lower()
    authority = rest.removesuffix("/")
    star = "*." if authority.startswith("*.") else ""
    authority = authority.removeprefix(star)
    if not separator or scheme not in ("http", "https"):
        raise ValueError("not a web URL")
    own_port = 443 if scheme == "https" else 80
    host, port = authority, own_port
    if ":" in authority.rpartition("]")[2]:
        host, _, port_text = authority.rpartition(":")
        port = read_port(port_text)
    host = read_domain(host) if star else _read_host(host)
    return f"{scheme}://{star}{bracketed(host)}" + ("" if port == own_port else f":{port}")


def read_host_rule(text: str) -> HostRule:
    """Read `shop.example.com=shop`, `shop.example.com/api=shop-api` or `*.acme.example.com=acme-*`."""
    place, _, endpoint = text.rpartition("=")
    host, slash, path = place.partition("/")
    path = (slash + path).removesuffix("/")
    endpoint = endpoint.lower()
    star = host.startswith("*.")
    if star:
        host = "*." + read_domain(host[2:])
    else:
        host = _read_host(host)
    if not _PATH.fullmatch(path) or any(part in (".", "..") for part in path.split("/")):
        raise ValueError("not a path that every service reads alike")
    if endpoint.count("*") > star or not ENDPOINT_ID_PATTERN.fullmatch(endpoint.replace("*", "x", 1)):
        raise ValueError("not an endpoint ID")
    return HostRule(host, path, endpoint)


@attrs.frozen(kw_only=True)
class _Pairs(Many[T]):
    """Many values that a file may also have as a mapping; each pair of it is the text `name=value`."""

    @property
    def name(self) -> str:
        return f"{super().name}, or mapping"

    def parse(self, raw: object) -> tuple[T | None, ...]:
        """See `Many.parse`."""
        if not isinstance(raw, dict):
            return super().parse(raw)
        texts = [f"{name}={value}" if isinstance(value, str) else value for name, value in raw.items()]
        try:
            return super().parse(texts)
        except Misfits as misfits:
            names = list(raw)
            raise Misfits([(names[int(at)], misfit) for at, misfit in misfits.items], misfits.rest) from None


PUBLIC_URL: Kind[str] = Kind(
    name="URL",
    expected="the http or https URL of all endpoints, such as https://*.tunnel.example.com or "
    'https://pico.example.com:8443, with no path, or "" for none',
    read=read_public_url,
    empty_fits=True,
    empty="",
)
HOST_RULE: Kind[HostRule] = Kind(
    name="host=endpoint",
    expected="a host with its endpoint, such as shop.example.com=shop, shop.example.com/api=shop-api (nothing in the "
    "path that needs an escape), *.example.org=shop or *.acme.example.com=acme-*",
    read=read_host_rule,
)
HOSTS: Many[HostRule] = _Pairs(item=HOST_RULE)
