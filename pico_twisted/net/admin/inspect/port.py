"""Opens the inspector's port: on loopback alone, at the next free number when the wanted one is taken."""

from __future__ import annotations

import errno
import secrets
from typing import Any, Final
from urllib.parse import quote

import attrs
from twisted.internet.defer import Deferred, maybeDeferred
from twisted.internet.error import CannotListenError
from twisted.internet.interfaces import IListeningPort

from pico_twisted.config.values import Address
from pico_twisted.core.inspect.recording import Recordings
from pico_twisted.core.text import host_port, is_loopback
from pico_twisted.net.admin.inspect.app import InspectorApp, InspectorRequest, Replay
from pico_twisted.net.admin.site import AdminSite

DEFAULT: Final = Address("127.0.0.1", 4040)
"""Where the inspector listens of which nothing was said: where people look for one."""
MOST_TRIED: Final = 20
"""Most numbers that are tried, one after the other, when ports are taken: as many agents run on a desk."""

_KEY_BYTES: Final = 32


@attrs.frozen(kw_only=True, eq=False)
class InspectorPort:
    """An open inspector.

    Attributes:
        address: where it listens.
        key: opens it.
    """

    address: Address
    key: str
    _port: IListeningPort
    _app: InspectorApp

    @property
    def url(self) -> str:
        """The link for a developer to open, and for nobody else: the key is part of it."""
        return f"{self.plain_url}/#key={quote(self.key, safe='')}"

    @property
    def plain_url(self) -> str:
        """The same without the key, for logs."""
        return f"http://{host_port(self.address.host, self.address.port)}"

    async def close(self) -> None:
        """End the answers that go on, and listen no more."""
        self._app.close()
        closing: Deferred[object] = maybeDeferred(self._port.stopListening)
        await closing


def new_key() -> str:
    """A key for an inspector."""
    return secrets.token_urlsafe(_KEY_BYTES)


# `reactor`: of the process, whole
def open_inspector(
    reactor: Any,
    recordings: Recordings,
    replay: Replay,
    *,
    version: str,
    address: Address = DEFAULT,
    key: str = "",
) -> InspectorPort:
    """Open the port.

    Args:
        reactor: of the process.
        recordings: what it shows.
        replay: sends one of them again.
        version: of the program.
        address: where it listens: on loopback; the number may be another one, if that is taken.
        key: opens it; empty for a new one.

    Raises:
        ValueError: the address is not on loopback.
        CannotListenError: no number is free, or there is no such address.
    """
    host = "127.0.0.1" if address.host.lower() == "localhost" else address.host
    if not is_loopback(host):
        raise ValueError(f"the inspector shows what passes: it listens on loopback alone, not on {address}")
    app = InspectorApp(recordings, replay, key or new_key(), version, reactor)
    site = AdminSite(app, reactor, InspectorRequest)
    for number in range(address.port, address.port + MOST_TRIED):
        try:
            port = reactor.listenTCP(number, site, interface=host)
        except CannotListenError as error:
            taken = getattr(error.socketError, "errno", None) == errno.EADDRINUSE
            if not taken or number == address.port + MOST_TRIED - 1 or number >= 0xFFFF:
                raise
            continue
        return InspectorPort(address=Address(host, port.getHost().port), key=app.key, port=port, app=app)
    raise AssertionError("the last attempt returns or raises")
