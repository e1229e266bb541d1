"""Bytes over 0x7F: opaque in field values, both ways; percent-encoded in targets, so that all read the same one."""

from __future__ import annotations

import pytest

from tests.system.service import Connection, answer, chunk
from tests.system.shapes import NODES
from tests.system.stack import Stack
from tools.stage.waiting import wait_until

LATIN, UTF_8 = b"Jos\xe9", "José €".encode()
FIELDS = {
    b"Cookie": b"name=" + UTF_8,
    b"Referer": b"http://example.test/" + UTF_8,
    b"User-Agent": b"Prob\xe9/1.0",
    b"Content-Disposition": b'attachment; filename="' + UTF_8 + b'"',
    b"If-Match": b'"' + LATIN + b'"',
    b"If-None-Match": b'W/"' + UTF_8 + b'"',
    b"Authorization": b'Digest username="' + UTF_8 + b'"',
    b"Destination": b"http://example.test/" + UTF_8,
    b"Remote-User": UTF_8,
    b"X-Remote-Name": b"\xff\xfe",
    b"Accept-Language": b"d\xe9",
    b"Content-Type": b'text/plain; name="' + LATIN + b'"',
    b"From": UTF_8 + b"@example.test",
    b"Slug": UTF_8,
    b"X-Blank": b"\xa0\x85",
}
LINES = b"".join(name + b": " + value + b"\r\n" for name, value in FIELDS.items())


@NODES
def test_values_pass_as_they_are(stack: Stack) -> None:
    """Cookies, names of users and of files reach the service byte for byte, and come back so, trailers or not."""

    def script(connection: Connection) -> None:
        while True:
            connection.request_head()
            assert connection.body() == b"body"
            connection.send(
                b"HTTP/1.1 200 " + LATIN + b"\r\nTransfer-Encoding: chunked\r\nSet-Cookie: user=" + UTF_8 + b"\r\n"
                + LINES + b"\r\n" + chunk(b"ok") + b"0\r\nX-T: " + UTF_8 + b"\r\n\r\n"
            )  # fmt: skip

    stack.service.script = script
    client = stack.connect()
    for _ in range(2):
        head = stack.head("POST /login HTTP/1.1", "Transfer-Encoding: chunked")
        client.send(head[:-2] + LINES + b"\r\n" + chunk(b"body") + b"0\r\nX-T: " + UTF_8 + b"\r\n\r\n")
        response = client.read_response()
        assert (response.status, response.body) == (200, b"ok")
        assert response.get("set-cookie") == b"user=" + UTF_8
        for name, value in FIELDS.items():
            assert response.get(name.decode()) == value
    received = stack.service.received
    for name, value in FIELDS.items():
        assert received.count(name + b": " + value + b"\r\n") == 2


@NODES
@pytest.mark.parametrize(
    ("target", "encoded"),
    [("/café?q=é".encode(), "/caf%C3%A9?q=%C3%A9"), (b"http://other.test/\xe9", "/%E9")],
    ids=["utf-8", "absolute"],
)
def test_targets_are_encoded(stack: Stack, target: bytes, encoded: str) -> None:
    """A raw target reaches the service, and the access log, as the same percent-encoded one."""
    stack.service.handler = lambda request: answer(request.target)
    client = stack.connect()
    client.send(stack.head("GET {} HTTP/1.1", "X-Request-Id: raw-target").replace(b"{}", target))
    assert client.read_response().body == encoded.encode()

    def logged() -> bool:
        return encoded in [line.get("target") for line in stack.node.records if line.get("request_id") == "raw-target"]

    wait_until(logged, "the access line")
