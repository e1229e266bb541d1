"""What Autobahn keeps for each connection, and what of that an idle tunnel needs.

A node holds tens of thousands of tunnels that do nothing. Autobahn gives each connection a copy of all options, the
heads of its handshake in several forms, counters, a queue and a validator, none of them needed again: over a hundred
attributes, in a dictionary of 3 KiB. Here the options become attributes of a class, and so do the values that most
attributes have for as long as nothing happens. What is left fits a small dictionary. A value that differs later is set
on the tunnel, as ever, and hides the one of the class.
"""

from __future__ import annotations

from typing import Final, TypeVar, cast

from autobahn.websocket.protocol import TrafficStats, WebSocketFactory
from autobahn.websocket.utf8validator import Utf8Validator

from pico_twisted.net.tunnel.websocket_pipe import WebSocketPipe

_IDLE_VALUES: Final[dict[str, object]] = {
    "_perMessageCompress": None,
    "trackedTimings": None,
    "data": b"",
    "triggered": False,
    "wasMaxFramePayloadSizeExceeded": False,
    "wasMaxMessagePayloadSizeExceeded": False,
    "closedByMe": False,
    "failedByMe": False,
    "droppedByMe": False,
    "wasClean": False,
    "wasNotCleanReason": None,
    "wasServerConnectionDropTimeout": False,
    "wasOpenHandshakeTimeout": False,
    "wasCloseHandshakeTimeout": False,
    "wasServingFlashSocketPolicyFile": False,
    "localCloseCode": None,
    "localCloseReason": None,
    "remoteCloseCode": None,
    "remoteCloseReason": None,
    "serverConnectionDropTimeoutCall": None,
    "openHandshakeTimeoutCall": None,
    "closeHandshakeTimeoutCall": None,
    "autoPingTimeoutCall": None,
    "autoPingPending": None,
    "autoPingPendingCall": None,
    "autoPingPendingSeq": 0,
    "autoPingPendingSent": None,
    "inside_message": False,
    "current_frame": None,
}
"""What an open tunnel's attributes are while nothing happens."""

_DONE_WITH: Final[dict[str, object]] = {
    "is_open": None,
    "_valid_events": None,
    "_results": None,
    "_transport_details": None,
    "_head": b"",
    "_awaited": None,
    "_wskey": "",
    "websocket_key": b"",
    "http_request_data": b"",
    "http_response_data": b"",
    "http_status_line": "",
    "http_headers": None,
    "http_request_uri": "",
    "http_request_path": "",
    "http_request_params": None,
    "http_request_host": "",
    "websocket_version": 13,
    "websocket_protocols": None,
    "websocket_protocol_in_use": None,
    "websocket_origin": "",
    "websocket_extensions": None,
    "websocket_extensions_in_use": None,
    # counts what is not read, looks at text messages, which we refuse, and holds chopped output, which we have none of
    "trafficStats": TrafficStats(),
    "utf8validator": Utf8Validator(),
    "send_queue": (),
}
"""What is needed for a handshake, or never; and what is there for the rest of a tunnel's life."""


_P = TypeVar("_P", bound=WebSocketPipe)


def slim_class(protocol: type[_P], factory: WebSocketFactory) -> type[_P]:
    """Make the class of all protocols of a factory.

    Args:
        protocol: a subclass of Autobahn's protocol.
        factory: whose options will not change any more.

    Returns:
        A subclass that has the options, and knows what its protocols need not keep; see `shrink`.
    """
    options = {name: getattr(factory, name) for name in protocol.CONFIG_ATTRS}
    options = {name: staticmethod(value) if callable(value) else value for name, value in options.items()}
    attributes = {"__doc__": protocol.__doc__, "CONFIG_ATTRS": [], **options, **_IDLE_VALUES, **_DONE_WITH}
    return cast("type[_P]", type(protocol.__name__, (protocol,), attributes))


def shrink(tunnel: WebSocketPipe) -> None:
    """Let a tunnel that has just opened drop what it needs no more. Its class is one of `slim_class`."""
    tunnel.__dict__ = {
        name: value
        for name, value in tunnel.__dict__.items()
        if name not in _DONE_WITH and (name not in _IDLE_VALUES or value is not _IDLE_VALUES[name])
    }
