"""What is answered to a request that goes nowhere. The code stands in `x-pico-error` and in the log."""

from __future__ import annotations

from typing import Final

from pico_twisted.core.access.ceilings import Limit
from pico_twisted.core.http1.errors import Http1Error
from pico_twisted.core.rpc.frames import (
    HTTP,
    PROTOCOL,
    REFUSED_BUSY,
    REFUSED_DRAINING,
    REFUSED_NOT_HERE,
    TCP,
    TIMEOUT,
    TOO_LARGE,
    UNSUPPORTED,
)

BUSY: Final = "busy"
"""The code of a 503 that says: a limit of calls or memory is reached, and the client may come again."""
DRAINING: Final = "draining"
"""The code of a 503 that says: this node shuts down, and holds no more of the endpoint."""
NO_UPSTREAMS: Final = "no-upstreams"
"""The code of a 502 that says: no agent or node holds the endpoint."""
UNREACHABLE: Final = "upstream-unreachable"
"""The code of a 502 that says: the endpoint is held, and no call for the request came to a good end."""
BAD_RESPONSE: Final = "bad-response"
"""The code of a 502 that says: an agent's response breaks the rules, and is not passed on."""
RESPONSE_TOO_LARGE: Final = "response-too-large"
"""The code of a 502 that says: an agent of version 1 gave a response that is too large for that."""
UPSTREAM_TIMEOUT: Final = "upstream-timeout"
"""The code of a 504 that says: the service did not answer in time."""
REQUEST_TIMEOUT: Final = "request-timeout"
"""The code of a 408 that says: the client did not send its request in time."""
BODY_TOO_LARGE: Final = "body-too-large"
"""The code of a 413 that says: an agent of version 1 takes no body of this size."""
NOT_HTTP: Final = "not-http"
"""The code of a 421 that says: the endpoint is one of TCP."""
NOT_TCP: Final = "not-tcp"
"""The code of a 421 that says: the endpoint is none of TCP."""
SHUTDOWN: Final = "shutdown"
"""What is logged of a request that the end of this node cut."""
SERVICE_UNREACHABLE: Final = "service-unreachable"
"""The code of an agent's own 502 that says: nothing of the request reached the service."""

_MAX_CODE_BYTES: Final = 64
"""Most bytes of an agent's code that are logged."""

_TOLD: Final = (BUSY, BAD_RESPONSE, RESPONSE_TOO_LARGE, NOT_HTTP, NOT_TCP)
"""Codes of the last call of a request that its client is told, too."""

_ANSWERS: Final = {
    BUSY: (503, "too many requests in progress"),
    DRAINING: (503, "node is shutting down"),
    NO_UPSTREAMS: (502, "no available upstreams"),
    UNREACHABLE: (502, "upstream unreachable"),
    BAD_RESPONSE: (502, "the response of the upstream is not valid"),
    RESPONSE_TOO_LARGE: (502, "response too large for an agent of version 1"),
    UPSTREAM_TIMEOUT: (504, "upstream timeout"),
    REQUEST_TIMEOUT: (408, "request timeout"),
    BODY_TOO_LARGE: (413, "request body too large for an agent of version 1"),
    NOT_HTTP: (421, "this endpoint speaks TCP, not HTTP: reach it with picoctl forward"),
    NOT_TCP: (
        421,
        "this endpoint is not served as TCP: by its agents as HTTP, or through a node of an earlier version",
    ),
}


NOTHING_DONE: Final = {
    NO_UPSTREAMS: REFUSED_NOT_HERE,
    BUSY: REFUSED_BUSY,
    DRAINING: REFUSED_DRAINING,
    Limit.SUBJECT_IN_FLIGHT.value: REFUSED_BUSY,
}
"""What another node is told of a request of its own that ends with one of these codes: nothing was done."""


def refusal(code: str) -> Http1Error:
    """Return the answer with a code of this module."""
    status, message = _ANSWERS[code]
    return Http1Error(status, code, message)


def code_of_reset(reset: str, kind: int = HTTP) -> str:
    """Return what is logged of a call of a type that was reset with a code."""
    if reset == UNSUPPORTED:
        return NOT_TCP if kind == TCP else NOT_HTTP
    if reset in (TIMEOUT, SHUTDOWN):
        return reset
    if reset == PROTOCOL:
        return BAD_RESPONSE
    if reset == TOO_LARGE:
        return RESPONSE_TOO_LARGE
    return BUSY if reset == REFUSED_BUSY else UNREACHABLE


def code_of_nowhere(error: str, tried: bool, draining: bool) -> str:
    """Return the code of the answer when no route is left to try.

    Args:
        error: what was wrong with the last one.
        tried: there was one.
        draining: this node shuts down.
    """
    if not tried or error == NO_UPSTREAMS:
        return DRAINING if draining else NO_UPSTREAMS
    if error == TIMEOUT:
        return UPSTREAM_TIMEOUT
    return error if error in _TOLD else UNREACHABLE


def code_of_agent(value: bytes) -> str:
    """Return the code of an agent's own error, out of the `x-pico-error` of its response, for the log."""
    return value.rpartition(b" ")[2][:_MAX_CODE_BYTES].decode("ascii", "replace")
