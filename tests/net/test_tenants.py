"""A tenant is a prefix: `listen:acme-*` and `connect:acme-*` lead to nothing of `other`, however it is spelled.

The real ports of a node in memory, with their parsers and a file of tokens. Each thing that acme tries is tried with
the name of an endpoint that `other` serves, and with one that nobody does: what acme is told must be the same.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from twisted.internet.task import Clock

from pico_twisted.config import AuthConfig, UpstreamConfig
from pico_twisted.core.access.credentials_file import hash_of
from tests.doubles.node import MemoryNode
from tests.doubles.tunnel import FakeTunnel
from tests.net.doubles import register
from tests.net.proxy.proxy_client import Client
from tests.net.tunnel.websockets import RawPeer

TOKEN = b"token-of-acme"
SHOWN = b"x-pico-authorization: Bearer " + TOKEN
OWN, SERVED, UNSERVED = b"acme-web", b"other-web", b"other-nil"
_DATE = re.compile(rb"\r\n[Dd]ate: [^\r]*")


class Tenants:
    """A node where `acme` and `other` each have an agent; the file of tokens knows acme alone."""

    def __init__(self, directory: Path, **names: Any) -> None:
        tokens = directory / "tokens"
        tokens.write_text(f"acme sha256:{hash_of(TOKEN).hex()} listen:acme-* connect:acme-*\n")
        auth = AuthConfig(tokens_file=str(tokens))
        self.parts = MemoryNode(Clock(), auth=auth, upstream=UpstreamConfig(auth=auth), **names)
        self.tunnels = {name: register(self.parts, FakeTunnel(name.decode())) for name in (OWN, SERVED)}
        self.parts.tell("other-far", ["n2"])

    def ask(self, request: bytes) -> bytes:
        """What acme is told, without the time."""
        client = Client(request, parts=self.parts)
        told = client.taken()
        client.transport.receive_reset()
        return _DATE.sub(b"", told)

    def listen(self, handshake: bytes) -> tuple[bytes, bytes]:
        """The first line that acme is told at the upstream port, and the rest."""
        peer = RawPeer(self.parts, shake=False)
        peer.send_raw(handshake)
        line, _, rest = _DATE.sub(b"", peer.transport.clear()).partition(b"\r\n")
        peer.transport.receive_reset()
        return line, rest


@pytest.fixture(scope="module")
def tenants(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Tenants]:
    """The node."""
    made = Tenants(tmp_path_factory.mktemp("tenants"))
    yield made
    assert made.tunnels[SERVED].opened == []
    made.parts.stop()


NAME = b"{}"  # stands where the name of an endpoint does

_CASES = st.sampled_from([NAME, b"{upper}", b"{title}", b"{encoded}", OWN])
_ODD = [b" ", b"\t", b",", b", acme-web", b";", b"\x00", b"\xc2\xa0", b'"', b"%00", b".", b"*"]
_AROUND = st.one_of(st.just(b""), st.sampled_from(_ODD))
NAMES = st.builds(lambda before, name, after: before + name + after, _AROUND, _CASES, _AROUND)
"""An endpoint as people and attackers write it: in any case, encoded, in a list, quoted, with something around it."""

_TAILS = st.sampled_from(
    [
        b".example.com",
        b".example.com.",
        b".example.com:8000",
        b".example.com:",
        b".a,acme-web.a",
        b".1",
        b".",
        b":80",
        b"",
    ]
)
_USERS = st.sampled_from(
    [b"", b"", b"", b"acme-web@", b"acme-web.example.com@", b"u:p@", b"[", b"acme-web.", b"http://"]
)
HOSTS = st.builds(lambda user, name, tail: user + name + tail, _USERS, NAMES, _TAILS)
"""A Host, or the authority of a target."""

FIELDS = st.one_of(
    st.builds(lambda host: b"Host: " + host, HOSTS),
    st.builds(
        lambda name, value: name + value,
        st.sampled_from(
            [
                b"x-pico-endpoint: ",
                b"X-Pico-Endpoint:",
                b"X-PICO-ENDPOINT: ",
                b"x_pico_endpoint: ",
                b"x-pico-endpoint : ",
                b" x-pico-endpoint: ",
                b"x-pico-endpoint\t: ",
                b"x-pico-endpoint: acme-web\r\n ",
                b"x-pico-endpoint: acme-web\nx-pico-endpoint: ",
                b"x-pico-client-connection: ",
                b"Connection: x-pico-endpoint, ",
            ]
        ),
        NAMES,
    ),
    st.builds(
        lambda name, host: name + host,
        st.sampled_from([b"X-Forwarded-Host: ", b"Forwarded: host=", b"X-Original-Host: ", b"Referer: http://"]),
        HOSTS,
    ),
)
TARGETS = st.one_of(
    st.just(b"/"),
    st.builds(lambda host: b"http://" + host + b"/", HOSTS),
    st.builds(lambda name: b"/?x-pico-endpoint=" + name, NAMES),
    st.builds(lambda name: b"//" + name + b"/", NAMES),
)
VERSIONS = st.sampled_from([b"HTTP/1.1", b"HTTP/1.1", b"HTTP/1.0"])


def spelled(text: bytes, name: bytes) -> bytes:
    """The text with the name of an endpoint in its places."""
    encoded = b"%%%02x" % name[0] + name[1:]
    for place, form in ((NAME, name), (b"{upper}", name.upper()), (b"{title}", name.title()), (b"{encoded}", encoded)):
        text = text.replace(place, form)
    return text


def alike(told: bytes, name: bytes) -> bytes:
    """What is left of an answer when each form of the name is taken out: it may be told what was asked for."""
    return re.sub(re.escape(name), b"{}", told, flags=re.IGNORECASE)


@given(target=TARGETS, version=VERSIONS, fields=st.lists(FIELDS, min_size=1, max_size=4), data=st.data())
def test_no_spelling_reaches_an_endpoint_of_another_tenant(
    tenants: Tenants, target: bytes, version: bytes, fields: list[bytes], data: st.DataObject
) -> None:
    """Whatever names the endpoint, and however often: no call is opened, and the answer does not tell whether it is
    served."""
    place = data.draw(st.integers(0, len(fields)))
    lines = [b"GET " + target + b" " + version, b"X-Request-Id: r", *fields[:place], SHOWN, *fields[place:], b"", b""]
    before = len(tenants.tunnels[OWN].opened)
    served, unserved = (spelled(b"\r\n".join(lines), name) for name in (SERVED, UNSERVED))
    assert alike(tenants.ask(served), SERVED) == alike(tenants.ask(unserved), UNSERVED)
    assert tenants.tunnels[SERVED].opened == []
    for call in tenants.tunnels[OWN].opened[before:]:
        assert TOKEN not in call.first
        call.respond(b"HTTP/1.1 204 No Content\r\n\r\n", False) if not call.closed else None


HOSTS_OF_OTHERS = b"""
shop.example SHOP.example.:80 web.other.example 10.0.0.1 nobody.example a_.b.c localhost other-web.tunnel.example
x.other-web.tunnel.example 10.0.0.2 [::1]
""".split()
"""Those that lead to an endpoint of another tenant, and those that lead nowhere."""


@pytest.mark.parametrize("public_url", ["", "https://*.tunnel.example"])
def test_no_name_tells_where_it_leads(tmp_path: Path, public_url: str) -> None:
    """A host and a path that lead to an endpoint of another tenant, in whatever way, are as those that lead nowhere."""
    hosts = (
        ("shop.example", "", "other-web"),
        ("shop.example", "/api", "other-far"),
        ("*.other.example", "", "other-*"),
        ("10.0.0.1", "", "other-web"),
        ("own.example", "", "acme-web"),
        ("own.example", "/api", "acme-api"),
    )
    tenants = Tenants(tmp_path, hosts=hosts, public_url=public_url)
    told = set()
    for host in HOSTS_OF_OTHERS:
        for target in (b"/", b"/api/x", b"/a/../api", b"/%61pi", b"//api"):
            lines = (b"GET " + target + b" HTTP/1.1", b"Host: " + host, b"X-Request-Id: r", SHOWN, b"", b"")
            told.add(tenants.ask(b"\r\n".join(lines)))
    (answer,) = told
    assert answer.startswith(b"HTTP/1.1 403 ") and b"other" not in answer
    own = b"GET /%%61pi/../ HTTP/1.1\r\nHost: own.example\r\n%b\r\n\r\n" % SHOWN
    assert tenants.ask(own).startswith(b"HTTP/1.1 403 ")
    assert tenants.ask(own.replace(b"%61pi/..", b"")) == b"" and len(tenants.tunnels[OWN].opened) == 1
    assert tenants.tunnels[SERVED].opened == []
    tenants.parts.stop()


@pytest.mark.parametrize("endpoint", [SERVED, b"other-far", UNSERVED, b"OTHER-WEB"])
@pytest.mark.parametrize(
    "request_of",
    [
        b"GET / HTTP/1.1\r\nHost: a\r\nx-pico-endpoint: {}",
        b"GET / HTTP/1.1\r\nHost: {}.example.com",
        b"GET / HTTP/1.1\r\nHost: {}.example.com.:80",
        b"GET http://{}.example.com/ HTTP/1.1\r\nHost: acme-web.example.com",
        b"GET / HTTP/1.1\r\nHost: acme-web.example.com\r\nx-pico-endpoint: {}",
        b"GET / HTTP/1.1\r\nHost: {}.example.com\r\nConnection: Upgrade\r\nUpgrade: websocket",
    ],
)
def test_what_names_it_is_refused(tenants: Tenants, request_of: bytes, endpoint: bytes) -> None:
    """The spellings that do name it are refused as not allowed, wherever it is served."""
    line = spelled(request_of, endpoint) + b"\r\nX-Request-Id: r\r\n" + SHOWN + b"\r\n\r\n"
    told = tenants.ask(line)
    assert told.startswith(b"HTTP/1.1 403 ") and b"other" not in told.lower() and b"not-allowed" in told


_PATHS = st.sampled_from(
    [
        b"/pico/v1/listener/{name}",
        b"/pico/v1/listener/acme-web/../{name}",
        b"/pico/v1/listener/acme-web/{name}",
        b"/pico/v1/listener//{name}",
        b"/pico/v1/listener/{name}/",
        b"/pico/v1/listener/{name}?endpoint=acme-web",
        b"/pico/v1/listener/acme-web?endpoint={name}",
        b"/pico/v1/listener/acme-web%2f..%2f{name}",
        b"/pico/v1/../v1/listener/{name}",
        b"//node/pico/v1/listener/{name}",
        b"http://node/pico/v1/listener/{name}",
        b"http://{name}.example.com/pico/v1/listener/acme-web",
    ]
)


@given(path=_PATHS, name=NAMES, fields=st.lists(FIELDS, max_size=2))
def test_no_spelling_serves_an_endpoint_of_another_tenant(
    tenants: Tenants, path: bytes, name: bytes, fields: list[bytes]
) -> None:
    """An agent of acme registers what begins with acme alone, and is not told what of the rest is served."""
    told = []
    for endpoint in (SERVED, UNSERVED):
        lines = [
            b"GET " + path.replace(b"{name}", name) + b" HTTP/1.1",
            b"Host: node",
            b"Connection: Upgrade",
            b"Upgrade: websocket",
            b"Sec-WebSocket-Version: 13",
            b"Sec-WebSocket-Key: AAECAwQFBgcICQoLDA0ODw==",
            b"Authorization: Bearer " + TOKEN,
            *fields,
        ]
        line, rest = tenants.listen(spelled(b"\r\n".join(lines) + b"\r\n\r\n", endpoint))
        told.append(line if b" 101 " in line else line + alike(rest, endpoint))
        assert set(tenants.parts.cluster.registry.counts()) <= {"acme-web", "other-web"}
        assert tenants.parts.cluster.registry.counts()["other-web"] == 1
    assert told[0] == told[1]
