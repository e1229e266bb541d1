"""Who asks an admin port; and who may change something at one that does not authenticate.

What is needed. Without `admin.auth` the port knows nobody, and a POST changes something. Operators of the machine may
do that: they could send the process a signal as well.

What can go wrong. The port may be bound to every interface. A page that an operator looks at may post to
`http://localhost:8001` from their browser. A proxy on this machine may pass strangers on.

What was chosen. The connection comes from this machine; a field of our own stands in the request, which no form sends
and no script without asking first, and we answer no such question; and nothing says that a browser or a proxy is
involved. `origins` looks at the host that is asked for.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Callable
from typing import Final

import attrs
from twisted.internet.address import IPv4Address, IPv6Address
from twisted.web.server import Request

from pico_twisted.config import in_networks
from pico_twisted.config.values import UNIX
from pico_twisted.core.access.rules import Action
from pico_twisted.core.text import escaped
from pico_twisted.net.admin.shapes.paths import OPERATOR
from pico_twisted.net.admin.shapes.reload import Reloaded
from pico_twisted.net.socket.options import plain_ip
from pico_twisted.net.socket.unix import UnixPeer

Reload = Callable[[str], Reloaded]
"""Has the process read its configuration again. Is given who asks, for the log."""

LOOPBACK: Final = (ipaddress.ip_network("127.0.0.0/8"), ipaddress.ip_network("::1"))
"""Addresses at which a machine reaches only itself."""

_OF_BROWSERS: Final = (b"origin", b"referer", b"sec-fetch-site", b"sec-fetch-mode")
_OF_PROXIES: Final = (b"forwarded", b"via", b"x-forwarded-for", b"x-forwarded-host", b"x-real-ip")


def _in_ascii(name: str) -> str:
    return escaped(name).encode("ascii", "backslashreplace").decode("ascii")


@attrs.frozen(kw_only=True)
class Operator:
    """Who asks.

    Attributes:
        name: for the log, in visible ASCII; where nobody is authenticated, what they call themselves.
        action: the most that they may do, `Action.ADMIN_READ` or `Action.ADMIN_OPERATE`; None where nobody knows.
        address: where they connect from; empty at a Unix socket.
        logged_in: whether the cookie of a login says who they are.
    """

    name: str = attrs.field(default="", converter=_in_ascii)
    action: Action | None = None
    address: str = ""
    logged_in: bool = False


def address_of(request: Request) -> str:
    """The IP address that a request came from; `UNIX` when the port is a Unix socket; empty at the socket of this
    machine's operators, whose file says who may use it."""
    return _ip(request.getClientAddress())


def refusal(request: Request) -> str:
    """Why a request may change nothing where nobody is authenticated, in words; empty when it may."""
    if any(request.getHeader(name) is not None for name in _OF_BROWSERS):
        return "pages of a browser may change nothing here"
    if any(request.getHeader(name) is not None for name in _OF_PROXIES):
        return "what comes through a proxy may change nothing here"
    if not request.getHeader(OPERATOR):
        return f"a field {OPERATOR} is needed that says who asks; picoctl sends it"
    peer = address_of(request)
    if peer and peer != UNIX and not in_networks(LOOPBACK, peer) and peer != _ip(request.getHost()):
        return "only this machine may change something here, unless admin.auth says who else"
    return ""


def _ip(address: object) -> str:
    """An IP as people write it, without what marks an IPv4 client of a port on all interfaces; empty of a socket."""
    return plain_ip(address.host) if isinstance(address, IPv4Address | IPv6Address | UnixPeer) else ""
