"""Clients that stall a TLS port, or press it with what TLS allows: others do not notice."""

from __future__ import annotations

import contextlib
import socket
import ssl
import subprocess
from collections.abc import Iterator

import pytest
from twisted.internet.threads import deferToThread

from pico_twisted.net.tls import server
from pico_twisted.net.tls.port_context import ServerContext
from tests.net.in_reactor import DEADLINE_S, answer_to, in_reactor, until
from tests.net.tls.tls_port import Port, dial
from tools.stage.certificates import Made
from tools.stage.processes import find_program


def hello() -> bytes:
    """The first message of a client."""
    incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
    tls = ssl.create_default_context().wrap_bio(incoming, outgoing, server_hostname="localhost")
    with contextlib.suppress(ssl.SSLWantReadError):
        tls.do_handshake()
    return outgoing.read()


def honest(port: Port, authority: Made) -> bytes:
    """What a client hears that does nothing odd."""
    context = ssl.create_default_context(cafile=authority.cert_file)
    with dial(port) as plain, context.wrap_socket(plain, server_hostname="localhost") as tls:
        tls.settimeout(DEADLINE_S)
        tls.sendall(b"hello")
        return tls.recv(100)


@contextlib.contextmanager
def stalling(port: Port, count: int, first: bytes) -> Iterator[None]:
    """So many clients that begin with some bytes and send no more."""
    with contextlib.ExitStack() as stack:
        for _ in range(count):
            client = stack.enter_context(socket.create_connection(("127.0.0.1", port.number), DEADLINE_S))
            client.sendall(first)
        yield


@in_reactor
@pytest.mark.parametrize("first", [b"", hello()[:1], hello()[:-1]], ids=["nothing", "a byte", "half a hello"])
@pytest.mark.parametrize("limit", [server.MAX_HANDSHAKES, 25])
async def test_many_that_stall(
    context: ServerContext, authority: Made, monkeypatch: pytest.MonkeyPatch, first: bytes, limit: int
) -> None:
    """An honest client is served at once, whether the port has a place for each of them or for fewer. (`make soak` has
    a thousand of them.)"""
    monkeypatch.setattr(server, "MAX_HANDSHAKES", limit)
    port = Port(context)

    def run() -> bytes:
        with stalling(port, 45, first):
            return honest(port, authority)

    try:
        assert await deferToThread(run) == b"hello"
        await until(lambda: not port.factory.waiting)
    finally:
        await port.close()


@in_reactor
@pytest.mark.parametrize(
    "first",
    [
        pytest.param(b"\x16\x03\x01\x48\x01" + b"\x01" * 20_000, id="a record that is too long"),
        pytest.param(b"\x16\x03\x01\x40\x00\x01\xff\xff\xff" + b"\x00" * 20_000, id="a message of 16 MiB"),
        pytest.param(b"\x16\x03\x01\x00\x00" * 10_000, id="records without content"),
        pytest.param(b"\x16\x03\x01\x00\x02\x02\x50" * 1000, id="warnings"),
    ],
)
async def test_what_is_too_much(port: Port, authority: Made, first: bytes) -> None:
    """It ends the connection with an alert, and nothing else is kept of it."""
    try:
        answer = await deferToThread(answer_to, port.number, first)
    except ConnectionResetError:
        answer = b"\x15"
    assert answer[:1] == b"\x15"
    await until(lambda: not port.factory.waiting)
    assert await deferToThread(honest, port, authority) == b"hello"


@in_reactor
async def test_no_renegotiation(port: Port, authority: Made) -> None:
    """A client cannot have one handshake after the other on a connection, at the cost of a few bytes each."""

    def run() -> str:
        command = [find_program("openssl", "openssl"), "s_client", "-connect", f"127.0.0.1:{port.number}", "-tls1_2"]
        done = subprocess.run(command, input="R\n" * 3, capture_output=True, text=True, timeout=DEADLINE_S, check=False)
        return done.stdout + done.stderr

    assert "no renegotiation" in (await deferToThread(run)).lower()
    assert await deferToThread(honest, port, authority) == b"hello"
