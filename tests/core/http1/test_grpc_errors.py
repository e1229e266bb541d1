"""Errors as clients of gRPC read them."""

from __future__ import annotations

from http import HTTPStatus
from urllib.parse import unquote

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pico_twisted.core.http1.grpc_errors import MOST_MESSAGE_BYTES, grpc_fields, grpc_status, grpc_type
from pico_twisted.core.http1.head import RequestHead


@pytest.mark.parametrize(
    ("sent", "answered"),
    [
        (b"application/grpc", b"application/grpc"),
        (b"application/grpc+proto", b"application/grpc+proto"),
        (b"Application/gRPC; charset=x", b"application/grpc"),
        (b"application/grpc-web", b"application/grpc-web"),
        (b"application/grpc-web-text+proto", b"application/grpc-web-text+proto"),
        (b"application/json", b""),
        (b"text/application/grpc", b""),
        (b"", b""),
    ],
)
def test_which_requests_are_of_grpc(sent: bytes, answered: bytes) -> None:
    """By their content type, whose kind the answer has."""
    assert grpc_type(RequestHead(b"POST", b"/", by_name={b"content-type": sent})) == answered


@pytest.mark.parametrize(
    ("status", "found"),
    [(400, 13), (401, 16), (403, 7), (404, 12), (408, 4), (413, 8), (429, 8), (502, 14), (503, 14), (504, 4), (418, 2)],
)
def test_statuses(status: int, found: int) -> None:
    """As gRPC's table has them, but for what is said better: too much, and too late."""
    assert grpc_status(status) == found


@given(st.sampled_from(list(HTTPStatus)), st.text(max_size=300))
def test_whatever_the_words_are_they_may_stand_in_a_head(status: HTTPStatus, message: str) -> None:
    """Words for people are visible ASCII on the wire, and the same words when they are read."""
    (_, code), (_, text) = grpc_fields(grpc_status(status), message)
    assert 0 < int(code) <= 16
    assert all(0x20 <= byte < 0x7F for byte in text) and len(text) <= MOST_MESSAGE_BYTES
    if len(text) < MOST_MESSAGE_BYTES:
        assert unquote(text.decode()) == message.encode("utf-8", "replace").decode()
