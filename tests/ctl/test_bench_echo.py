"""The service of a bench on a tunnel that the test plays, in both versions of the protocol."""

from __future__ import annotations

from typing import Any, cast

import attrs
import pytest

from pico_twisted.core.rpc.frames import HTTP, PROTOCOL
from pico_twisted.ctl.bench.echo import EchoService
from pico_twisted.ctl.bench.messages import content_of
from tests.doubles.tunnel import FakeCall, FakeTunnel

UPGRADE = (
    b"GET / HTTP/1.1\r\nHost: a\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n"
    b"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"
)

CONTENT = content_of(300, None)
LARGE = content_of(1 << 20, None).request


def opened(
    payload: bytes, *, more: bool = False, version: int = 2, body: bytes | None = None, takes: bool = True
) -> FakeCall:
    """A call that a node opened, with what the service has sent so far."""
    tunnel = FakeTunnel(version=version)
    tunnel.takes = takes
    call: Any = FakeCall(tunnel, 1, HTTP, b"", True, None)
    tunnel.calls.append(call)
    call.receive_ended = not more
    service = EchoService(attrs.evolve(CONTENT, response=body), lambda tunnel: None)
    service.call_opened(tunnel, call, HTTP, payload, more)
    return cast(FakeCall, call)


def request(method: str = "POST", fields: str = "", body: bytes = b"") -> bytes:
    return f"{method} / HTTP/1.1\r\nHost: a\r\n{fields}\r\n".encode() + body


def answer(call: FakeCall) -> tuple[bytes, bytes]:
    """The head and the body of what was sent, which has ended."""
    assert call.send_ended
    head, _, body = bytes(call.sent).partition(b"\r\n\r\n")
    assert head.startswith(b"HTTP/1.1 200 OK\r\nServer: pico-bench")
    return head, body


@pytest.mark.parametrize("version", [1, 2])
@pytest.mark.parametrize("body", [None, b"", b"other" * 30_000])
def test_whole_requests(version: int, body: bytes | None) -> None:
    """A request gets its own body back, or the one that was asked for."""
    call = opened(request(fields="Content-Length: 4\r\n", body=b"body"), version=version, body=body)
    expected = b"body" if body is None else body
    head, got = answer(call)
    assert got == expected
    assert b"Content-Length: %d" % len(expected) in head
    assert answer(opened(request("HEAD"), version=version, body=body))[1] == b""
    assert answer(opened(request("GET"), version=version))[1] == b""


def test_chunked_over_v1() -> None:
    """A v1 node may send chunks; they come back as one body."""
    call = opened(request(fields="Transfer-Encoding: chunked\r\n", body=b"2\r\nbo\r\n2\r\ndy\r\n0\r\n\r\n"), version=1)
    assert answer(call)[1] == b"body"


def test_streams_wait() -> None:
    """While the node takes nothing, not more than is allowed is queued, and no credit is given."""
    call = opened(request(fields=f"Content-Length: {len(LARGE)}\r\n"), more=True, takes=False)
    before, sent = call.consumed, 0
    while call.queued <= 128 * 1024:
        call.receiver.frame(LARGE[sent : sent + 50_000], True)
        sent += 50_000
    given = call.consumed
    call.receiver.frame(LARGE[sent : sent + 50_000], True)
    assert call.consumed == given < before + sent + 50_000
    call.tunnel.takes = True
    call.take()
    call.receiver.frame(LARGE[sent + 50_000 :], False)
    assert answer(call)[1] == LARGE


def test_large_answers_wait() -> None:
    """A large answer is handed over as the node takes it."""
    assert answer(opened(request("GET"), body=LARGE))[1] == LARGE
    call = opened(request("GET"), body=LARGE, takes=False)
    while not call.send_ended:
        assert call.queued <= 256 * 1024
        call.take()
    assert answer(call)[1] == LARGE


def test_websockets() -> None:
    """Messages come back unmasked, however they are cut, and the end of the client's stream is answered."""
    call = opened(UPGRADE, more=True)
    assert call.sent.startswith(b"HTTP/1.1 101 ")
    assert b"Sec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=" in call.sent
    call.sent.clear()
    for at in range(0, len(CONTENT.sent), 7):
        call.receiver.frame(CONTENT.sent[at : at + 7], True)
    assert call.sent == CONTENT.returned
    call.receiver.frame(b"", False)
    assert call.sent == CONTENT.returned
    assert call.send_ended


@pytest.mark.parametrize("payload", [b"nonsense", b"GET / HTTP/1.1\r\n\r\n", request(fields="Content-Length: 9\r\n")])
def test_nonsense(payload: bytes) -> None:
    """What is no request ends its call."""
    assert opened(payload).reset_code == PROTOCOL


def test_another_client() -> None:
    """Frames that no bench sends end their call."""
    call = opened(UPGRADE, more=True)
    call.receiver.frame(b"\x81\x00", True)
    assert call.reset_code == PROTOCOL
