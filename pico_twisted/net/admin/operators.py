"""Who may change something at the admin port: an operator of this machine, and no page of a browser.

What is needed. The port authenticates nobody yet, and a POST changes something. Operators of the machine may do that:
they could send the process a signal as well.

What can go wrong. The port may be bound to every interface. A page that an operator looks at may post to
`http://localhost:8001` from their browser, or be of a host whose name suddenly has the address 127.0.0.1 (DNS
rebinding). A proxy on this machine may pass strangers on.

What was chosen. The connection comes from this machine; a field of our own stands in the request, which no form sends
and no script without asking first, and we answer no such question; nothing says that a browser or a proxy is involved;
and the host that is asked for is a name or an address of this machine, unless TLS has checked it.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Callable
from typing import Final
from urllib.parse import urlsplit

from twisted.internet.address import IPv4Address, IPv6Address
from twisted.web.server import Request

from pico_twisted.config import in_networks
from pico_twisted.net.admin.shapes import OPERATOR, Reloaded

Reload = Callable[[str], Reloaded]
"""Has the process read its configuration again. Is given who asks, for the log."""

LOOPBACK: Final = (ipaddress.ip_network("127.0.0.0/8"), ipaddress.ip_network("::1"))
"""Addresses at which a machine reaches only itself."""

_OF_BROWSERS: Final = (b"origin", b"referer", b"sec-fetch-site", b"sec-fetch-mode")
_OF_PROXIES: Final = (b"forwarded", b"via", b"x-forwarded-for", b"x-forwarded-host", b"x-real-ip")


def refusal(request: Request) -> str:
    """Why a request may change nothing, in words for its sender; empty when it may."""
    if any(request.getHeader(name) is not None for name in _OF_BROWSERS):
        return "pages of a browser may change nothing here"
    if any(request.getHeader(name) is not None for name in _OF_PROXIES):
        return "what comes through a proxy may change nothing here"
    if not request.getHeader(OPERATOR):
        return f"a field {OPERATOR} is needed that says who asks; picoctl sends it"
    peer, own = request.getClientAddress(), request.getHost()
    if not isinstance(peer, IPv4Address | IPv6Address):
        return ""  # a Unix socket, whose file says who may use it
    if not in_networks(LOOPBACK, peer.host) and peer.host != own.host:
        return "only this machine may change something here"
    if not request.isSecure() and not _names_this_machine(request.getHeader("host") or "", own.host):
        return "only localhost, or an address of this machine, may be asked to change something"
    return ""


def _names_this_machine(field: str, own: str) -> bool:
    try:
        host = urlsplit(f"//{field}").hostname or ""
    except ValueError:
        return False
    return host in ("localhost", own, own.removeprefix("::ffff:")) or in_networks(LOOPBACK, host)
