"""Which endpoint a request is for: by its header, or by the name and the path that it asks for.

The endpoint is decided once, from one form of the name, and what was decided is what is authorised, routed and logged.
A name is compared in lower case, without its port and the dot at its end; IPv6 addresses as they are written shortest.
What was decided for a name is kept, so that a request of a known name costs one look-up.

The order: the header; the rules for the whole name, the longest path first; those for all names below another one, the
longest name first; at last the first label. With a public URL such as `https://*.tunnel.example.com`, the first label
counts below that name alone, and as the only one there: otherwise `www.acme.tunnel.example.com` and
`www.other.tunnel.example.com` would be one endpoint.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from ipaddress import IPv6Address
from typing import Final

from pico_twisted.core.http1.head import RequestHead
from pico_twisted.core.http1.memo import Memo
from pico_twisted.core.paths import AmbiguousPathError, is_below, readings
from pico_twisted.core.public_url import domain_of
from pico_twisted.core.text import ENDPOINT_ID_BYTES_PATTERN

HEADER: Final = b"x-pico-endpoint"
"""Name of the field that names an endpoint."""

MAX_HOSTS: Final = 4096
"""Most hosts for which is kept what was decided. Clients may invent any number; an entry has a few hundred bytes."""

_DECIMAL: Final = re.compile(rb"[0-9]+\Z")
_NAME: Final = re.compile(r"[a-z0-9_-]{1,63}(?:\.[a-z0-9_-]{1,63})*")

Rule = tuple[str, str, str]
"""(host, path, endpoint). The host is a name, an IP address, or `*.` and a name for all names below it. The path is
empty or begins with a slash and does not end with one. The endpoint is an ID in lower case; a `*` in it stands for what
`*` in the host stands for."""

_Candidates = tuple[tuple[bytes, str], ...]
"""Paths with their endpoints, in the order in which they count."""


class EndpointError(Exception):
    """The request names no endpoint, or one that cannot be.

    Attributes:
        code: `missing-endpoint`, `invalid-endpoint`, `unknown-host` or `ambiguous-path`.
        message: for the client.
        status: of the answer.
    """

    def __init__(self, code: str, message: str, status: int = 400) -> None:
        super().__init__(message)
        self.code = code
        self.message = message
        self.status = status


def normal_endpoint_id(value: bytes) -> str | None:
    """The ID in the form that is compared (lower case), or None when it is not an endpoint ID."""
    if not ENDPOINT_ID_BYTES_PATTERN.fullmatch(value):
        return None
    return value.decode("ascii").lower()


ENDPOINT_IDS: Final = Memo(normal_endpoint_id, MAX_HOSTS, longest_bytes=128)
"""What `normal_endpoint_id` gives, by the value: requests name the same few again and again."""


class EndpointNames:
    """How endpoints are named at a proxy port.

    Args:
        rules: for whole hosts, names below others, and paths.
        public_url: where clients reach endpoints; empty when that is not told.
    """

    def __init__(self, rules: Iterable[Rule] = (), public_url: str = "") -> None:
        self.public_url = public_url
        self._domain = domain_of(public_url)
        self._rules: dict[str, list[tuple[bytes, str]]] = {}
        for host, path, endpoint in sorted(rules, key=lambda rule: -len(rule[1])):
            self._rules.setdefault(host, []).append((path.encode("ascii"), endpoint))
        self._places: Memo[str | _Candidates] = Memo(self._place, MAX_HOSTS, longest_bytes=264)

    def endpoint_of(self, head: RequestHead) -> str:
        """The endpoint ID that a request asks for, in lower case.

        Raises:
            EndpointError: there is none, or it is not valid, or services may read the path in another way.
        """
        value = head.special.get(HEADER)
        if value is not None:
            return _checked(value)
        place = self._places[head.host or b""]
        return place if isinstance(place, str) else _by_path(place, head.target)

    def _place(self, host: bytes) -> str | _Candidates:
        """What counts for a host: its endpoint, or its paths, where they decide.

        Raises:
            EndpointError: nothing, whatever the path is.
        """
        found: list[tuple[bytes, str]] = []
        name = _normal_name(host) if self._rules or self.public_url else ""
        star = ""
        rest = name
        while rest and not (found and not found[-1][0]):
            if rest == self._domain and star and "." not in star:
                found += [*self._of(f"*.{rest}", star), (b"", _checked(star.encode("ascii")))]
            else:
                found += self._of(f"*.{rest}" if star else rest, star)
            label, _, rest = rest.partition(".")
            star = f"{star}.{label}" if star else label
        if not (found and not found[-1][0]) and not self.public_url:
            first = _first_label(host)
            if first is not None:
                found.append((b"", _checked(first)))
        if not found:
            if self.public_url and not _is_address(name):
                raise EndpointError("unknown-host", "no endpoint has this host name", 404)
            raise EndpointError("missing-endpoint", "missing endpoint id")
        return tuple(found) if found[0][0] else found[0][1]

    def _of(self, host: str, star: str) -> Iterable[tuple[bytes, str]]:
        for path, endpoint in self._rules.get(host, ()):
            yield path, _checked(endpoint.replace("*", star).encode("ascii"))
            if not path:
                return


def _by_path(candidates: _Candidates, target: bytes) -> str:
    """The endpoint of the first candidate whose path is that of the target, in each way in which it may be read."""
    try:
        endpoints = {
            next((endpoint for path, endpoint in candidates if is_below(reading, path)), "")
            for reading in readings(target)
        }
    except AmbiguousPathError as error:
        raise EndpointError("ambiguous-path", f"{error}, and this host has endpoints by path") from None
    if len(endpoints) > 1:
        raise EndpointError("ambiguous-path", "services read this path in different ways, and it names the endpoint")
    (endpoint,) = endpoints
    if not endpoint:
        raise EndpointError("unknown-host", "no endpoint has this host name with this path", 404)
    return endpoint


def _checked(value: bytes) -> str:
    endpoint = ENDPOINT_IDS[value]
    if endpoint is None:
        raise EndpointError("invalid-endpoint", "invalid endpoint id")
    return endpoint


def _normal_name(host: bytes) -> str:
    """A host that the head's rules let pass, in the form that rules have; empty when no rule can be for it."""
    text = host.decode("ascii").lower()
    if text.startswith("["):
        return str(IPv6Address(text[1:].partition("]")[0].partition("%")[0]))
    name = text.partition(":")[0].removesuffix(".")
    return name if _NAME.fullmatch(name) else ""


def _is_address(name: str) -> bool:
    """Whether the form that rules have is that of an IP address, or of nothing at all."""
    return not name or ":" in name or name.rpartition(".")[2].isdecimal()


def _first_label(host: bytes) -> bytes | None:
    if host.startswith(b"["):
        return None
    name = host.partition(b":")[0].removesuffix(b".")
    label, dot, rest = name.partition(b".")
    if not dot or not label or not rest or _DECIMAL.match(rest.rpartition(b".")[2]):
        return None
    return label
