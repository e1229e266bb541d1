"""What a connection that calls share asks of those who have a stream, and of the service that keeps it."""

from __future__ import annotations

from typing import Protocol

from pico_twisted.core.http2.events import WireFields


class NotHttp2(Exception):
    """The service does not speak HTTP/2."""


class TurnedAway(Exception):
    """The service speaks HTTP/2, and took no streams on a fresh connection."""


class StreamUser(Protocol):
    """A call that has a stream; see `call.Http2Call`."""

    stream: int

    def head_came(self, fields: WireFields, ended: bool) -> None:
        """The final head; with `ended` it is all of the response."""

    def interim_came(self, fields: WireFields) -> None:
        """An interim head."""

    def data_came(self, data: bytes, ended: bool) -> None:
        """A piece of the body."""

    def trailers_came(self, fields: WireFields) -> None:
        """Trailers, which end the response."""

    def read_is_over(self) -> None:
        """All that came in one read was told."""

    def stream_closed(self, code: int, broken: bool) -> None:
        """The stream is over; if the response had not ended it is cut short.

        Args:
            code: why (RFC 9113 7).
            broken: the service broke a rule of HTTP/2.
        """

    def connection_lost(self, why: str) -> None:
        """The connection is gone, and its streams with it."""

    def queue_is(self, waiting: int) -> None:
        """So many bytes of the request wait for the service, and all before them have left."""


class ConnectionOwner(Protocol):
    """Who keeps connections; see `service.Http2Service`."""

    @property
    def idle_s(self) -> float:
        """How long a connection is kept without streams."""

    def room(self) -> None:
        """A stream may be free, or a connection takes none any more."""

    def gone(self, connection: object) -> None:
        """The connection is closed."""
