"""What a connection to a service of HTTP/2 is held to."""

from __future__ import annotations

from typing import Final

from pico_twisted.core.http2.flood import FloodLimits
from pico_twisted.core.http2.settings import Http2Settings

MOST_STREAMS: Final = 1024
"""Most streams of a connection, however many the service takes. The connection's window has room for all of them."""
WINDOW_BYTES: Final = 256 * 1024
"""What a service may send on a stream before the caller took any. With less than two full reads of a connection, one
whose TCP waits for acknowledgements (Nagle) stands still for 40 ms at the end of each window: measured with nginx."""
HEADER_BYTES: Final = 128 * 1024
"""What the service is told that a field section may have. Four times as much ends the connection, for all its calls:
what is merely too large for a head, and fails its own call, is far less."""
HEADER_FIELDS: Final = 2048
"""Most fields of a field section. More end the connection."""
SEND_BYTES: Final = 64 * 1024
"""Most bytes that are written at once: a full write of a fast socket."""

SETTINGS: Final = Http2Settings(
    streams=MOST_STREAMS, window_bytes=WINDOW_BYTES, header_bytes=HEADER_BYTES, header_fields=HEADER_FIELDS
)
FLOODS: Final = FloodLimits(resets=1 << 30)  # what a service does to streams hurts nobody but their own calls
