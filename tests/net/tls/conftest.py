"""Certificates and a port for the tests of TLS."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from pico_twisted.config import ServerTlsConfig
from pico_twisted.net.tls.port_context import ServerContext
from tests.net.in_reactor import finish
from tests.net.tls.tls_port import Port
from tools.stage.certificates import Made, make


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Made:
    return make(tmp_path_factory.mktemp("authority"), "test authority", names=(), authority=True)


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory, authority: Made) -> Made:
    return make(tmp_path_factory.mktemp("server"), "server", issuer=authority)


@pytest.fixture
def context(made: Made) -> ServerContext:
    return ServerContext(ServerTlsConfig(cert=made.cert_file, key=made.key_file))


@pytest.fixture
def port(context: ServerContext) -> Iterator[Port]:
    """A TLS port with the server's certificate."""
    found = Port(context)
    yield found
    finish(found.close())
