"""Links with mutual TLS: only who shows a certificate of the cluster's authority talks, in either role."""

from __future__ import annotations

import socket
import ssl
from pathlib import Path

import attrs
import pytest
import pytest_twisted
from twisted.internet.defer import Deferred
from twisted.internet.threads import deferToThread

from pico_twisted.config import ClusterTlsConfig, ConfigFaults, load_node
from pico_twisted.config.pem import UnusableCertificateError
from pico_twisted.net.links.sync import FetchFailed
from pico_twisted.net.links.tls import LinkTls
from tests.doubles.service import echo
from tests.integration.cluster import LinkedNodes
from tests.integration.harness import GET, eventually, outcome
from tests.integration.test_links_failing import metric
from tools.stage.certificates import Authority, Pair


@pytest.fixture
def authority(tmp_path: Path) -> Authority:
    """The cluster's own."""
    return Authority(tmp_path, "cluster")


def link_tls(authority: Authority, pair: Pair) -> ClusterTlsConfig:
    """The TLS of one node."""
    return ClusterTlsConfig(cert=str(pair.cert), key=str(pair.key), ca=str(authority.ca))


def read_again(nodes: LinkedNodes, name: str) -> None:
    """Have a node read its files again."""
    tls = nodes.nodes[name].parts.node.link_tls
    assert tls is not None
    again = tls.again()
    again.reload()
    tls.become(again)


@pytest_twisted.ensureDeferred
async def test_nodes_of_one_authority(authority: Authority) -> None:
    """Requests cross, whatever names stand in the certificates, and whatever they were issued for."""
    tls = {
        name: link_tls(authority, authority.issue(name, (f"{name}.not-where-it-is.example",))) for name in ("n1", "n2")
    }
    nodes = LinkedNodes(tls=tls, secrets=[b"and a secret"])
    try:
        await nodes.holder.agent(echo)
        client = await nodes.entry.client(GET)
        assert b" 200 OK" in await client.until(b"\r\n\r\n")
        body = bytes(range(256)) * 8000
        request = b"POST / HTTP/1.1\r\nHost: my-ep.example.com\r\nContent-Length: %d\r\n\r\n" % len(body)
        client.send(request + body)
        await client.until(b"\r\n\r\n")
        await eventually(lambda: len(client.data) == len(body))
        assert client.data == body
        await nodes.links["n1"].drain()
        assert not nodes.links["n2"].open_links()
    finally:
        await nodes.close()


@pytest_twisted.ensureDeferred
async def test_another_authority(authority: Authority, tmp_path: Path) -> None:
    """A node does not talk to one whose certificate another authority signed, and says so; not one byte is sent."""
    other = Authority(tmp_path, "other")
    tls = {"n1": link_tls(other, other.issue("n1")), "n2": link_tls(authority, authority.issue("n2"))}
    nodes = LinkedNodes(tls=tls)
    try:
        assert isinstance(await outcome(nodes.links["n2"].fetch("n1", b"?")), FetchFailed)
        assert metric(nodes, 'pico_link_failures_total{reason="tls"}') == 1
        assert not nodes.links["n1"].port.tunnels
    finally:
        await nodes.close()


@pytest_twisted.ensureDeferred
async def test_client_of_another_authority(authority: Authority, tmp_path: Path) -> None:
    """A client that trusts us but whose own certificate another authority signed is refused by TLS."""
    other = Authority(tmp_path, "other")
    stranger = other.issue("n2")
    tls = {
        "n1": link_tls(authority, authority.issue("n1")),
        "n2": ClusterTlsConfig(cert=str(stranger.cert), key=str(stranger.key), ca=str(authority.ca)),
    }
    nodes = LinkedNodes(tls=tls)
    try:
        assert isinstance(await outcome(nodes.links["n2"].fetch("n1", b"?")), FetchFailed)
        assert metric(nodes, 'pico_link_failures_total{reason="tls"}') == 1
        assert not nodes.links["n1"].port.connections
    finally:
        await nodes.close()


def _talk(address: tuple[str, int], context: ssl.SSLContext | None) -> bytes:
    """What the port says to a GET."""
    with socket.create_connection(address, 10.0) as plain:
        try:
            with context.wrap_socket(plain) if context is not None else plain as sock:
                sock.sendall(b"GET /pico/v1/node HTTP/1.1\r\nHost: n1\r\n\r\n")
                return sock.recv(65536)
        except (ssl.SSLError, ConnectionError) as error:
            return str(error).encode()


@pytest_twisted.ensureDeferred
async def test_no_certificate(authority: Authority) -> None:
    """Who shows no certificate gets no answer; who speaks plain HTTP is told to use TLS; one with a certificate is
    heard."""
    pair = authority.issue("n1")
    nodes = LinkedNodes(("n1",), tls={"n1": link_tls(authority, pair)})
    try:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        context.check_hostname = False
        context.load_verify_locations(authority.ca)
        address = nodes.addresses["n1"]
        assert b"certificate required" in (await deferToThread(_talk, address, context)).lower().replace(b"_", b" ")
        assert b"tls-required" in await deferToThread(_talk, address, None)
        context.load_cert_chain(pair.cert, pair.key)
        assert (await deferToThread(_talk, address, context)).startswith(b"HTTP/1.1 426 ")
        await eventually(lambda: not nodes.links["n1"].port.connections)
    finally:
        await nodes.close()


@pytest_twisted.ensureDeferred
async def test_tls_on_one_side_only(authority: Authority) -> None:
    """A node with TLS and one without do not talk, whoever dials."""
    nodes = LinkedNodes(tls={"n1": link_tls(authority, authority.issue("n1"))})
    try:
        for one, other in (("n1", "n2"), ("n2", "n1")):
            assert isinstance(await outcome(nodes.links[one].fetch(other, b"?")), FetchFailed)
        assert metric(nodes, 'pico_link_failures_total{reason="tls"}', "n1") == 1
        assert metric(nodes, 'pico_link_failures_total{reason="refused"}', "n2") == 1
    finally:
        await nodes.close()


@pytest_twisted.ensureDeferred
async def test_reload(authority: Authority, tmp_path: Path) -> None:
    """New certificates count from the next link on, in both roles; broken files leave the old ones in use."""
    pairs = {name: authority.issue(name) for name in ("n1", "n2")}
    tls = {name: link_tls(authority, pair) for name, pair in pairs.items()}
    nodes = LinkedNodes(tls=tls)
    try:
        await nodes.links["n2"].fetch("n1", b"?")
        authority.ca.rename(tmp_path / "old.pem")
        Authority(tmp_path, "cluster")
        pairs["n1"].key.write_text("garbage")
        with pytest.raises(UnusableCertificateError):
            read_again(nodes, "n1")
        await nodes.links["n1"].fetch("n2", b"the old one is in use")
        again = Authority(tmp_path, "cluster")
        again.issue("n1")
        read_again(nodes, "n1")
        for link in nodes.links["n2"].open_links():
            link.end(politely=True)
        await eventually(lambda: not nodes.links["n2"].open_links())
        assert isinstance(await outcome(nodes.links["n2"].fetch("n1", b"?")), FetchFailed)
        again.issue("n2")
        read_again(nodes, "n2")
        await eventually(lambda: nodes.links["n2"].usable("n1"))
        assert await nodes.links["n2"].fetch("n1", b"?") == b"n2 asks ?: the maps"
    finally:
        await nodes.close()


NAMED = ("n1.cluster.example", "spiffe://cluster.example/node/1")


@pytest.mark.parametrize(
    ("names", "allowed", "reached"),
    [
        (NAMED, ("n*.cluster.example",), True),
        (NAMED, ("other.example", "N1.CLUSTER.example"), True),
        (NAMED, ("spiffe://cluster.example/node/*",), True),
        (NAMED, ("*.example",), False),
        (NAMED, ("spiffe://cluster.example/*",), False),
        (NAMED, ("spiffe://CLUSTER.example/node/1",), False),
        (("web.cluster.example",), ("n*.cluster.example",), False),
        ((), ("*",), False),
    ],
)
@pytest.mark.parametrize("dials", [True, False], ids=["we dial", "it dials"])
@pytest_twisted.ensureDeferred
async def test_allowed_names(
    authority: Authority, names: tuple[str, ...], allowed: tuple[str, ...], reached: bool, dials: bool
) -> None:
    """A peer is a node only when its certificate has a name that is allowed, whoever dials: `*` stands for a part of
    one label of a DNS name, in any case, and of one segment of a URI."""
    own = attrs.evolve(link_tls(authority, authority.issue("n2")), allowed_names=allowed)
    nodes = LinkedNodes(tls={"n1": link_tls(authority, authority.issue("n1", names)), "n2": own})
    try:
        asks, asked = ("n2", "n1") if dials else ("n1", "n2")
        answer = await outcome(nodes.links[asks].fetch(asked, b"?"))
        assert isinstance(answer, bytes if reached else FetchFailed)
    finally:
        await nodes.close()


@pytest.mark.parametrize("days", [(-1, 7), (-9, -2)], ids=["fresh", "out of date"])
@pytest.mark.parametrize("dials", [True, False], ids=["we dial", "it dials"])
@pytest_twisted.ensureDeferred
async def test_revoked(authority: Authority, dials: bool, days: tuple[int, int]) -> None:
    """A node whose certificate is revoked is not talked to, whoever dials, even if the list is out of date; one whose
    certificate becomes revoked loses its open links, and the others keep theirs."""
    names = ("n1", "n2", "n3")
    pairs = {name: authority.issue(name) for name in names}
    tls = {name: link_tls(authority, pair) for name, pair in pairs.items()}
    tls["n2"] = attrs.evolve(tls["n2"], crl=str(authority.revoke(pairs["n3"], days=days)))
    nodes = LinkedNodes(names, tls=tls)
    n2 = nodes.links["n2"]

    def ask(name: str) -> Deferred[bytes]:
        asks, asked = ("n2", name) if dials else (name, "n2")
        return nodes.links[asks].fetch(asked, b"?")

    def linked() -> int:
        return len(n2.open_links() if dials else n2.port.tunnels)

    try:
        assert isinstance(await outcome(ask("n3")), FetchFailed)
        assert isinstance(await outcome(ask("n1")), bytes)
        authority.revoke(pairs["n3"], days=days)
        read_again(nodes, "n2")
        await eventually(lambda: linked() == 1)
        authority.revoke(pairs["n3"], pairs["n1"], days=days)
        read_again(nodes, "n2")
        await eventually(lambda: linked() == 0)
        assert isinstance(await outcome(ask("n1")), FetchFailed)
    finally:
        await nodes.close()


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (None, "no authority of ca has signed"),
        (b"x", "holds no list"),
        (b"-----BEGIN X509 CRL-----\nAA\n-----END X509 CRL-----\n", "damaged list"),
    ],
)
def test_unusable_lists(authority: Authority, tmp_path: Path, content: bytes | None, words: str) -> None:
    """A list of another authority revokes nothing: it is a fault, at a check and at a start."""
    other = tmp_path / "other"
    other.mkdir()
    crl = Authority(other, "cluster").revoke()
    if content is not None:
        crl.write_bytes(content)
    tls = attrs.evolve(link_tls(authority, authority.issue("n1")), crl=str(crl))
    with pytest.raises(UnusableCertificateError, match=words):
        LinkTls(tls).reload()
    flags = {f"cluster.tls.{name}": str(getattr(tls, name)) for name in ("cert", "key", "ca", "crl")}
    with pytest.raises(ConfigFaults, match=r"cluster\.tls\.crl"):
        load_node(None, flags)


def test_unusable_files(authority: Authority, tmp_path: Path) -> None:
    """A file that cannot be used is named, whichever of the three it is."""
    one, two = authority.issue("one"), authority.issue("two")
    missing = str(tmp_path / "missing.pem")
    ca = str(authority.ca)
    for cert, key, root, path in (
        (missing, str(one.key), ca, missing),
        (str(one.cert), missing, ca, missing),
        (str(one.cert), str(one.key), missing, missing),
        (str(one.cert), str(two.key), ca, str(two.key)),
        (str(one.cert), str(one.key), str(one.key), str(one.key)),
    ):
        with pytest.raises(UnusableCertificateError) as caught:
            LinkTls(ClusterTlsConfig(cert=cert, key=key, ca=root)).reload()
        assert caught.value.path == path
