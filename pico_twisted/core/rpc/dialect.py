"""What differs between the versions of the protocol for those who make calls and serve them.

The tunnel knows which one its peer speaks. Everybody else takes what is needed from the tunnel's `dialect` and does not
ask for a number.
"""

from __future__ import annotations

from collections.abc import Callable

import attrs

from pico_twisted.core.http1.head import HeadLimits
from pico_twisted.core.rpc.frames import MAX_MESSAGE_V2
from pico_twisted.core.rpc.http import RequestReader, RequestStream, ResponseReader, ResponseStream
from pico_twisted.core.rpc.session import SessionV2
from pico_twisted.core.rpc.session_base import SessionBase


@attrs.frozen(kw_only=True)
class Dialect:
    """One version of the protocol.

    Attributes:
        version: its number, for people.
        session: makes a session.
        max_message_bytes: the largest WebSocket message, header included.
        whole_body_bytes: None when bodies are streams. Else each request and each response is one whole message with
            its Content-Length, has no interim heads and no upgrade, and its body may have so many bytes.
        read_request: makes what reads the request of a call, as its callee: given the limits of heads.
        read_response: makes what reads the response of a call, as its caller: given the limits of heads, the method,
            and whether the request offered an upgrade.
    """

    version: int
    session: type[SessionBase]
    max_message_bytes: int
    whole_body_bytes: int | None = None
    read_request: Callable[[HeadLimits], RequestReader]
    read_response: Callable[[HeadLimits, bytes, bool], ResponseReader]


V2 = Dialect(
    version=2,
    session=SessionV2,
    max_message_bytes=MAX_MESSAGE_V2,
    read_request=RequestStream,
    read_response=ResponseStream,
)
