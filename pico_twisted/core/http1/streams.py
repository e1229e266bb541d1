"""Responses that no service ends by itself: whoever waits for their end waits for ever."""

from __future__ import annotations

import re
from typing import Final

from pico_twisted.core.http1.head import ResponseHead

_ENDLESS: Final = re.compile(rb"(?:text/event-stream|multipart/x-mixed-replace)(?![^ \t;\r])", re.IGNORECASE)
_ENDLESS_FIELD: Final = re.compile(rb"\r\ncontent-type:[ \t]*" + _ENDLESS.pattern, re.IGNORECASE)


def never_ends(head: ResponseHead) -> bool:
    """Whether what follows a head goes on until somebody cuts it: an upgraded connection, a stream of events (WHATWG
    HTML 9.2), or the pictures of a camera.

    Args:
        head: final, or a 101; of one that is plain or was only passed on, the bytes in `raw` tell.
    """
    if head.status == 101:
        return True
    if head.plain is None and (head.by_name or not head.raw):
        return _ENDLESS.match(head.by_name.get(b"content-type", b"")) is not None
    end = head.raw.find(b"\r\n\r\n")
    return _ENDLESS_FIELD.search(head.raw, 0, end) is not None
