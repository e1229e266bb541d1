"""The grammar of heads (RFC 9110 5.5 and 5.6, RFC 9112 4 and 5), as parts of the expressions that read them.

What has matched is never given back: bytes repeat possessively, and groups within an atomic one. So no input makes an
expression go back, and it costs time in proportion to the bytes that it looks at. Whoever puts parts together keeps to
that: a repetition must not be able to take what has to come behind it. No group repeats possessively: before Python
3.11.5 that goes on behind what its last, failed try has read (cpython 106052), in the middle of a name.
"""

from __future__ import annotations

from typing import Final

TCHAR: Final = rb"[!#$%&'*+\-.^_`|~0-9A-Za-z]"
"""One byte of a token."""

TOKEN: Final = TCHAR + rb"++"

OWS: Final = rb"[\t ]*+"
"""White space that may be there and means nothing."""

FIELD_VALUE: Final = rb"[\t -~\x80-\xff]*+"
"""A value and the white space around it: no line ends, no control bytes, and bytes over 0x7F are opaque."""

COMMON_REQUEST_LINE: Final = rb"([A-Z]++) (/[!-\"$-~]*+) HTTP/1\.1\r"
"""Nearly every request line, without its LF; its groups are the method and the target."""

LINE_BYTES: Final = b"\t" + bytes(range(0x20, 0x7F)) + bytes(range(0x80, 0x100))
"""Bytes that the lines of a head may hold, those over 0x7F in values alone. Without these a head is nothing but its
line ends."""
