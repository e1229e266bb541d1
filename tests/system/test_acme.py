"""Certificates from an ACME server, for real nodes: ordered, served, used again, and answered for by any node."""

from __future__ import annotations

import socket
import ssl
import stat
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives.serialization import Encoding

from pico_twisted.config.tls import AcmeConfig
from tests.system.curl import curl
from tests.system.service import Service
from tools.stage.acme import AcmeStage
from tools.stage.certificates import make
from tools.stage.nodes import Node
from tools.stage.ports import Ports, free_port
from tools.stage.stage import Stage
from tools.stage.waiting import wait_until

NAMES = ("pico.test", "web.pico.test")


@pytest.fixture
def stage(tmp_path: Path) -> Iterator[Stage]:
    result = Stage(tmp_path)
    yield result
    result.close()


@pytest.fixture
def acme(tmp_path: Path) -> Iterator[AcmeStage]:
    result = AcmeStage(tmp_path)
    yield result
    result.close()


def section(acme: AcmeStage, storage: Path, **further: str) -> dict[str, Any]:
    """`tls` of a port."""
    ordered = {
        "names": list(NAMES),
        "directory": f"{acme.url}/directory",
        "ca": acme.ca,
        "agree_tos": "true",
        "storage": str(storage),
        **further,
    }
    return {"acme": ordered}


def shown(port: int, acme: AcmeStage, name: str = NAMES[1]) -> bytes:
    """The certificate of a port, in DER; nothing when the authority has not signed it for the name."""
    context = ssl.create_default_context(cafile=acme.ca)
    try:
        plain = socket.create_connection(("127.0.0.1", port), 10.0)
        with plain, context.wrap_socket(plain, server_hostname=name) as tls:
            return tls.getpeercert(binary_form=True) or b""
    except ssl.SSLError:
        return b""


def spoken(port: int, acme: AcmeStage) -> str | None:
    """What a port chooses to speak with a client that speaks both versions of HTTP."""
    context = ssl.create_default_context(cafile=acme.ca)
    context.set_alpn_protocols(["h2", "http/1.1"])
    plain = socket.create_connection(("127.0.0.1", port), 10.0)
    with plain, context.wrap_socket(plain, server_hostname=NAMES[0]) as tls:
        return tls.selected_alpn_protocol()


def answered(client: ssl.SSLSocket) -> bool:
    """Whether a request on an open connection has an answer, and the connection goes on."""
    client.sendall(b"GET / HTTP/1.1\r\nHost: nothing.pico.test\r\n\r\n")
    return client.recv(65536).startswith(b"HTTP/1.1 502")


@pytest.mark.parametrize("kind", ["http-01", "tls-alpn-01"])
def test_any_node_answers(stage: Stage, acme: AcmeStage, service: Service, tmp_path: Path, kind: str) -> None:
    """A node validates its names and serves what it got, on other ports too; so does a second one of the cluster whose
    names lead to the first. Neither interrupts anybody."""
    http_port = free_port()
    further = {"http_addr": f"127.0.0.1:{http_port}"} if kind == "http-01" else {}

    def settings(name: str, **further: str) -> dict[str, Any]:
        tls = section(acme, tmp_path / name, **further)
        return {"proxy": {"tls": tls}, "upstream": {"tls": tls}}

    ports = Ports.pick()
    acme.tls_port, acme.http_port = ports.proxy, http_port
    one = stage.node("one", settings("one", **further), ports=ports)
    held = socket.create_connection(("127.0.0.1", one.ports.proxy), 10.0)
    strangers = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    strangers.check_hostname, strangers.verify_mode = False, ssl.CERT_NONE
    early = strangers.wrap_socket(held, server_hostname=NAMES[0])
    assert answered(early)
    for port in (one.ports.proxy, one.ports.upstream):
        wait_until(lambda port=port: shown(port, acme), "the certificate of the authority")  # type: ignore[misc]
    assert acme.validated == {(name, kind): 1 for name in NAMES}
    assert acme.orders == 1  # for both ports

    join = {"cluster": {"join": [f"127.0.0.1:{one.ports.gossip}"]}}
    two = stage.node("two", {**settings("two", challenge=kind), **join})
    wait_until(lambda: shown(two.ports.proxy, acme), "the certificate of the second node")
    assert acme.validated == {(name, kind): 2 for name in NAMES}
    assert answered(early)
    assert [spoken(node.ports.proxy, acme) for node in (one, two)] == ["h2", "h2"]  # beside acme-tls/1
    early.close()
    assert stage.new_faults() == []
    for path in (tmp_path / "one").rglob("*"):
        assert stat.S_IMODE(path.stat().st_mode) == (0o700 if path.is_dir() else 0o600)

    # What is there is used when the server is away.
    acme.close()
    old = shown(one.ports.proxy, acme)
    one.close()
    again = stage.node("one", settings("one", **further), ports=ports)
    assert shown(again.ports.proxy, acme) == old


def test_a_renewal(stage: Stage, acme: AcmeStage, tmp_path: Path) -> None:
    """A certificate that is there is shown from the start on, and the next one when it has come: this one is due."""
    tls = section(acme, tmp_path / "acme")
    ports = Ports.pick()
    acme.tls_port = ports.proxy
    acme.faults["garbage"] = 1
    old = make(tmp_path, "old", issuer=acme.issuer, names=NAMES, days=(-80, 10))
    config = AcmeConfig(**{**tls["acme"], "names": NAMES, "agree_tos": True})
    storage = Path(config.certificate_file)
    storage.parent.mkdir(parents=True)
    storage.write_bytes(Path(old.key_file).read_bytes() + old.pem + acme.issuer.pem)
    node = stage.node(settings={"proxy": {"tls": tls}}, ports=ports)
    assert shown(node.ports.proxy, acme) == old.cert.public_bytes(Encoding.DER)
    node.wait_output("the server's answer makes no sense")
    node.close()
    node = stage.node(settings={"proxy": {"tls": tls}}, ports=ports)
    assert shown(node.ports.proxy, acme) == old.cert.public_bytes(Encoding.DER)
    wait_until(lambda: shown(ports.proxy, acme) != old.cert.public_bytes(Encoding.DER), "the next certificate")
    assert shown(node.ports.proxy, acme)
    assert acme.orders == 1


def test_plain_http(stage: Stage, acme: AcmeStage, service: Service, tmp_path: Path) -> None:
    """Who comes to the plain port is sent to https, whatever the method; an ACME server that asks for nobody's token is
    sent there too, where it comes to the service: that may have an ACME client of its own. A refusal of the server is
    told, and the node serves with a certificate of its own meanwhile."""
    acme.faults["rateLimited"] = 1
    http_port = free_port()
    tls = section(acme, tmp_path / "acme", http_addr=f"127.0.0.1:{http_port}")
    node = stage.node(settings={"proxy": {"tls": tls}})
    node.wait_output("rateLimited: too many certificates. Next attempt in 7200 s")
    stage.agent(node, {"web": service.address})
    path = "/.well-known/acme-challenge/nobodys?x=1"
    for method in ("GET", "POST", "OPTIONS"):
        answer = curl(
            f"http://web.pico.test:{http_port}{path}",
            *("--resolve", f"web.pico.test:{http_port}:127.0.0.1", "--request", method),
            directory=tmp_path,
        )
        assert answer.status == 308
        assert answer.headers["location"] == f"https://web.pico.test:{node.ports.proxy}{path}"
    for line in (("--request-target", "*", "--request", "OPTIONS"), ("--request-target", "http://a.test", "--http1.0")):
        answer = curl(f"http://127.0.0.1:{http_port}", "--header", "Host: a.test", *line, directory=tmp_path)
        assert answer.headers["location"].rstrip("/") == f"https://a.test:{node.ports.proxy}"
    assert curl(f"http://127.0.0.1:{http_port}/", "--header", "Host:", "--http1.0", directory=tmp_path).status == 400
    answer = curl(
        f"https://web.pico.test:{node.ports.proxy}{path}",
        *("--resolve", f"web.pico.test:{node.ports.proxy}:127.0.0.1", "--insecure"),
        directory=tmp_path,
    )
    assert answer.status == 200
    assert answer.body == b"hello from the service\n"
    assert shown(node.ports.proxy, acme) == b""


def test_nobody_else_gets_a_validation(stage: Stage, acme: AcmeStage, tmp_path: Path) -> None:
    """A client that offers acme-tls/1 for a name that nobody orders fails in the handshake, in pieces too, and the
    others go on."""
    acme.faults["rateLimited"] = 1
    node: Node = stage.node(settings={"proxy": {"tls": section(acme, tmp_path / "acme")}})
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    context.set_alpn_protocols(["acme-tls/1"])
    incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
    tls = context.wrap_bio(incoming, outgoing, server_hostname=NAMES[0])
    with pytest.raises(ssl.SSLWantReadError):
        tls.do_handshake()
    hello = outgoing.read()
    with socket.create_connection(node.proxy, 10.0) as plain:
        for at in range(len(hello)):
            plain.sendall(hello[at : at + 1])
        assert plain.recv(100)[:1] == b"\x15"  # an alert
    context.set_alpn_protocols(["http/1.1"])
    with socket.create_connection(node.proxy, 10.0) as plain, context.wrap_socket(plain) as open_tls:
        assert open_tls.selected_alpn_protocol() == "http/1.1"
