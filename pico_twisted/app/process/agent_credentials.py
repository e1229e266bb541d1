"""What an agent shows nodes of who it is: read again when its files change."""

from __future__ import annotations

import ipaddress
from collections.abc import Callable, Iterable, Iterator
from urllib.parse import urlsplit

import attrs
from cryptography import x509
from twisted.logger import Logger

from pico_twisted.config import ConnectConfig
from pico_twisted.config.checks import read_secret
from pico_twisted.config.pem import UnusableCertificateError, day, good_until, load_pair
from pico_twisted.net.agent.service import AgentService
from pico_twisted.net.socket.dialling import LOCALHOST

log = Logger(namespace="pico_twisted.app.agent")


class AgentCredentials:
    """The files of a section `connect`.

    Args:
        service: shows what they hold.
        connect: the section as it was read at the start.
    """

    def __init__(self, service: AgentService, connect: ConnectConfig) -> None:
        self._service = service
        self._connect = connect
        self._chain = _chain_of(connect)[0]

    def take(self, connect: ConnectConfig) -> None:
        """Show what a section says that was read again."""
        warn_of_plain_tokens(connect)
        self._connect = connect
        self._service.show(connect)

    def files(self) -> list[str]:
        """The names of all files."""
        connect = self._connect
        return [name for name in (connect.token_file, connect.tls.cert, connect.tls.key) if name]

    def read_again(self) -> tuple[Callable[[], Iterable[str]], Iterable[str]]:
        """Read them again. See `FileWatch`."""
        before = self._connect
        faults: list[str] = []
        token = read_secret(before.token_file) if before.token_file else before.token
        if token is None:
            faults.append(f"connect.token_file: {before.token_file} holds no token")
        chain, fault = _chain_of(before)
        if fault:
            faults.append(f"connect.tls: {fault}")

        def take() -> Iterator[str]:
            if self._connect is not before:
                return  # the configuration was reloaded meanwhile
            if token is not None and token != before.token:
                self._connect = attrs.evolve(before, token=token)
                yield "connect.token_file has another token"
            renewed = bool(chain) and chain != self._chain
            if renewed:
                self._chain = chain
                yield f"client certificate until {day(good_until(chain))}"
            self._service.show(self._connect, other_certificate=renewed)

        return take, faults


def _chain_of(connect: ConnectConfig) -> tuple[tuple[x509.Certificate, ...], str]:
    """The certificate that a section names, with its chain; none, with what is wrong, when it cannot be used."""
    if not connect.tls.cert:
        return (), ""
    try:
        return load_pair(connect.tls.cert, connect.tls.key).chain, ""
    except UnusableCertificateError as error:
        return (), str(error)


def warn_of_plain_tokens(connect: ConnectConfig) -> None:
    """Whoever is between an agent and a node without TLS can read the token, and use it."""
    for url in connect.url if connect.token else ():
        parsed = urlsplit(url)
        host = parsed.hostname or ""
        if parsed.scheme in ("http", "ws") and not _is_loopback(host):
            log.warn("The token goes to {url} without TLS: whoever is in between can read and use it", url=url)


def _is_loopback(host: str) -> bool:
    if host in LOCALHOST:
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False
