"""Recordings as an agent makes them, without an agent."""

from __future__ import annotations

from pico_twisted.core.http1.head import parse_request_head, parse_response_head
from pico_twisted.core.inspect.recording import Recording, Recordings
from pico_twisted.core.protocol_limits import REQUEST_LIMITS, RESPONSE_LIMITS

AT_S = 1_700_000_000.25
HOST = b"Host: shop.example.com\r\nX-Forwarded-Proto: https\r\nX-Forwarded-For: 203.0.113.9\r\n"


def recorded(
    line: bytes = b"GET / HTTP/1.1",
    fields: bytes = b"",
    body: bytes = b"",
    *,
    answer: bytes | None = b"HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\n\r\n",
    answer_body: bytes = b"hello",
    took_s: float = 0.25,
    into: Recordings | None = None,
) -> Recording:
    """A call that is over.

    Args:
        line: of its request.
        fields: of its request, behind those of the node.
        body: of its request.
        answer: the head of its response; None for none.
        answer_body: what is behind that.
        took_s: until its response was complete.
        into: where it is kept.
    """
    recordings = Recordings() if into is None else into
    made = recordings.begin("shop", "localhost:3000", AT_S, tcp=False)
    recordings.keep_head(made, parse_request_head(line + b"\r\n" + HOST + fields + b"\r\n", REQUEST_LIMITS))
    recordings.keep(made, made.request_body, body)
    made.request_ended = True
    if answer is not None:
        recordings.keep_head(made, parse_response_head(answer, RESPONSE_LIMITS))
        recordings.keep(made, made.response_body, answer_body)
        made.first_byte_s = took_s / 2
    made.duration_s = took_s
    recordings.ended(made)
    return made
