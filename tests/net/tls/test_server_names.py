"""Several certificates on one port: which one a client gets for the name that it asks for."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest
from twisted.internet.threads import deferToThread

from pico_twisted.config import CertificateConfig, ServerTlsConfig
from pico_twisted.net.tls.port_context import ServerContext
from tests.net.in_reactor import DEADLINE_S, in_reactor
from tests.net.tls.tls_port import Port
from tools.stage.certificates import Made, make
from tools.stage.processes import find_program


@pytest.fixture(scope="module")
def several(tmp_path_factory: pytest.TempPathFactory) -> ServerTlsConfig:
    """The default, one with a wildcard, and one with a name that the wildcard has too."""
    directory = tmp_path_factory.mktemp("several")
    default, wide, exact = (
        make(directory, name, names=names)
        for name, names in (
            ("default", ("pico.example", "192.0.2.1")),
            ("wide", ("*.tunnel.example", "tunnel.example")),
            ("exact", ("shop.tunnel.example", "SHOP.example")),
        )
    )

    def further(made: Made) -> CertificateConfig:
        return CertificateConfig(cert=made.cert_file, key=made.key_file)

    return ServerTlsConfig(cert=default.cert_file, key=default.key_file, certificates=(further(wide), further(exact)))


@pytest.mark.parametrize(
    ("name", "shown"),
    [
        ("pico.example", "default"),
        ("a.tunnel.example", "wide"),
        ("tunnel.example", "wide"),
        ("shop.tunnel.example", "exact"),
        ("Shop.Tunnel.Example", "exact"),
        ("shop.example", "exact"),
        ("a.b.tunnel.example", "default"),
        ("nobody.example", "default"),
        ("", "default"),
    ],
)
@in_reactor
async def test_which_one(several: ServerTlsConfig, name: str, shown: str) -> None:
    """The exact name comes before the wildcard, which stands for one label; whoever asks for no name, or for one that
    no certificate has, gets the default."""
    port = Port(ServerContext(several))
    try:
        for version in ("-tls1_2", "-tls1_3"):
            assert f"CN = {shown}\n" in await deferToThread(_subject, port.number, name, version)
    finally:
        await port.close()


def _subject(number: int, name: str, version: str) -> str:
    """What OpenSSL's client says of the certificate that it got."""
    asked = ["-servername", name] if name else ["-noservername"]
    command = [find_program("openssl", "openssl"), "s_client", "-connect", f"127.0.0.1:{number}", version, *asked]
    done = subprocess.run(command, input="", capture_output=True, text=True, timeout=DEADLINE_S, check=False)
    return done.stdout


@in_reactor
async def test_a_swap_while_a_client_is_there(several: ServerTlsConfig, tmp_path: Path) -> None:
    """Who connects later gets the certificates of now; the names of those before count no longer."""
    context = ServerContext(several)
    port = Port(context)
    try:
        assert "CN = wide\n" in await deferToThread(_subject, port.number, "a.tunnel.example", "-tls1_3")
        made = make(tmp_path, "new", names=("new.example",))
        context.become(ServerContext(ServerTlsConfig(cert=made.cert_file, key=made.key_file)))
        assert "CN = new\n" in await deferToThread(_subject, port.number, "a.tunnel.example", "-tls1_3")
    finally:
        await port.close()
