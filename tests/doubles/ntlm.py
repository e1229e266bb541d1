"""A service that authenticates connections, not requests, as NTLM and Negotiate do."""

from __future__ import annotations

from typing import Any

from twisted.internet.protocol import Factory, Protocol, connectionDone
from twisted.python.failure import Failure

STEP_1 = b"Authorization: NTLM step1\r\n"


def step_3(user: bytes) -> bytes:
    """The field that authenticates a connection whose first two steps were made."""
    return b"Authorization: NTLM step3-%b\r\n" % user


class NtlmConnection(Protocol):
    """One connection: `user` is who it belongs to, once somebody showed step 3 behind step 1."""

    factory: NtlmService
    transport: Any

    def __init__(self) -> None:
        self.user = b""
        self._challenged = False
        self._data = b""

    def connectionMade(self) -> None:
        self.factory.open.append(self)

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        self.factory.open.remove(self)

    def dataReceived(self, data: bytes) -> None:
        self._data += data
        while b"\r\n\r\n" in self._data:
            head, _, self._data = self._data.partition(b"\r\n\r\n")
            self._answer(head)

    def _answer(self, head: bytes) -> None:
        self.factory.heads.append(head)
        _, _, given = head.partition(b"Authorization: ")
        scheme, _, token = given.partition(b"\r\n")[0].partition(b" ")
        if token == b"step1":
            self._challenged = True
            self._send(401, b"challenge", b"WWW-Authenticate: %b step2\r\n" % scheme)
            return
        if token.startswith(b"step3-") and self._challenged:
            self.user = token.removeprefix(b"step3-")
        if self.user:
            self._send(200, b"secrets of " + self.user)
        else:
            self._send(401, b"who?", b"WWW-Authenticate: Negotiate\r\nWWW-Authenticate: NTLM\r\n")

    def _send(self, status: int, body: bytes, extra: bytes = b"") -> None:
        self.transport.write(b"HTTP/1.1 %d X\r\n%bContent-Length: %d\r\n\r\n%b" % (status, extra, len(body), body))


class NtlmService(Factory):
    """The service.

    Attributes:
        open: its connections.
        heads: all requests so far.
    """

    noisy = False

    def __init__(self) -> None:
        self.open: list[NtlmConnection] = []
        self.heads: list[bytes] = []

    def buildProtocol(self, addr: object) -> Any:  # Twisted wants a protocol of its own generic factory
        connection = NtlmConnection()
        connection.factory = self
        return connection

    @property
    def users(self) -> list[bytes]:
        """Whose its connections are, sorted; empty for those that nobody authenticated."""
        return sorted(connection.user for connection in self.open)
