"""One span for each hop of a request: the node that took it, the node that it went on to, the agent.

What is needed. Whoever looks at a trace sees how long each hop had the request, and which hop failed it. A request that
is not recorded costs a look at one field; without a collector nothing at all.

What was chosen. The node that takes a request from its client decides: by the flag of the client's `traceparent`, or
when there is none by chance (`tracing.ratio`). The hops behind it follow its flag. Each puts its own span in the place
of its parent in `traceparent`. In a head that goes on as the bytes that it came as the ID is replaced, which has the
same length. A span is finished when the request is over, and given to `SpanExport`, which has a thread of its own.

What is told of a request: method, path without its query, host, endpoint, ID, status, error code. Nothing else of its
fields, and no byte of its body. Names are those of OpenTelemetry's conventions for HTTP.
"""

from __future__ import annotations

import re
import time
from collections.abc import Callable
from random import getrandbits, random
from typing import Final, NamedTuple

from pico_twisted.core.http1.fields import all_values
from pico_twisted.core.http1.head import RequestHead
from pico_twisted.core.trace_context import (
    TRACEPARENT,
    TRACESTATE,
    TraceParent,
    find_traceparent,
    read_traceparent,
    write_traceparent,
)

MOST_PATH_BYTES: Final = 1024
"""Most bytes of a path that are told."""
MOST_HOST_BYTES: Final = 256
"""Most bytes of a Host that are told."""

_HOST: Final = re.compile(rb"\r\n(?i:host):[ \t]*([^\r\n]*)")
_REQUEST_ID: Final = re.compile(rb"\r\n(?i:x-request-id):[ \t]*([0-9A-Za-z._-]{1,128})(?=\r\n)")

PROXY: Final = "proxy"
"""The hop at the node that took the request from its client."""
LINK: Final = "link"
"""The hop at the node that it went on to."""
AGENT: Final = "agent"
"""The hop at the agent, until the service has answered."""


class FinishedSpan(NamedTuple):
    """A span that is over.

    Attributes:
        hop: `PROXY`, `LINK` or `AGENT`.
        method: of the request.
        trace_id, span_id: of it, hexadecimal.
        parent: the caller's span; None for the first of a trace.
        started_ns: nanoseconds since 1970.
        ended_ns: likewise.
        failed: there was no answer, or one that says that a server failed.
        attributes: by their names.
    """

    hop: str
    method: str
    trace_id: bytes
    span_id: bytes
    parent: TraceParent | None
    started_ns: int
    ended_ns: int
    failed: bool
    attributes: dict[str, str | int]


class HopSpan:
    """A request that is recorded, while this hop has it.

    Args:
        finished: called at its end.
        hop: which.
        parent: the caller's span; None when the trace begins here.
        method, target, host: of the request.
        request_id: that it has.

    Attributes:
        trace_id, span_id: hexadecimal.
        status: of the answer, as far as there is one.
    """

    __slots__ = ("_finished", "_hop", "_parent", "_request", "_since", "_started_ns", "span_id", "status", "trace_id")

    def __init__(
        self,
        finished: Callable[[FinishedSpan], object],
        hop: str,
        parent: TraceParent | None,
        method: bytes,
        target: bytes,
        host: bytes,
        request_id: bytes,
    ) -> None:
        self._finished: Callable[[FinishedSpan], object] | None = finished
        self._hop = hop
        self._parent = parent
        self._request = (method, target, host, request_id)
        self._started_ns = time.time_ns()
        self._since = time.perf_counter_ns()
        self.status = 0
        self.trace_id = b"%032x" % (getrandbits(128) or 1) if parent is None else parent.trace_id
        self.span_id = b"%016x" % (getrandbits(64) or 1)

    def end(self, endpoint: str, status: int = 0, error: str = "") -> None:
        """The request is over. Idempotent.

        Args:
            endpoint: its ID; empty when it names none.
            status: of the answer; 0 for that which `status` has.
            error: the code of what went wrong.
        """
        finished, self._finished = self._finished, None
        if finished is None:
            return
        status = status or self.status
        method, target, host, request_id = (_text(part) for part in self._request)
        attributes: dict[str, str | int] = {
            "http.request.method": method,
            "url.path": target.partition("?")[0][:MOST_PATH_BYTES],
            "server.address": host[:MOST_HOST_BYTES],
            "pico.hop": self._hop,
            "pico.endpoint": endpoint,
            "pico.request_id": request_id,
        }
        if status:
            attributes["http.response.status_code"] = status
        if error or status >= 500:
            attributes["error.type"] = error or str(status)
        finished(
            FinishedSpan(
                hop=self._hop,
                method=method,
                trace_id=self.trace_id,
                span_id=self.span_id,
                parent=self._parent,
                started_ns=self._started_ns,
                ended_ns=self._started_ns + time.perf_counter_ns() - self._since,
                failed=bool(error) or status >= 500 or not status,
                attributes={name: value for name, value in attributes.items() if value != ""},
            )
        )


class Tracer:
    """Decides which requests are recorded.

    Args:
        ratio: the share of those that no caller has decided about.
        finished: gets each span that is over.
        chance: gives numbers from 0 up to 1.
    """

    def __init__(
        self, ratio: float, finished: Callable[[FinishedSpan], object], chance: Callable[[], float] = random
    ) -> None:
        self._ratio = ratio
        self._finished = finished
        self._chance = chance

    def begin(self, head: RequestHead, request_id: bytes) -> tuple[HopSpan, RequestHead] | None:
        """A client sends a request.

        Args:
            head: of it.
            request_id: that it has.

        Returns:
            The span and the head as it goes on; None when the request is not recorded, and goes on as it is.
        """
        parent = None
        if TRACEPARENT in head.by_name:
            parent = read_traceparent(all_values(head.fields, TRACEPARENT))
            if parent is not None and not parent.sampled:
                return None
        if parent is None and self._chance() >= self._ratio:
            return None
        span = HopSpan(self._finished, PROXY, parent, head.method, head.target, head.host or b"", request_id)
        dropped = (TRACEPARENT,) if parent is not None else (TRACEPARENT, TRACESTATE)
        value = write_traceparent(span.trace_id, span.span_id)
        fields = (*(one for one in head.fields if one[0] not in dropped), (TRACEPARENT, TRACEPARENT, value))
        by_name = {name: first for name, first in head.by_name.items() if name not in dropped}
        return span, head.replace(fields=fields, by_name={**by_name, TRACEPARENT: value})

    def joined(self, hop: str, payload: bytes) -> tuple[HopSpan, bytes] | None:
        """A request comes from another hop of ours, or from a node that traces nothing itself.

        Args:
            hop: that this is, `LINK` or `AGENT`.
            payload: its head, and perhaps some of the body.

        Returns:
            The span, and the payload as it goes on, of the same length; None when the request is not recorded.
        """
        found = find_traceparent(payload)
        if found is None or not found[0].sampled:
            return None
        parent, at = found
        line_end = payload.find(b"\r\n")
        method, _, rest = payload[:line_end].partition(b" ")
        end = payload.find(b"\r\n\r\n") + 2
        host, request_id = (
            match.group(1) if (match := pattern.search(payload, 0, end)) else b"" for pattern in (_HOST, _REQUEST_ID)
        )
        span = HopSpan(self._finished, hop, parent, method, rest.partition(b" ")[0], host, request_id)
        return span, payload[:at] + span.span_id + payload[at + len(span.span_id) :]


def _text(data: bytes) -> str:
    return data.decode("utf-8", "replace")
