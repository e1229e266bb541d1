"""What is raised when a peer breaks HTTP, or its request can go nowhere."""

from __future__ import annotations


class Http1Error(Exception):
    """A peer broke HTTP, or a request can go nowhere (`net.routing.refusals`): what is to be answered.

    The connection of a peer that broke HTTP is to be closed, a client's after it was answered.

    Attributes:
        status: for a request that breaks HTTP 400, 414, 417, 431, 501, 505 or 508; for a response always 502.
        code: the stable code that goes into `x-pico-error`: "bad-request", "uri-too-long",
            "expectation-failed", "head-too-large", "not-implemented", "version", "loop" or "bad-response", or one of
            the refusals.
        message: what is wrong, for humans. It never holds bytes of the peer.
    """

    def __init__(self, status: int, code: str, message: str) -> None:
        super().__init__(status, code, message)
        self.status = status
        self.code = code
        self.message = message

    def __str__(self) -> str:
        return f"{self.status} {self.code}: {self.message}"


def bad_request(message: str) -> Http1Error:
    """A 400, for what has no status of its own."""
    return Http1Error(400, "bad-request", message)


def bad_response(message: str) -> Http1Error:
    """The one answer to a service or agent that breaks HTTP: 502."""
    return Http1Error(502, "bad-response", message)
