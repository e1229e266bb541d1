"""What is to be forwarded, as one value, read from the command line."""

from __future__ import annotations

import socket
from collections.abc import Sequence
from typing import Final
from urllib.parse import urlsplit

import attrs
import click

from pico_twisted.ctl.client import UNIX, read_url

STDIO: Final = "-"
"""The LOCAL that stands for stdin and stdout."""
PROXY_URL: Final = "PICO_PROXY_URL"
"""The name of the environment's variable for the proxy port's URL, or several."""
DEFAULT_URL: Final = "http://localhost:8000"
"""The proxy port of a node on this machine with its default ports."""
DEFAULT_TIMEOUT_S: Final = 30.0
"""The seconds for an attempt: an agent may need some to connect to its service."""
DEFAULT_PATIENCE_S: Final = 10.0
"""The seconds for which a local connection waits for a node and an agent to be there: longer than either restarts."""
MAX_SOCKET_PATH_BYTES: Final = 107
"""Most bytes of a unix socket's path (unix(7))."""
_LIKE: Final = "https://pico.example.com, or unix:/run/pico/proxy"
_LOOPBACK: Final = "127.0.0.1"
_EVERYWHERE: Final = "0.0.0.0"


@attrs.frozen(kw_only=True)
class LocalPair:
    """A local address and the endpoint that it leads to.

    Attributes:
        host: an IP to listen on; empty for a unix socket and for stdin and stdout.
        port: likewise; 0 for any free one.
        path: of a unix socket; empty for the others.
        endpoint_id: of the endpoint.
    """

    host: str = ""
    port: int = 0
    path: str = ""
    endpoint_id: str

    @property
    def is_stdio(self) -> bool:
        """Whether stdin and stdout take the place of a local connection."""
        return not self.host and not self.path


@attrs.frozen(kw_only=True)
class ForwardPlan:
    """What is forwarded, and how nodes are reached.

    Attributes:
        pairs: one at least; the one of stdin and stdout is alone.
        urls: of proxy ports, one at least.
        token: that is shown first; none when empty.
        token_file: which it is from, and read again from; empty when it is from none.
        ca: the PEM file of those to trust; the system's when empty.
        cert: the PEM file of a certificate to show; none when empty.
        key: that of its key; the same file when empty.
        timeout_s: for an attempt.
        patience_s: for which failures that may be over soon are tried again.
        quiet: nothing is said of single connections, nor what is forwarded.
    """

    pairs: tuple[LocalPair, ...]
    urls: tuple[str, ...]
    token: str = attrs.field(default="", repr=False)
    token_file: str = ""
    ca: str = ""
    cert: str = ""
    key: str = ""
    timeout_s: float = DEFAULT_TIMEOUT_S
    patience_s: float = DEFAULT_PATIENCE_S
    quiet: bool = False


def read_pairs(words: Sequence[str]) -> tuple[LocalPair, ...]:
    """Read LOCAL and ENDPOINT, again and again.

    Raises:
        click.UsageError: they do not make sense.
    """
    if not words or len(words) % 2:
        raise click.UsageError("a LOCAL and an ENDPOINT are needed, perhaps several times: picoctl forward 5432 db")
    pairs = tuple(_pair(local, endpoint) for local, endpoint in zip(words[::2], words[1::2], strict=True))
    if len(pairs) > 1 and any(pair.is_stdio for pair in pairs):
        raise click.UsageError("- stands for stdin and stdout, which lead to one endpoint and leave no room for others")
    taken = [(pair.host, pair.port, pair.path) for pair in pairs if pair.port or pair.path]
    if len(taken) > len(set(taken)):
        raise click.UsageError("a LOCAL is given twice")
    return pairs


def _pair(local: str, endpoint: str) -> LocalPair:
    from pico_twisted.config import kinds, values
    from pico_twisted.config.faults import Unfit

    try:
        endpoint_id = kinds.ENDPOINT_ID.parse(endpoint)
    except Unfit as misfit:
        raise click.BadParameter(str(misfit), param_hint="ENDPOINT") from None
    assert endpoint_id
    if local == STDIO:
        return LocalPair(endpoint_id=endpoint_id)
    if local.startswith(UNIX):
        path = local.removeprefix(UNIX)
        if not path or not path.isprintable() or len(path.encode()) > MAX_SOCKET_PATH_BYTES:
            expected = f"unix: and a path of at most {MAX_SOCKET_PATH_BYTES} bytes"
            raise click.BadParameter(f"found {local!r}, expected {expected}", param_hint="LOCAL")
        return LocalPair(path=path, endpoint_id=endpoint_id)
    try:
        address = values.read_bind_address(local)
    except ValueError:
        raise click.BadParameter(
            f"found {local!r}, expected a port, an address such as 127.0.0.1:5432 or [::1]:5432, a path such as "
            "unix:/run/db, or - for stdin and stdout",
            param_hint="LOCAL",
        ) from None
    host = address.host or (_EVERYWHERE if ":" in local else _LOOPBACK)
    return LocalPair(host=_ip(host), port=address.port, endpoint_id=endpoint_id)


def _ip(host: str) -> str:
    """The address that a name of this machine has, the first one if there are several."""
    if host.lower().rstrip(".") == "localhost":
        return _LOOPBACK
    try:
        found = socket.getaddrinfo(host, None, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
    except (OSError, UnicodeError):
        raise click.BadParameter(f"no address for {host}", param_hint="LOCAL") from None
    return str(found[0][4][0])


def read_urls(texts: Sequence[str], default: str = DEFAULT_URL) -> tuple[str, ...]:
    """Read the URLs of proxy ports: several options, or several in one with commas between them.

    Args:
        texts: as they were given.
        default: what counts when there is none.

    Raises:
        click.BadParameter: one is none.
    """
    urls = []
    for text in (part.strip() for given in texts or (default,) for part in given.split(",")):
        scheme, separator, rest = text.partition("://")
        plain = {"ws": "http", "wss": "https"}.get(scheme.lower(), scheme)
        urls.append(read_url(f"{plain}{separator}{rest}", "--url", _LIKE))
    return tuple(dict.fromkeys(urls))


def is_https(url: str) -> bool:
    """Whether a URL of `read_urls` is over TLS."""
    return urlsplit(url).scheme == "https"
