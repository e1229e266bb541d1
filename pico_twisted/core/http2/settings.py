"""What we tell the peer of a connection of HTTP/2, and what the engine holds it to."""

from __future__ import annotations

import attrs


@attrs.frozen(kw_only=True)
class Http2Settings:
    """What we tell the peer, and hold it to.

    Attributes:
        streams: that the peer may have open at once.
        window_bytes: that a stream may bring before its consumer took some.
        spare_bytes: that all streams together may bring besides, once some of them were widened.
        header_bytes: what the peer is told of a field section, each field 32 bytes longer than it is (RFC 9113 6.5.2).
            A larger one is read up to four times as much, to be answered; one beyond that ends the connection.
        header_fields: of a field section; more end the connection. What is to be answered instead has to stay below.
        unread_answers: answers to PING and SETTINGS that wait for a peer that does not read.
        continuations: CONTINUATION frames of a field section.
        resets: of streams by the peer: so many at once, and so many a second. The last resort behind `flood`.
        oddities: what a peer may do that makes no sense, such as empty frames: so many at once, and so many a second.
    """

    streams: int = 128
    window_bytes: int = 64 * 1024
    spare_bytes: int = 0
    header_bytes: int = 64 * 1024
    header_fields: int = 1024
    unread_answers: int = 256
    continuations: int = 8
    resets: tuple[int, int] = (10_000, 1000)
    oddities: tuple[int, int] = (1000, 100)
