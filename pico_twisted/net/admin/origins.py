"""Which pages of a browser may ask the admin port: its own, and no other.

What can go wrong. A browser of an operator reaches the port, and every page that it shows may send requests there. A
page of a stranger's host whose name suddenly has the address of this machine (DNS rebinding) is of one origin with the
port, and may read answers as well. A page of another port of this machine is of one *site* with it, so that even
cookies for the same site alone come along.

What was chosen. Host has to be an address, which no name can become, or a name that an operator gave; TLS checks that
by itself, with the name in the certificate. Origin has to be that of the port, or nothing. Where browsers say how a
request came about (Fetch Metadata), another page may do nothing but lead its reader here. No answer lets a page of
another origin read it (CORS). The routes for load balancers take any Host: they tell no more than a connection does.
"""

from __future__ import annotations

import socket
from collections.abc import Iterable
from typing import Final

from twisted.web.server import Request

from pico_twisted.core.http1.target import HOSTS
from pico_twisted.core.text import is_ip, printable

MISDIRECTED: Final = 421
"""The status for a Host that is none of ours (RFC 9110 15.5.20)."""

MAX_HOST_SHOWN: Final = 100
"""Most characters of a stranger's Host in the answer about it."""


class OwnHosts:
    """The names by which the port may be asked, beside addresses and `localhost`.

    Args:
        names: as configured.
    """

    def __init__(self, names: Iterable[str]) -> None:
        self.set_names(names)

    def set_names(self, names: Iterable[str]) -> None:
        """Use other names from now on. The machine's own name is always one of them: no stranger can give it away."""
        self._names = {"localhost", *(name.lower().rstrip(".") for name in (*names, socket.gethostname()) if name)}

    def has(self, field: str) -> bool:
        """Whether a Host names this port."""
        if not HOSTS[field.encode("latin-1")]:
            return False
        host = field[1:].partition("]")[0] if field.startswith("[") else field.partition(":")[0].rstrip(".").lower()
        return is_ip(host) or host in self._names


def misdirected(request: Request, hosts: OwnHosts) -> str:
    """Why a request came to the wrong host, in words for its sender; empty when it did not.

    A client that sends no Host (HTTP/1.0) is no browser.
    """
    if request.isSecure():
        return ""
    for field in request.requestHeaders.getRawHeaders(b"host", ()):
        host = field.decode("latin-1")
        if not hosts.has(host):
            shown = printable(host[:MAX_HOST_SHOWN])
            return f"this admin port is not known as {shown}: ask by an IP address, or list the name in admin.hosts"
    return ""


def is_own_page(request: Request) -> bool:
    """Whether a page of this port sends a request, as browsers say it; False when nothing says so.

    A proxy in front may speak TLS for a port without.
    """
    host = (request.getHeader("host") or "").lower()
    schemes = ("https",) if request.isSecure() else ("https", "http")
    return request.getHeader("origin") in [f"{scheme}://{host}" for scheme in schemes]


def is_foreign_page(request: Request) -> bool:
    """Whether a page of another origin sends a request, as browsers say it."""
    if request.getHeader("origin") is not None and not is_own_page(request):
        return True
    if request.getHeader("sec-fetch-site") in (None, "same-origin", "none"):
        return False
    follows_link = (
        request.getHeader("sec-fetch-mode") == "navigate" and request.getHeader("sec-fetch-dest") == "document"
    )
    return not (follows_link and request.method == b"GET")
