"""The kinds of values that keys hold: durations, sizes, addresses and the like, as text and as Python values.

Every scalar reaches this module as the text that stands in the file or on the command line, so that a flag, a
variable of the environment and a line of YAML mean the same. A reader takes such text and returns the value, or
raises `ValueError`; what it expected is told by the kind that owns it (see `kinds`).
"""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Collection, Iterable
from decimal import Decimal
from itertools import pairwise
from urllib.parse import SplitResult, urlsplit

import attrs

from pico_twisted.core.access.rules import BadRule, Rule
from pico_twisted.core.forward_proxy import NO_PROXY, read_forward_proxy
from pico_twisted.core.text import bracketed, host_port

Network = ipaddress.IPv4Network | ipaddress.IPv6Network
TrustedProxy = Network | str
"""A network, or `UNIX`."""
UNIX = "unix"
"""Stands among networks for all who connect over a unix socket."""

_DURATION = re.compile(r"(?:[0-9]{1,9}(?:\.[0-9]{1,9})?(?:ms|s|m|h))+", re.ASCII)
_DURATION_PART = re.compile(r"([0-9.]+)(ms|s|m|h)", re.ASCII)
_DURATION_UNITS = {"h": Decimal(3600), "m": Decimal(60), "s": Decimal(1), "ms": Decimal("0.001")}
_SIZE = re.compile(r"([0-9]{1,12})(B|KiB|MiB|GiB)?", re.ASCII)
_SIZE_UNITS = {"B": 1, "KiB": 1 << 10, "MiB": 1 << 20, "GiB": 1 << 30}
_INTEGER = re.compile(r"-?[0-9]{1,12}", re.ASCII)
_BOOLEANS = {"true": True, "yes": True, "on": True, "false": False, "no": False, "off": False}
_FILE_MODE = re.compile(r"0?[0-7]{3}", re.ASCII)
_PORT = re.compile(r"[0-9]{1,5}", re.ASCII)
_HOST_NAME = re.compile(r"(?=.{1,253}\.?\Z)(?:[A-Za-z0-9_](?:[A-Za-z0-9_-]{0,61}[A-Za-z0-9_])?\.?)+", re.ASCII)
_MAPPED_BITS = 96  # before an IPv4 address in `::ffff:0:0/96` (RFC 4291 2.5.5.2)
_DOTTED_NUMBERS = re.compile(r"[0-9.]+", re.ASCII)

ALL_INTERFACES = frozenset({"", "0.0.0.0", "::"})
_SERVICE_PORTS = {"http": 80, "https": 443, "h2c": 80}  # of each scheme, the port that need not be said
_MOST_SOCKET_PATH_BYTES = 107  # of `sun_path` in unix(7), without the NUL behind it

GOSSIP_PORT = 8003
"""The gossip port unless something else is configured, of this node and of those that it joins."""


class SocketPathTooLong(ValueError):
    """The name of a socket that is longer than the kernel takes; its text says how long it may be."""


@attrs.frozen
class Address:
    """Where a port listens or is reached. `host` is a name or an IP without brackets; empty means all interfaces. A
    unix socket has a `path` instead of both."""

    host: str
    port: int
    path: str = ""

    def __str__(self) -> str:
        return f"unix:{self.path}" if self.path else host_port(self.host, self.port)

    @property
    def is_all(self) -> bool:
        """Whether binding here answers on every interface of the machine."""
        return not self.path and self.host in ALL_INTERFACES


def default_address(port: int, *, everywhere: bool) -> Address:
    """Where a port listens of which nothing was said: on every interface, or for this machine alone."""
    return Address("" if everywhere else "127.0.0.1", port)


@attrs.frozen
class ServiceAddress:
    """A local service that an agent forwards to.

    Attributes:
        scheme: `http`, `https` or `h2c`.
        host: a name, or an IP without brackets; of a unix socket empty.
        port: of a unix socket 0.
        path: of a unix socket the absolute name of the file, or `@` and a name without one; else empty.
    """

    scheme: str
    host: str
    port: int
    path: str = ""

    def __str__(self) -> str:
        if self.path:
            return f"unix:{self.path}" if self.scheme == "http" else f"{self.scheme}+unix:{self.path}"
        address = host_port(self.host, self.port)
        plain = self.scheme == "http" and self.host != "unix"
        return address if plain else f"{self.scheme}://{address}"

    @property
    def https(self) -> bool:
        """Whether it speaks TLS."""
        return self.scheme == "https"

    @property
    def host_header(self) -> str:
        """The `Host` that the service knows itself by: the port only when it is not the scheme's own."""
        if self.path:
            return "localhost"
        if self.port == _SERVICE_PORTS[self.scheme]:
            return bracketed(self.host)
        return host_port(self.host, self.port)


def read_duration(text: str) -> float:
    """Read the seconds of `500ms`, `15s`, `1m30s`: numbers with units, the larger ones first, no unit twice."""
    if not _DURATION.fullmatch(text):
        raise ValueError("not a duration")
    parts = _DURATION_PART.findall(text)
    sizes = [_DURATION_UNITS[unit] for _, unit in parts]
    if any(later >= earlier for earlier, later in pairwise(sizes)):
        raise ValueError("units out of order")
    return float(sum(Decimal(number) * _DURATION_UNITS[unit] for number, unit in parts))


def duration_text(seconds: float) -> str:
    """The shortest text that `read_duration` turns back into these seconds."""
    left = round(seconds * 1000)
    if left == 0:
        return "0s"
    text = ""
    for unit, size in (("h", 3_600_000), ("m", 60_000), ("s", 1000), ("ms", 1)):
        count, left = divmod(left, size)
        if count:
            text += f"{count}{unit}"
    return text


def read_size(text: str) -> int:
    """Read the bytes of `64KiB`, `16MiB`, `512`. Raises `ValueError` for other texts."""
    match = _SIZE.fullmatch(text)
    if match is None:
        raise ValueError("not a size")
    return int(match[1]) * _SIZE_UNITS[match[2] or "B"]


def size_text(count: int) -> str:
    """The shortest text that `read_size` turns back into this number of bytes."""
    for unit in ("GiB", "MiB", "KiB"):
        if count and count % _SIZE_UNITS[unit] == 0:
            return f"{count // _SIZE_UNITS[unit]}{unit}"
    return str(count)


def read_integer(text: str) -> int:
    """Read a whole number in decimal digits. Raises `ValueError` for other texts."""
    if not _INTEGER.fullmatch(text):
        raise ValueError("not a whole number")
    return int(text)


def read_boolean(text: str) -> bool:
    """Read a boolean in the words of YAML 1.1: `true` and `false`, `yes` and `no`, `on` and `off`.

    Raises:
        ValueError: it is another text.
    """
    value = _BOOLEANS.get(text.lower())
    if value is None:
        raise ValueError("not a boolean")
    return value


def read_file_mode(text: str) -> int:
    """Read the permissions of a file: `660` or `0660`. Raises `ValueError` for other texts."""
    if not _FILE_MODE.fullmatch(text):
        raise ValueError("not a file mode")
    return int(text, 8)


def read_port(text: str, *, zero: bool = False) -> int:
    """Read the number of a port, or raise `ValueError`. 0, for a free port, is read only when `zero` is set."""
    if not _PORT.fullmatch(text) or not (0 if zero else 1) <= int(text) <= 65535:
        raise ValueError("not a port")
    return int(text)


def read_host(text: str) -> str:
    """Read a host name or an IP address without brackets, or raise `ValueError`."""
    if ":" in text:
        return str(ipaddress.IPv6Address(text))
    if _DOTTED_NUMBERS.fullmatch(text):
        return str(ipaddress.IPv4Address(text))
    if not _HOST_NAME.fullmatch(text):
        raise ValueError("not a host name")
    return text


def _split_host_port(text: str) -> tuple[str, str]:
    host, colon, port = text.rpartition(":")
    if not colon:
        raise ValueError("no port")
    if host.startswith("["):
        if not host.endswith("]") or ":" not in host:
            raise ValueError("not an IPv6 address in brackets")
        return host[1:-1], port
    if ":" in host:
        raise ValueError("an IPv6 address without brackets")
    return host, port


def read_bind_address(text: str) -> Address:
    """Read an address to listen on: `8000`, `:8000`, `127.0.0.1:8000`, `[::1]:8000`; port 0 is any free one."""
    if ":" not in text:
        text = ":" + text
    host, port = _split_host_port(text)
    return Address(read_host(host) if host else "", read_port(port, zero=True))


def read_host_header(text: str) -> str:
    """Read what a `Host` may say: a host name or an IP address, in brackets if it is one of IPv6, perhaps with a port.

    Raises:
        ValueError: it is another text.
    """
    if text.endswith("]") or ":" not in text:
        if text.startswith("["):
            return bracketed(read_host(text[1:-1]))
        return read_host(text)
    host, port = _split_host_port(text)
    return host_port(read_host(host), read_port(port))


def read_port_address(text: str) -> Address:
    """Read where a port of HTTP is to listen: as `read_bind_address` has it, or `unix:/path`."""
    if text.startswith("unix:"):
        return Address("", 0, read_socket_path(text.removeprefix("unix:"), abstract=False))
    return read_bind_address(text)


def read_reachable_address(text: str) -> Address:
    """Read an address that others are told to connect to: with a host and a port, or `ValueError` is raised."""
    host, port = _split_host_port(text)
    address = Address(read_host(host), read_port(port))
    if address.is_all:
        raise ValueError("all interfaces are no address to connect to")
    return address


def read_join_address(text: str) -> Address:
    """A node to join: `node1.example.com`, `10.1.2.3:8003`, `[2001:db8::1]`; without a port, the gossip port."""
    if text.startswith("[") and text.endswith("]") and ":" in text:
        text = f"{text}:{GOSSIP_PORT}"
    elif ":" not in text:
        text = host_port(text, GOSSIP_PORT)
    return read_reachable_address(text)


def _split_plain_url(text: str, schemes: Iterable[str]) -> SplitResult:
    url = urlsplit(text)
    if url.scheme not in schemes or not url.hostname or url.path not in ("", "/"):
        raise ValueError("not such a URL")
    if "?" in text or "#" in text or "@" in text or not text.isascii() or not text.isprintable() or " " in text:
        raise ValueError("more than scheme, host and port")
    return url


def _host_and_port(url: SplitResult, default_port: int) -> tuple[str, int]:
    host = url.hostname or ""
    if url.netloc.startswith("[") != (":" in host):
        raise ValueError("brackets are for IPv6 addresses")
    if url.port is None and url.netloc.endswith(":"):
        raise ValueError("no port behind the colon")
    return read_host(host), read_port(str(default_port if url.port is None else url.port))


def read_node_url(text: str) -> str:
    """The URL of a node's upstream port: http, https, ws or wss, a host, a port; or `unix:/path`. Returned without a
    final slash."""
    if text.startswith("unix:"):
        return f"unix:{read_socket_path(text.removeprefix('unix:'))}"
    url = _split_plain_url(text, ("http", "https", "ws", "wss"))
    host, port = _host_and_port(url, 443 if url.scheme in ("https", "wss") else 80)
    return f"{url.scheme}://{host_port(host, port)}"


def is_https_url(text: str) -> bool:
    """Whether a text is an https URL with a host, perhaps a path and a query, and no user name."""
    try:
        url = urlsplit(text)
        _host_and_port(url, 443)
    except ValueError:
        return False
    plain = text.isascii() and text.isprintable() and " " not in text
    return plain and url.scheme == "https" and "@" not in url.netloc and not url.fragment


def read_rule(text: str) -> Rule:
    """A rule of subjects, as `core.access.rules` has it."""
    try:
        return Rule.read(text)
    except BadRule as error:
        raise ValueError(str(error)) from None


def read_service_address(text: str) -> ServiceAddress:
    """Where a local service listens: `3000` (on localhost), `host:3000`, `http://host:3000`, `https://host`,
    `h2c://host:3000`; on a unix socket `unix:/path`, `https+unix:/path`, `h2c+unix:/path`."""
    before, _, behind = text.partition(":")
    scheme, _, last = before.rpartition("+")
    if last == "unix":
        scheme = scheme or "http"
        if scheme not in _SERVICE_PORTS:
            raise ValueError("not such a scheme")
        return ServiceAddress(scheme, "", 0, read_socket_path(behind))
    if "://" in text:
        url = _split_plain_url(text, _SERVICE_PORTS)
        return ServiceAddress(url.scheme, *_host_and_port(url, _SERVICE_PORTS[url.scheme]))
    if ":" not in text:
        return ServiceAddress("http", "localhost", read_port(text))
    host, port_text = _split_host_port(text)
    return ServiceAddress("http", read_host(host) if host else "localhost", read_port(port_text))


def read_socket_path(text: str, *, abstract: bool = True) -> str:
    """What stands behind `unix:`: the absolute name of a socket's file, or `@` and a name in the network namespace that
    needs no file (unix(7)). `///path` is read as `/path`, since a URL would have it so.

    Raises:
        ValueError: it is another text, or longer than the kernel takes.
    """
    if text.startswith("///"):
        text = text[2:]
    named = text.startswith("/") and not text.startswith("//") and not text.endswith("/")
    if not (named or (abstract and len(text) > 1 and text.startswith("@"))) or not text.isprintable():
        raise ValueError("not the name of a socket")
    if len(text.encode()) > _MOST_SOCKET_PATH_BYTES:
        raise SocketPathTooLong(f"of a socket's name at most {_MOST_SOCKET_PATH_BYTES} bytes")
    return text


def read_network(text: str) -> Network:
    """An IP address, or a range of them as a CIDR whose bits behind the prefix are zero. `::ffff:10.0.0.0/104` becomes
    what it stands for, `10.0.0.0/8`: so clients are told, and compared."""
    network = ipaddress.ip_network(text)
    mapped = network.network_address.ipv4_mapped if isinstance(network, ipaddress.IPv6Network) else None
    if mapped is None or network.prefixlen < _MAPPED_BITS:
        return network
    return ipaddress.IPv4Network((int(mapped), network.prefixlen - _MAPPED_BITS))


def read_forward_proxy_url(text: str) -> str:
    """The URL of a proxy as `core.forward_proxy` has it, or the word that stands for none."""
    if text.lower() == NO_PROXY:
        return NO_PROXY
    read_forward_proxy(text)
    return text


def read_trusted_proxy(text: str) -> TrustedProxy:
    """A network as `read_network` has it, or the word `unix`."""
    return UNIX if text.lower() == UNIX else read_network(text)


def is_trusted(proxies: Collection[TrustedProxy], host: str) -> bool:
    """Whether a peer is one of the trusted proxies, by its IP, or by `UNIX` when it came over a unix socket."""
    if host == UNIX:
        return UNIX in proxies
    return in_networks((one for one in proxies if not isinstance(one, str)), host)


def in_networks(networks: Iterable[Network], ip: str) -> bool:
    """Whether an IP address, as a transport tells it, is in one of the networks. Anything else is in none."""
    try:
        address = ipaddress.ip_address(ip.partition("%")[0])
    except ValueError:
        return False
    mapped = address.ipv4_mapped if isinstance(address, ipaddress.IPv6Address) else None
    effective = mapped or address
    return any(effective in network for network in networks if network.version == effective.version)
