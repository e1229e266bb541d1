"""Which proxy an agent's connections to nodes go through: a forward proxy of its network, which is asked with CONNECT.

An operator says it in the configuration, for all nodes; else the environment does, as for other programs: `https_proxy`
for https and wss, `all_proxy` for all, in lower or upper case, the lower first, and `no_proxy` for hosts that are
reached without. The environment of a machine was made for programs that reach the Internet: this machine itself is
never reached through a proxy that only the environment names.
"""

from __future__ import annotations

import base64
import ipaddress
from collections.abc import Iterator, Mapping
from typing import Final
from urllib.parse import SplitResult, unquote_to_bytes, urlsplit

import attrs

from pico_twisted.core.text import host_port

NO_PROXY: Final = "none"
"""What stands in the configuration where no proxy is to be used, whatever the environment says."""

MAX_CREDENTIAL_BYTES: Final = 1024
"""Most bytes of a user and a password."""

_PORTS: Final = {"http": 80, "https": 443}


@attrs.frozen
class ForwardProxy:
    """A proxy.

    Attributes:
        scheme: http or https: whether it is spoken to over TLS.
        host, port: where it listens.
        credentials: user and password with a colon between, as it is shown them; empty for none.
    """

    scheme: str
    host: str
    port: int
    credentials: bytes = attrs.field(default=b"", repr=False)

    def __str__(self) -> str:
        return f"{self.scheme}://{host_port(self.host, self.port)}"

    @property
    def authorization(self) -> bytes:
        """The value of Proxy-Authorization (RFC 7617); empty for none."""
        return b"Basic " + base64.b64encode(self.credentials) if self.credentials else b""


def read_forward_proxy(text: str) -> ForwardProxy:
    """Read `http://proxy:3128`, `https://user:password@proxy`, or `proxy:3128`, which is http.

    Raises:
        ValueError: it is something else.
    """
    url = urlsplit(text if "://" in text else f"http://{text}")
    if url.scheme not in _PORTS or not url.hostname or url.path not in ("", "/") or "?" in text or "#" in text:
        raise ValueError("not the URL of a proxy")
    if not text.isascii() or not text.isprintable() or " " in text:
        raise ValueError("not the URL of a proxy")
    if not url.netloc.rpartition("@")[2].startswith("[") and ":" in url.hostname:
        raise ValueError("not the URL of a proxy")
    port = _PORTS[url.scheme] if url.port is None else url.port
    if port == 0:
        raise ValueError("not a port")
    return ForwardProxy(url.scheme, url.hostname, port, _credentials(url))


def _credentials(url: SplitResult) -> bytes:
    if url.username is None:
        return b""
    user, password = unquote_to_bytes(url.username), unquote_to_bytes(url.password or "")
    credentials = user + b":" + password
    if (
        b":" in user
        or len(credentials) > MAX_CREDENTIAL_BYTES
        or any(byte < 0x20 or byte == 0x7F for byte in credentials)
    ):
        raise ValueError("no user and password that can be shown (RFC 7617)")
    return credentials


class ForwardProxies:
    """Says for each node which proxy it is reached through.

    Args:
        configured: `connect.proxy`: the URL of a proxy, `NO_PROXY`, or nothing.
        environ: the environment of the process.

    Attributes:
        unusable: the variables that name a proxy which cannot be used.
    """

    def __init__(self, configured: str, environ: Mapping[str, str]) -> None:
        self.unusable: list[str] = []
        self._asked = bool(configured)
        self._configured = None if configured in ("", NO_PROXY) else read_forward_proxy(configured)
        self._https = None if self._asked else self._named(environ, "https_proxy")
        self._all = None if self._asked else self._named(environ, "all_proxy")
        self._exempt = list(_exemptions(environ.get("no_proxy") or environ.get("NO_PROXY") or ""))

    def _named(self, environ: Mapping[str, str], name: str) -> ForwardProxy | None:
        for variable in (name, name.upper()):
            if text := environ.get(variable, "").strip():
                try:
                    return read_forward_proxy(text)
                except ValueError:
                    self.unusable.append(variable)
                    return None
        return None

    def for_url(self, url: str) -> ForwardProxy | None:
        """The proxy for a node's URL; None when it is reached without one."""
        parsed = urlsplit(url)
        if parsed.scheme == "unix":
            return None
        if self._asked:
            return self._configured
        secure = parsed.scheme in ("https", "wss")
        host, port = parsed.hostname or "", parsed.port or (443 if secure else 80)
        proxy = (self._https or self._all) if secure else self._all
        if proxy is None or _is_this_machine(host) or any(one.fits(host, port) for one in self._exempt):
            return None
        return proxy


def _is_this_machine(host: str) -> bool:
    if host.rstrip(".") == "localhost" or host.rstrip(".").endswith(".localhost"):
        return True
    address = _address(host)
    return address is not None and address.is_loopback


def _address(host: str) -> ipaddress.IPv4Address | ipaddress.IPv6Address | None:
    try:
        return ipaddress.ip_address(host.partition("%")[0])
    except ValueError:
        return None


@attrs.frozen
class _Exemption:
    """One item of `no_proxy`.

    Attributes:
        name: of a host, which stands for those below it, too; empty for all hosts.
        network: in place of a name.
        port: the only one that is meant; None for all.
    """

    name: str = ""
    network: ipaddress.IPv4Network | ipaddress.IPv6Network | None = None
    port: int | None = None

    def fits(self, host: str, port: int) -> bool:
        """Whether it is for this host and port."""
        if self.port is not None and self.port != port:
            return False
        if self.network is not None:
            address = _address(host)
            return address is not None and address.version == self.network.version and address in self.network
        host = host.lower().rstrip(".")
        return not self.name or host == self.name or host.endswith("." + self.name)


def _exemptions(text: str) -> Iterator[_Exemption]:
    """Read `no_proxy`. An item that cannot be read exempts nobody."""
    for item in text.replace(",", " ").split():
        if item == "*":
            yield _Exemption()
            continue
        try:
            yield _Exemption(network=ipaddress.ip_network(item.strip("[]"), strict=False))
            continue
        except ValueError:
            pass
        host, colon, digits = item.rpartition(":")
        if not colon:
            host = item
        elif not digits.isdecimal():
            continue
        port = int(digits) if colon else None
        address = _address(host.strip("[]"))
        if address is not None:
            yield _Exemption(network=ipaddress.ip_network(address), port=port)
        elif name := host.lower().removeprefix("*").strip("."):
            yield _Exemption(name=name, port=port)
