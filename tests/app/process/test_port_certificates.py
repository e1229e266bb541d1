"""Certificates of a node's ports at a reload: what changed is told and taken; one that is no good changes nothing."""

from __future__ import annotations

from pathlib import Path

import pytest

from pico_twisted.app.process.port_certificates import PortCertificates
from pico_twisted.app.process.ports import CannotStart
from pico_twisted.config import ConfigFaults, NodeConfig, ServerTlsConfig
from pico_twisted.config.load import load_node
from pico_twisted.net.tls.acme.storage import Storage
from tools.stage.certificates import make


@pytest.fixture
def config(tmp_path: Path) -> NodeConfig:
    """Of a node with a certificate for its proxy port, and the same for its admin port."""
    made = make(tmp_path, "server")
    section = {"cert": made.cert_file, "key": made.key_file}
    flags = {f"{port}.tls.{key}": value for port in ("proxy", "admin") for key, value in section.items()}
    return load_node(None, flags)


def started(config: NodeConfig) -> PortCertificates:
    """The certificate of the proxy port alone is in use."""
    certificates = PortCertificates()
    certificates.start("proxy", config.proxy.tls)
    return certificates


def test_the_same_again(config: NodeConfig) -> None:
    """Nothing is told, nor of a port that had no TLS at the start."""
    assert list(started(config).prepare(config)()) == []


def test_another_one(config: NodeConfig, tmp_path: Path) -> None:
    """The port whose certificate it is and its last day are told once it is taken, and not again."""
    certificates = started(config)
    make(tmp_path, "server", days=(-1, 30))
    take = certificates.prepare(config)
    (line,) = take()
    assert line.startswith("proxy certificate until 2")
    assert list(certificates.prepare(config)()) == []


def test_other_names_to_order(tmp_path: Path) -> None:
    """They take a restart, which is no fault of a reload."""
    ordered = {"agree_tos": "true", "storage": str(tmp_path / "acme")}
    flags: dict[str, str | list[str]] = {f"proxy.tls.acme.{key}": value for key, value in ordered.items()}
    config = load_node(None, {**flags, "proxy.tls.acme.names": "a.example"})
    Storage(config.proxy.tls.acme).prepare()
    assert list(started(config).prepare(load_node(None, {**flags, "proxy.tls.acme.names": "b.example"}))()) == []


@pytest.mark.parametrize("kind", ["expired", "of another key"])
def test_one_that_is_no_good(config: NodeConfig, tmp_path: Path, kind: str) -> None:
    """It is a fault of its section, and the old one stays in use."""
    certificates = started(config)
    if kind == "expired":
        make(tmp_path, "server", days=(-9, -1))
    else:
        (tmp_path / "server.key").write_bytes(Path(make(tmp_path, "other").key_file).read_bytes())
    with pytest.raises(ConfigFaults, match="proxy"):
        certificates.prepare(config)


def test_the_start(tmp_path: Path) -> None:
    """Without a certificate that can be used a node does not start."""
    with pytest.raises(CannotStart, match=r"proxy\.tls"):
        PortCertificates().start("proxy", ServerTlsConfig(cert=str(tmp_path / "no.pem"), key=str(tmp_path / "no.key")))
