"""TLS on the ports of a node, and what an agent makes of the certificate that it is shown."""

from __future__ import annotations

import ssl
from pathlib import Path

import pytest

from tests.peers.pipe import Ended, dial
from tests.system.service import Service
from tests.system.wire import connect
from tools.stage.certificates import Tls
from tools.stage.stage import Stage


def test_plain_http_on_a_tls_port(certificates: Tls, tmp_path: Path) -> None:
    """Whoever speaks plain HTTP to a TLS port is told so with a readable 400, on each port."""
    stage = Stage(tmp_path, certificates)
    try:
        node = stage.node()
        for port in (node.ports.proxy, node.ports.admin, node.ports.upstream):
            client = connect(("127.0.0.1", port))
            client.send(b"GET / HTTP/1.1\r\nHost: a.example\r\n\r\n")
            response = client.read_response()
            assert response.status == 400
            assert response.get("content-type") == b"application/json"
            assert b"https" in response.body.lower() or b"tls" in response.body.lower()
            assert client.ended()
            client.close()
    finally:
        stage.close()


def test_an_agent_refuses_a_certificate(certificates: Tls, tmp_path: Path, service: Service) -> None:
    """An unknown authority and a wrong name: never registered, and the log says in words why."""
    (tmp_path / "other").mkdir()
    stranger = Tls.make(tmp_path / "other")
    wrong_name = Tls(stranger.authority, stranger.authority.issue("wrong", ("elsewhere.example",)), stranger.context)
    stage = Stage(tmp_path, certificates)
    try:
        node = stage.node()
        # Trusts the system's authorities only, or the wrong one.
        for name, tls_section in (("agent-1", {"root_cas": ""}), ("agent-2", {"root_cas": str(stranger.authority.ca)})):
            agent = stage.agent(
                node, {"web": service.address}, {"connect": {"tls": tls_section}}, name=name, wait=False
            )
            agent.wait_output(lambda output: "certificate" in output.lower())
            assert "web" not in node.admin.endpoints()
            agent.close()
        other = Stage(tmp_path, wrong_name)
        try:
            # Its own admin port cannot be asked: the certificate names somebody else.
            node = other.node("node-2", wait=False)
            node.wait_output("is up")
            agent = other.agent(node, {"web": service.address}, name="agent-3", wait=False)
            agent.wait_output(lambda output: "certificate" in output.lower() and "localhost" in output)
        finally:
            other.close()
        assert stage.new_faults() == []
    finally:
        stage.close()


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_tls_is_modern(certificates: Tls, tmp_path: Path) -> None:
    """TLS 1.2 is the least that the proxy port speaks."""
    stage = Stage(tmp_path, certificates)
    try:
        node = stage.node()
        old = ssl.create_default_context(cafile=str(certificates.authority.ca))
        old.set_ciphers("DEFAULT:@SECLEVEL=0")
        old.minimum_version = ssl.TLSVersion.TLSv1
        old.maximum_version = ssl.TLSVersion.TLSv1_1
        with pytest.raises((ssl.SSLError, Ended, OSError)):
            dial(node.proxy, tls=old)
        new = ssl.create_default_context(cafile=str(certificates.authority.ca))
        new.minimum_version = ssl.TLSVersion.TLSv1_3
        dial(node.proxy, tls=new).close()
    finally:
        stage.close()
