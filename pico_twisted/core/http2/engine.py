"""The engine of a connection of HTTP/2: libnghttp2 through ngh2, with what it holds a peer to.

It is optional, as the extra `http2`: `AVAILABLE` says whether it is there.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any, Final

from pico_twisted.core.http2.events import (
    ENHANCE_YOUR_CALM,
    GOAWAY,
    INTERIM,
    INTERNAL_ERROR,
    NO_ERROR,
    PING,
    PONG,
    PROTOCOL_ERROR,
    RESPONSE,
    SETTINGS,
    TRAILERS,
    Event,
)
from pico_twisted.core.http2.settings import Http2Settings

try:
    import ngh2
except ImportError:  # the extra is not installed
    AVAILABLE = False
else:
    AVAILABLE = True

_SENT_HEADER_BYTES: Final = 256 * 1024
"""Most bytes of a head that is sent; heads are bounded where they are read, and this is beyond."""

_BEYOND: Final = 4
"""How many times `header_bytes` a field section may have before it ends the connection: its user can answer 431 to what
is between. A bomb of HPACK has 4,000 bytes for each one on the wire: it is over within 70 of them."""

_MOST_SETTINGS: Final = 32
"""Values in one frame of SETTINGS; nine have a meaning."""


def make_engine(*, client: bool, settings: Http2Settings) -> Any:  # a compiled class that is typed too loosely to help
    """An engine whose preface is written."""
    config = ngh2.Configuration(
        auto_window_update=False,
        max_send_header_block_length=_SENT_HEADER_BYTES,
        max_outbound_ack=settings.unread_answers,
        max_settings=_MOST_SETTINGS,
        stream_reset_rate_limit=settings.resets,
        max_continuations=settings.continuations,
        glitch_rate_limit=settings.oddities,
        max_inbound_header_list_size=settings.header_bytes * _BEYOND,
        max_inbound_header_count=settings.header_fields,
    )
    engine = ngh2.Connection(ngh2.Role.CLIENT if client else ngh2.Role.SERVER, config)
    told: dict[ngh2.Setting, int] = {
        ngh2.Setting.INITIAL_WINDOW_SIZE: settings.window_bytes,
        ngh2.Setting.MAX_HEADER_LIST_SIZE: settings.header_bytes,
    }
    if client:
        told[ngh2.Setting.ENABLE_PUSH] = 0
    else:
        told[ngh2.Setting.MAX_CONCURRENT_STREAMS] = settings.streams
        told[ngh2.Setting.ENABLE_CONNECT_PROTOCOL] = 1
        told[ngh2.Setting.NO_RFC7540_PRIORITIES] = 1
    engine.initiate_connection(told)
    # The library opens the window of the connection again when half of it was taken. So one half has to be enough for
    # all streams together: else one that is read would wait for those that are not.
    engine.set_local_window_size(2 * (settings.window_bytes * (settings.streams + 1) + settings.spare_bytes))
    return engine


def show(engine: Any, data: bytes) -> int:
    """Give an engine bytes of the peer. Returns the code with which the connection ends, if it cannot go on."""
    try:
        engine.receive_data(data)
    except ngh2.DenialOfServiceError:
        return ENHANCE_YOUR_CALM
    except ngh2.ConnectionProtocolError:
        return PROTOCOL_ERROR
    except (ngh2.NGH2Error, ValueError):
        return INTERNAL_ERROR
    return NO_ERROR


def secret(name: bytes, value: bytes) -> tuple[bytes, bytes]:
    """A field that is never put into a table of HPACK: its length could tell what others sent (RFC 7541 7.1)."""
    field: tuple[bytes, bytes] = ngh2.NeverIndexedHeader(name, value)
    return field


def _plain_events() -> Iterator[tuple[Any, Callable[[Any], Event]]]:
    yield ngh2.ResponseReceived, lambda event: (RESPONSE, event.stream_id, event.headers, event.end_stream)
    yield ngh2.InformationalResponseReceived, lambda event: (INTERIM, event.stream_id, event.headers, False)
    yield ngh2.TrailersReceived, lambda event: (TRAILERS, event.stream_id, event.headers, True)
    yield ngh2.SettingsReceived, lambda event: (SETTINGS, 0, 0, False)
    yield ngh2.PingReceived, lambda event: (PING, 0, 0, False)
    yield ngh2.PingAcknowledged, lambda event: (PONG, 0, 0, False)
    yield ngh2.GoAwayReceived, lambda event: (GOAWAY, event.last_stream_id, event.error_code, False)


PLAIN_EVENTS: Final[dict[Any, Callable[[Any], Event]]] = dict(_plain_events()) if AVAILABLE else {}
"""What becomes of events of the engine that change nothing in what is known of the connection, by their classes."""
