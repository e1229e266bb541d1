"""An http call between a node link and an agent: the node in the middle reads only what it has to know.

What is needed. A request that crosses a link is read in full by the node that took it from its client, and by the
agent; its response by the agent, and by the node that the client waits at. The node between them has to find a
registration, to know whether it may try another one, and to see what else than an ordinary response comes. Reading both
heads in full once more would be a quarter of all that it does.

What was chosen. A head goes on as the bytes that it came as. The caller writes `x-pico-endpoint` as the first field, so
that it can be read and taken out without a look at the others. Of a response the status is enough.

What can go wrong. What is not written as a node or an agent of this kind writes it is read in full, by
`core.rpc.http`: upgrades, interim responses, a 502 that may say that another agent should be tried. What else may be
wrong with a head or a body is found by the reader at the end, as it would be without a node between.
"""

from __future__ import annotations

import re
from typing import Final, final

from pico_twisted.core.http1.affinity import AGENT
from pico_twisted.core.http1.client_connection import CLIENT_CONNECTION, NAME_BYTES, name_of
from pico_twisted.core.http1.head import END, End, HeadLimits, RequestHead, ResponseHead, parse_request_head
from pico_twisted.core.rpc.http import CallProtocolError, ResponseStream

_ENDPOINT_LINE: Final = b"x-pico-endpoint: "
_ENDPOINT_LINE_BYTES: Final = len(_ENDPOINT_LINE)
_CLIENT_LINE: Final = CLIENT_CONNECTION + b": "
_CLIENT_LINE_BYTES: Final = len(_CLIENT_LINE)
_AGENT_LINE: Final = AGENT + b": "
_AGENT_LINE_BYTES: Final = len(_AGENT_LINE)
_CONNECTION_LINE: Final = b"\r\nConnection:"
_VERSION: Final = b"HTTP/1.1 "
_REQUEST_ID_LINE: Final = re.compile(rb"^x-request-id: ([!-~]{1,128})\r$", re.IGNORECASE | re.MULTILINE)
_ORDINARY: Final = {b"%d " % status: status for status in range(200, 600) if status != 502}


@final
class RelayedRequest:
    """The head of a request without an upgrade, as far as it was read. Looks like a `RequestHead` to a route.

    Attributes:
        raw: the head as it goes on to an agent.
        method: of the request.
        endpoint: the value of the `x-pico-endpoint` that was taken out.
        client_connection: the name of the client's connection; empty when it has none.
        agent: the short ID of the agent that is meant, which was taken out, too; empty when any is.
    """

    __slots__ = ("_limits", "_whole", "agent", "client_connection", "endpoint", "method", "raw")

    upgrade: Final = None

    def __init__(self, raw: bytes, endpoint: bytes, limits: HeadLimits) -> None:
        self.raw = raw
        self.method = raw[: raw.find(b" ")]
        self.endpoint = endpoint
        self.client_connection = self.agent = b""
        self._limits = limits
        self._whole: RequestHead | None = None

    @property
    def whole(self) -> RequestHead:
        """The head, read in full, for an agent of version 1.

        Raises:
            Http1Error: it is not valid HTTP. So do the properties below.
        """
        if self._whole is None:
            self._whole = parse_request_head(self.raw, self._limits)
        return self._whole

    @property
    def length(self) -> int | None:
        """Content-Length."""
        return self.whole.length

    @property
    def has_body(self) -> bool:
        """Whether bytes of a body follow the head."""
        return self.whole.has_body

    @property
    def expect_continue(self) -> bool:
        """The client waits for a 100."""
        return self.whole.expect_continue


def relayed_request(payload: bytes, limits: HeadLimits) -> tuple[RelayedRequest, bytes] | None:
    """Take a request out of the first frame of its call.

    Args:
        payload: of the frame.
        limits: what its head is held to.

    Returns:
        The head, and the body bytes behind it; None when it has to be read in full.
    """
    line = payload.find(b"\r\n") + 2
    value = line + _ENDPOINT_LINE_BYTES
    if payload[line:value] != _ENDPOINT_LINE:
        return None
    value_end = payload.find(b"\r\n", value)
    end = payload.find(b"\r\n\r\n", value_end, limits.head_bytes) + 4
    raw = payload[:line] + payload[value_end + 2 : end]
    if end < 4 or _CONNECTION_LINE in raw:
        return None
    request = RelayedRequest(raw, payload[value:value_end], limits)
    if raw[line : line + _CLIENT_LINE_BYTES] == _CLIENT_LINE:
        name = line + _CLIENT_LINE_BYTES
        request.client_connection = name_of(raw[name : name + NAME_BYTES])
        line = name + NAME_BYTES + 2
    if raw[line : line + _AGENT_LINE_BYTES] == _AGENT_LINE:
        value_end = raw.find(b"\r\n", line)
        request.agent = raw[line + _AGENT_LINE_BYTES : value_end]
        request.raw = raw[:line] + raw[value_end + 2 :]
    return request, payload[end:]


def meant_for(head: bytes, agent: str) -> bytes:
    """A request's head that says which agent of the other node is meant.

    Args:
        head: as it goes over a link, without that.
        agent: its short ID.
    """
    at = head.find(b"\r\n", head.find(b"\r\n") + 2) + 2
    if head.startswith(_CLIENT_LINE, at):
        at = head.find(b"\r\n", at) + 2
    return head[:at] + _AGENT_LINE + agent.encode("ascii") + b"\r\n" + head[at:]


def told_of(head: RequestHead | RelayedRequest) -> tuple[bytes, str]:
    """Find what is told of a request that is over, and was not read before.

    Returns:
        The target, and the `x-request-id`; either is empty when there is none.
    """
    if isinstance(head, RequestHead):
        return head.target, head.by_name.get(b"x-request-id", b"").decode("ascii", "replace")
    line, _, fields = head.raw.partition(b"\r\n")
    found = _REQUEST_ID_LINE.search(fields)
    return line.split(b" ")[1], "" if found is None else found[1].decode("ascii")


class RelayedResponse:
    """The response of one http call to an agent of version 2, for a link. Used like a `ResponseStream`.

    The `raw` of a head that it gives may have body bytes behind it.

    Args:
        limits, method, upgrade_asked: as of `ResponseStream`, which reads what is not ordinary.
    """

    __slots__ = ("_begun", "_limits", "_method", "_upgrade_asked", "_whole")

    def __init__(self, limits: HeadLimits, method: bytes, upgrade_asked: bool) -> None:
        self._limits = limits
        self._method = method
        self._upgrade_asked = upgrade_asked
        self._begun = False
        self._whole: ResponseStream | None = None

    def feed(self, payload: bytes, more: bool) -> list[ResponseHead | bytes | End]:
        """Take the payload of one frame. What it returns ends with `END` when the response is complete.

        Raises:
            Http1Error, CallProtocolError: as `ResponseStream.feed`.
        """
        if self._whole is not None:
            return self._whole.feed(payload, more)
        events: list[ResponseHead | bytes | End] = []
        if not self._begun:
            status = _ORDINARY.get(payload[9:13]) if payload[:9] == _VERSION else None
            if status is None:
                self._whole = ResponseStream(self._limits, self._method, self._upgrade_asked)
                return self._whole.feed(payload, more)
            self._begun = True
            events = [ResponseHead(status, raw=payload)]
        elif payload:
            events.append(payload)
        if not more:
            events.append(END)
        return events

    def trailers(self) -> None:
        """The stream has ended with trailers.

        Raises:
            CallProtocolError: as `ResponseStream.trailers`.
        """
        if self._whole is not None:
            self._whole.trailers()
        elif not self._begun:
            raise CallProtocolError("trailers where there are none")
