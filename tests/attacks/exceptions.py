"""What a node takes though nginx or HAProxy refuse it, each with the reason why that is no danger.

In all of them the end of the request is the same for everybody, and the service gets it in one form alone.
"""

from __future__ import annotations

from typing import Final

_BLANK: Final = "a tab around a value is a blank (RFC 9110 5.6.3); the service gets the value without it"
_TRACE: Final = "nginx does not serve TRACE at all"
_DOTS: Final = "a name with an empty label is one name (RFC 3986 3.2.2), and leads to no endpoint by itself"
_AUTHORITY: Final = "the target's authority counts (RFC 9112 3.2.2), and the service gets it as its only Host"
_ENCODED: Final = (
    "a percent sign and two digits may stand in a name (RFC 3986 3.2.2); nginx and HAProxy take it in Host"
)
_SOCKET: Final = "HAProxy wants Sec-WebSocket-Key; here the service decides what it answers"
_DROPPED: Final = "what only a head may say is dropped from trailers (RFC 9110 6.5.1); the service sees nothing of it"

_ODD_NAMES: Final = {
    "an encoded NUL and another host": _ENCODED,
    "an encoded slash and another host": _ENCODED,
    "nothing but a dot": _DOTS,
    "an empty label": _DOTS,
}

REQUESTS: Final = {
    ("body with a length", "TRACE"): _TRACE,
    ("no length", "TRACE"): _TRACE,
    ("masked Content-Length", "tab before the value"): _BLANK,
    ("masked Content-Length", "tab behind the value"): _BLANK,
    ("masked Transfer-Encoding", "tab before the value"): _BLANK,
    ("host", "nothing but a dot"): _DOTS,
    ("host", "an empty label"): _DOTS,
    **{("absolute target", name): reason for name, reason in _ODD_NAMES.items()},
    **{("absolute target, another host", name): reason for name, reason in _ODD_NAMES.items()},
    ("absolute target, another host", "a question mark and another host"): _AUTHORITY,
    ("absolute target, another host", "a scheme"): _AUTHORITY,
    ("upgrade and more", "websocket"): _SOCKET,
    ("trailer", "Transfer-Encoding: identity"): _DROPPED,
    ("announced trailer", "Transfer-Encoding: identity"): _DROPPED,
}
"""The reason, by kind and name."""
