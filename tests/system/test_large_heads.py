"""Heads as large as the limit can be raised to, through every frame on their way."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.system.service import Connection, answer
from tests.system.stack import Stack
from tests.system.wire import Request
from tools.stage.certificates import Tls

LIMITS = {"limits": {"head_bytes": "60KiB"}}
MOST_BYTES = 60 * 1024


@pytest.fixture(params=["plain", "two"])
def roomy(request: pytest.FixtureRequest, tmp_path: Path, certificates: Tls) -> Iterator[Stack]:
    """Nodes and an agent whose limit of heads is as high as it can be."""
    stack = Stack(tmp_path, request.param, certificates, LIMITS, LIMITS)
    try:
        stack.begin()
        yield stack
        stack.end()
    finally:
        stack.close()


def filled(head: bytes) -> bytes:
    """A head of exactly the limit, with one field more."""
    return head[:-2] + b"X-Large: " + b"x" * (MOST_BYTES - len(head) - 11) + b"\r\n\r\n"


def test_the_largest_heads(roomy: Stack) -> None:
    """Request and response pass with 60 KiB each, behind interim heads too; one byte more is refused."""

    def script(connection: Connection) -> None:
        while True:
            request = connection.read_request()
            assert len(request.get("x-large") or b"") > 59_000
            connection.send(b"HTTP/1.1 103 Early Hints\r\nLink: " + b"l" * 5000 + b"\r\n\r\n")
            connection.send(b"HTTP/1.1 102 Processing\r\n\r\n" * 100)
            connection.send(
                filled(answer(b"")[:-2].replace(b"Content-Length: 0", b"Content-Length: 2") + b"\r\n") + b"ok"
            )

    roomy.service.script = script
    client = roomy.connect()
    for body in (b"", b"a" * 50_000):
        client.send(filled(roomy.head("POST / HTTP/1.1", f"Content-Length: {len(body)}")) + body)
        response = client.read_response()
        assert (response.status, response.body) == (200, b"ok")
        assert len(response.get("x-large") or b"") > 60_000
        assert [head.status for head in response.interim].count(102) == 100
    client.send(filled(roomy.head()).replace(b"X-Large: ", b"X-Large: x"))
    assert client.read_response().status == 431


def test_a_larger_head_of_a_service(roomy: Stack) -> None:
    """It is a 502, and costs nobody anything else."""

    def handler(request: Request) -> bytes:
        return (
            answer(b"ok") if request.target == b"/after" else filled(answer(b"")).replace(b"X-Large: ", b"X-Large: x")
        )

    roomy.service.handler = handler
    assert roomy.request().status == 502
    assert roomy.request("GET /after HTTP/1.1").body == b"ok"
