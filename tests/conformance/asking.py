"""Connections to a port, for the cases: plain ones that begin with HTTP/2, and over TLS those that ask for it."""

from __future__ import annotations

import contextlib
import socket
import ssl
from collections.abc import Iterator

from tests.conformance.case import Case
from tests.conformance.conversation import Conversation, Unexpected

PATIENCE_S = 10.0
"""Nothing that a case waits for takes nearly as long."""


class Port:
    """A port that speaks HTTP/2.

    Args:
        address: host and port.
        endpoint: that answers as a `Conversation` needs it; the first label of the authority names it.
        ca: for TLS: the file of the authority whose certificates are trusted.

    Attributes:
        authority: of requests for the endpoint.
    """

    def __init__(self, address: tuple[str, int], endpoint: str, ca: str | None = None) -> None:
        self._address = address
        self.authority = f"{endpoint}.pico.test".encode()
        self._tls: ssl.SSLContext | None = None
        if ca is not None:
            self._tls = ssl.create_default_context(cafile=ca)
            self._tls.set_alpn_protocols(["h2"])

    def connect(self) -> socket.socket:
        """A new connection."""
        connection = socket.create_connection(self._address, PATIENCE_S)
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        return self._tls.wrap_socket(connection, server_hostname="localhost") if self._tls else connection

    @contextlib.contextmanager
    def converse(self) -> Iterator[Conversation]:
        """A new connection with nothing said yet, closed in the end."""
        connection = self.connect()
        try:
            yield Conversation(_Socket(connection), self.authority, b"https" if self._tls else b"http")
        finally:
            connection.close()

    def fault(self, case: Case) -> str | None:
        """What is wrong, if the port does not do what a case asks for."""
        try:
            with self.converse() as conversation:
                case.play(conversation)
        except (Unexpected, AssertionError) as error:
            return str(error) or "wrong"
        return None


class _Socket:
    def __init__(self, connection: socket.socket) -> None:
        self._connection = connection

    def send(self, data: bytes) -> None:
        with contextlib.suppress(ConnectionError, ssl.SSLError):
            self._connection.sendall(data)

    def read(self) -> bytes | None:
        try:
            return self._connection.recv(65_536)
        except TimeoutError:
            return None
        except (ConnectionError, ssl.SSLError):
            return b""
