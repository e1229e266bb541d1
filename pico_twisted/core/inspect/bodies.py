"""Bodies as people read them: text where they are text, without the coding that they travelled in.

Everything in a body is a stranger's. So what a coding unpacks to is bounded, and bytes that are no text stay bytes.
"""

from __future__ import annotations

import base64
import codecs
import re
import zlib
from typing import Final

import attrs

from pico_twisted.core.http1.head import RequestHead, ResponseHead
from pico_twisted.core.inspect.recording import RecordedBody

MOST_UNPACKED_BYTES: Final = 512 * 1024
"""Most bytes that a coded body is unpacked to: a bomb of 64 KiB would be 64 MB."""

_CHARSET: Final = re.compile(r";\s*charset\s*=\s*\"?([A-Za-z0-9._-]{1,40})", re.IGNORECASE)
_CHARSETS: Final = {"iso8859-1": "latin-1", "cp1252": "cp1252", "utf-16": "utf-16"}  # beside UTF-8, by Python's names
_ZLIB: Final = {"gzip": 16 + zlib.MAX_WBITS, "x-gzip": 16 + zlib.MAX_WBITS, "deflate": zlib.MAX_WBITS}
_CONTROL: Final = re.compile(r"[\x00-\x08\x0e-\x1a\x1c-\x1f]")  # what no text has; terminals' escapes are shown


@attrs.frozen(kw_only=True)
class ShownBody:
    """One body.

    Attributes:
        count: how many bytes it has.
        kept: how many of them are kept.
        media_type: as its message says.
        coding: that it was unpacked from; empty for none.
        text: None when it is no text.
        data: unpacked, as far as it is kept.
    """

    count: int
    kept: int
    media_type: str
    coding: str
    text: str | None
    data: bytes

    @property
    def cut(self) -> bool:
        """Whether there is more of it than is kept."""
        return self.count > self.kept

    def to_json(self) -> dict[str, object]:
        """The same as JSON has it: with `text`, or with `base64`."""
        content: dict[str, object] = {"text": self.text}
        if self.text is None:
            content = {"base64": base64.b64encode(self.data).decode("ascii")}
        told = {"bytes": self.count, "kept": self.kept, "cut": self.cut, "type": self.media_type, "coding": self.coding}
        return {**told, **content}


def shown_body(body: RecordedBody, head: RequestHead | ResponseHead | None) -> ShownBody:
    """A body as people read it.

    Args:
        body: as it is kept.
        head: that it came with.
    """
    data = bytes(body.kept)
    by_name = {} if head is None else head.by_name
    media_type = by_name.get(b"content-type", b"").decode("latin-1")
    coding = by_name.get(b"content-encoding", b"").decode("latin-1").strip().lower()
    unpacked = _unpacked(data, coding)
    if unpacked is None:
        coding, unpacked = "", data
    text = _text(unpacked, media_type, body.cut or len(unpacked) >= MOST_UNPACKED_BYTES)
    return ShownBody(count=body.count, kept=len(data), media_type=media_type, coding=coding, text=text, data=unpacked)


def _unpacked(data: bytes, coding: str) -> bytes | None:
    """What a coded body is; None when it is not in a coding that is known here, or is broken."""
    if coding not in _ZLIB or not data:
        return None
    bits = (_ZLIB[coding], -zlib.MAX_WBITS) if coding == "deflate" else (_ZLIB[coding],)  # some send it without a head
    for one in bits:
        try:
            return zlib.decompressobj(one).decompress(data, MOST_UNPACKED_BYTES)
        except zlib.error:
            continue
    return None


def _text(data: bytes, media_type: str, cut: bool) -> str | None:
    """Bytes as text; None when they are none."""
    found = _CHARSET.search(media_type)
    charset = "utf-8"
    if found is not None:
        try:
            charset = _CHARSETS.get(codecs.lookup(found[1]).name, charset)
        except LookupError:
            pass
    try:
        text = codecs.getincrementaldecoder(charset)().decode(data, final=not cut)
    except UnicodeDecodeError:
        return None
    return None if _CONTROL.search(text) else text
