"""Which endpoint a request is for."""

from __future__ import annotations

import re
from typing import Final

from pico_twisted.core.http1.head import RequestHead
from pico_twisted.core.text import ENDPOINT_ID_BYTES_PATTERN

HEADER: Final = b"x-pico-endpoint"
"""Name of the field that names an endpoint."""

_DECIMAL: Final = re.compile(rb"[0-9]+\Z")


class EndpointError(Exception):
    """The request names no endpoint, or one that cannot be.

    Attributes:
        code: `missing-endpoint` or `invalid-endpoint`.
        message: for the client.
    """

    def __init__(self, code: str, message: str) -> None:
        super().__init__(message)
        self.code = code
        self.message = message


def normal_endpoint_id(value: bytes) -> str | None:
    """The ID in the form that is compared (lower case), or None when it is not an endpoint ID."""
    if not ENDPOINT_ID_BYTES_PATTERN.fullmatch(value):
        return None
    return value.decode("ascii").lower()


def endpoint_of(head: RequestHead) -> str:
    """The endpoint ID that a request asks for, in lower case.

    That is the `x-pico-endpoint` header if present, else the first label of Host when Host is a name of two labels or
    more and no IP address.

    Raises:
        EndpointError: there is none, or it is not valid.
    """
    value = head.by_name.get(HEADER)
    if value is None:
        value = _first_label(head.host or b"")
        if value is None:
            raise EndpointError("missing-endpoint", "missing endpoint id")
    endpoint = normal_endpoint_id(value)
    if endpoint is None:
        raise EndpointError("invalid-endpoint", "invalid endpoint id")
    return endpoint


def _first_label(host: bytes) -> bytes | None:
    if host.startswith(b"["):
        return None
    name = host.partition(b":")[0].removesuffix(b".")
    label, dot, rest = name.partition(b".")
    if not dot or not label or not rest or _DECIMAL.match(rest.rpartition(b".")[2]):
        return None
    return label
