"""Who may ask the inspector.

What passes through a tunnel is as private as the service. What can go wrong: the port is on loopback alone, but each
user of the machine can connect to it, and each page in a browser of the developer can send requests there, some under
a name that suddenly has the address of this machine.

What was chosen. A key of 256 random bits, made anew for each start, is part of the link that the developer opens. It
stands behind `#`, which browsers send nowhere; the page keeps it for its own origin, and shows it in the field
Authorization, which no page of another origin can send. Rejected: a cookie, which browsers would show to every server
on 127.0.0.1, whatever its port and whoever runs it. Besides, Host has to be of this machine, and requests of other
pages are refused, as at the admin port.
"""

from __future__ import annotations

import hmac
from typing import Final

from twisted.web.server import Request

from pico_twisted.core.http1.target import HOSTS
from pico_twisted.core.text import is_loopback
from pico_twisted.net.admin.origins import MISDIRECTED, is_foreign_page

_NO_KEY: Final = "the key is missing or wrong: it is part of the link that was printed when the inspector began"


def refusal(request: Request) -> tuple[int, str] | None:
    """Why a request gets nothing, not even the page, as status and words; None when it may go on."""
    hosts = request.requestHeaders.getRawHeaders(b"host", ())
    host = HOSTS[hosts[0]] if len(hosts) == 1 else None
    text = "" if not host else host.decode("latin-1")
    name = text[1:].partition("]")[0] if text.startswith("[") else text.partition(":")[0]
    if not is_loopback(name):
        return MISDIRECTED, "the inspector is asked as localhost or 127.0.0.1"
    if is_foreign_page(request):
        return 403, "pages of other origins may ask for nothing here"
    return None


def lacks_key(request: Request, key: str) -> str:
    """Why a request may not see what passed, in words; empty when it shows the key."""
    scheme, _, shown = (request.getHeader("authorization") or "").partition(" ")
    right = hmac.compare_digest(shown.strip().encode("latin-1"), key.encode("ascii"))
    return "" if right and scheme.lower() == "bearer" else _NO_KEY
