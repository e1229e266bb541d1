"""Agents that show who they are to real nodes: tokens, JWTs and certificates, at two nodes with TLS."""

from __future__ import annotations

import hmac
import http.client
import json
import os
import signal
import socket
import time
from base64 import urlsafe_b64encode
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import jwt
import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from pico_twisted.core.access.credentials_file import hash_of
from tests.peers import v1, websocket
from tests.peers.pipe import Ended
from tests.system.asking import Asking
from tests.system.cluster import Cluster
from tests.system.service import Connection, Service, answer
from tools.stage.asking import get
from tools.stage.certificates import Authority, Tls
from tools.stage.nodes import Agent, Node
from tools.stage.ports import HOST
from tools.stage.waiting import wait_until

SECRET = "s3cr3t"
ACME, OTHER = (f"pico_{SECRET}_{name}" for name in ("acme", "other"))
CERTIFICATE = "spiffe://tests/acme"
KEY = Ed25519PrivateKey.generate()
PUBLIC = KEY.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
LIFETIME_S = 6.0
"""How long a token lives whose end is waited for: a slow machine has to start an agent before that."""


def signed(*rules: str, ends_in_s: float = 3600.0, key: Any = KEY, algorithm: str = "EdDSA", **claims: Any) -> str:
    """A JWT of the issuer that the nodes know."""
    payload = {"sub": "jwt-acme", "aud": "pico", "exp": time.time() + ends_in_s, "pico": {"rules": rules}, **claims}
    return jwt.encode(payload, key, algorithm)


class Guarded:
    """Two nodes whose upstream ports know two tokens, a JWT's key and a client certificate."""

    def __init__(self, directory: Path, tls: Tls) -> None:
        self.directory = directory
        self.tls = tls
        self.tokens = directory / "tokens"
        self.write_tokens(acme=ACME, other=OTHER)
        known, key = directory / "certificates", directory / "jwt.pem"
        known.write_text(f"{CERTIFICATE} listen:acme-*\n")
        key.write_bytes(PUBLIC)
        auth = {
            "tokens_file": str(self.tokens),
            "certificates_file": str(known),
            "jwt": {"keys": [str(key)], "audience": "pico", "leeway": "0s"},
        }
        upstream = {"auth": auth, "tls": {"client_ca": str(tls.authority.ca)}}
        self.cluster = Cluster(directory, tls, {"upstream": upstream, "grace_period": "20s"})
        self.cluster.start("n1", "n2")

    @property
    def nodes(self) -> list[Node]:
        """Both."""
        return [self.cluster["n1"], self.cluster["n2"]]

    def write_tokens(self, **tokens: str) -> None:
        """Write the file of tokens, each with the rules of its tenant."""
        lines = [f"{name} sha256:{hash_of(token.encode()).hex()} listen:{name}-*\n" for name, token in tokens.items()]
        self.tokens.write_text("".join(lines))

    def agent(self, endpoint: str, service: Service, connect: dict[str, Any], *, wait: bool = True) -> Agent:
        """An agent with a session at each node."""
        settings = {"connect": {"connections": 2, **connect}}
        agent = self.cluster.stage.agent(
            self.nodes, {endpoint: service.address}, settings, name=f"agent-{endpoint}", wait=wait
        )
        if wait:
            for node in self.nodes:
                node.wait_endpoint(endpoint)
        return agent

    def file(self, token: str, name: str = "token") -> Path:
        """A file that holds a token, written as programs write it that renew tokens."""
        path = self.directory / name
        fresh = path.with_suffix(".new")
        fresh.write_text(token + "\n")
        os.replace(fresh, path)
        return path

    def shake(self, *fields: tuple[str, str], endpoint: str = "acme-1", pair: Any = None) -> tuple[int, str, str]:
        """A handshake of somebody. Returns the status, the code and the challenge."""
        context = self.tls.authority.client_context()
        if pair is not None:
            context.load_cert_chain(pair.cert, pair.key)
        try:
            agent = v1.Agent(self.nodes[0].upstream, endpoint, lambda _: None, tls=context, headers=fields)
        except websocket.Refused as refused:
            code = (refused.answer.get("x-pico-error") or "").partition("; ")[2]
            return refused.answer.status, code, refused.answer.get("www-authenticate") or ""
        agent.close()
        return 101, "", ""

    def ask(self, endpoint: str, node: Node) -> int:
        """A request to an endpoint. Returns the status."""
        return get(node.ports.proxy, "/", {"x-pico-endpoint": endpoint}, tls=self.tls.context).status


@pytest.fixture(scope="module")
def guarded(tmp_path_factory: pytest.TempPathFactory, certificates: Tls) -> Iterator[Guarded]:
    """The nodes. Afterwards no token may stand in what the processes wrote."""
    with ExitStack() as stack:
        found = Guarded(tmp_path_factory.mktemp("guarded"), certificates)
        stack.callback(found.cluster.close)
        yield found
        assert not any(SECRET in process.output for process in found.cluster.stage.processes)


BAD: dict[str, tuple[Any, int, str]] = {
    "nothing": ((), 401, "missing"),
    "wrong": ([("Authorization", "Bearer pico_wrong")], 401, "unknown"),
    "another scheme": ([("Authorization", f"Basic {ACME}")], 401, "unknown"),
    "twice": ([("Authorization", f"Bearer {ACME}")] * 2, 401, "unknown"),
    "too wide": ([("Authorization", f"Bearer {OTHER}")], 403, "not-allowed"),
    "expired": (lambda: signed("listen:acme-*", ends_in_s=-1), 401, "expired"),
    "another audience": (lambda: signed("listen:acme-*", aud="elsewhere"), 401, "audience"),
    "no rule": (lambda: signed("connect:acme-*"), 403, "not-allowed"),
    "signed by nobody": (lambda: signed("listen:*", key=None, algorithm="none"), 401, "algorithm"),
    "another key": (lambda: signed("listen:*", key=Ed25519PrivateKey.generate()), 401, "signature"),
    "the public key as a secret": (lambda: forged("listen:*"), 401, "algorithm"),
}


def forged(*rules: str) -> str:
    """A JWT signed as HS256 with the issuer's public key, which everybody has; PyJWT refuses to make one."""
    claims = {"sub": "x", "aud": "pico", "exp": int(time.time()) + 3600, "pico": {"rules": rules}}
    parts = [urlsafe_b64encode(json.dumps(part).encode()).rstrip(b"=") for part in ({"alg": "HS256"}, claims)]
    signature = hmac.digest(PUBLIC, b".".join(parts), "sha256")
    return b".".join([*parts, urlsafe_b64encode(signature).rstrip(b"=")]).decode()


@pytest.mark.parametrize("case", BAD)
def test_who_is_refused(guarded: Guarded, case: str) -> None:
    """Everybody but the right one, with a challenge where another credential would help, and nothing is registered."""
    shown, status, code = BAD[case]
    fields = [("Authorization", f"Bearer {shown()}")] if callable(shown) else shown
    told = [guarded.shake(*fields, endpoint=endpoint) for endpoint in ("acme-1", "acme-2")]
    assert told[0] == told[1] and told[0][:2] == (status, code)
    assert ("Bearer" in told[0][2]) is (status in (401, 403))
    assert not any("acme-1" in node.admin.endpoints() for node in guarded.nodes)


@pytest.mark.parametrize(
    ("name", "authority", "status"),
    [(CERTIFICATE, "ours", 101), ("spiffe://tests/stranger", "ours", 401), (CERTIFICATE, "another", 0)],
)
def test_certificates(guarded: Guarded, tmp_path: Path, name: str, authority: str, status: int) -> None:
    """One of the authority whose name is known; another authority's ends the TLS handshake."""
    issuer = guarded.tls.authority if authority == "ours" else Authority(tmp_path, "another")
    pair = issuer.issue("agent", (name,), client=True)
    if status:
        assert guarded.shake(pair=pair)[0] == status
    else:
        with pytest.raises(Ended, match="unknown ca"):
            guarded.shake(pair=pair)


@pytest.mark.parametrize("kind", ["token", "jwt", "certificate"])
def test_the_right_one_serves(guarded: Guarded, service: Service, kind: str) -> None:
    """And operators see who it is."""
    endpoint = f"acme-{kind}"
    if kind == "certificate":
        pair = guarded.tls.authority.issue("acme", (CERTIFICATE,), client=True)
        connect: dict[str, Any] = {"tls": {"cert": str(pair.cert), "key": str(pair.key)}}
    else:
        connect = {"token_file": str(guarded.file(ACME if kind == "token" else signed("listen:acme-*"), kind))}
    agent = guarded.agent(endpoint, service, connect)
    assert [guarded.ask(endpoint, node) for node in guarded.nodes] == [200, 200]
    (row,) = guarded.nodes[0].admin.json(f"/status/upstream/agents?endpoint={endpoint}")["sessions"]
    assert row["subject"] == {"token": "acme", "jwt": "jwt-acme", "certificate": CERTIFICATE}[kind]
    agent.stop()


def test_a_refused_agent_is_told_what_to_do_and_comes_with_the_next_token(guarded: Guarded, service: Service) -> None:
    """The node's words are in its log, and it does not wait for its next try once there is another token."""
    path = guarded.file(OTHER, "refused")
    agent = guarded.agent("acme-late", service, {"token_file": str(path)}, wait=False)
    agent.wait_output("the credential does not allow listen:acme-late: ask for a rule that does")
    guarded.file(ACME, "refused")
    agent.wait_output("connect.token_file has another token")
    for node in guarded.nodes:
        node.wait_endpoint("acme-late")
    agent.stop()


def test_a_session_outlives_its_token_when_the_next_one_was_shown(guarded: Guarded, service: Service) -> None:
    """The file with the token changes, and the sessions that are open go on, and no other ones are opened."""
    path = guarded.file(signed("listen:acme-*", ends_in_s=LIFETIME_S), "short")
    ends = time.time() + LIFETIME_S
    agent = guarded.agent("acme-lives", service, {"token_file": str(path)})
    guarded.file(signed("listen:acme-*", sub="next"), "short")
    for node in guarded.nodes:
        wait_until(
            lambda node=node: (
                [  # type: ignore[misc]
                    row["subject"] for row in node.admin.json("/status/upstream/agents?endpoint=acme-lives")["sessions"]
                ]
                == ["next"]
            ),
            "the new token to hold the session",
        )
    wait_until(lambda: time.time() > ends + 2.0, "the end of the first token")
    assert [guarded.ask("acme-lives", node) for node in guarded.nodes] == [200, 200]
    assert sum(record["message"] == "Registered" for record in agent.records) == 2
    agent.stop()


def test_a_renewed_certificate_is_shown_before_the_old_one_ends(guarded: Guarded, service: Service) -> None:
    """Sessions that were opened with it relieve those that there are, and no request notices."""
    pair = guarded.tls.authority.issue("renewed", (CERTIFICATE,), client=True)
    agent = guarded.agent("acme-renewed", service, {"tls": {"cert": str(pair.cert), "key": str(pair.key)}})
    load = Asking([node.proxy for node in guarded.nodes], "acme-renewed", tls=guarded.tls.context)
    try:
        load.wait_more(10)
        guarded.tls.authority.issue("renewed", (CERTIFICATE,), client=True)
        agent.wait_output("client certificate until")
        agent.wait_count('"message":"Registered"', 4)
        wait_until(
            lambda: [node.admin.endpoints().get("acme-renewed") for node in guarded.nodes] == [1, 1],
            "a session at each node",
        )
        load.wait_more(50)
        assert load.failures == []
    finally:
        load.stop()
    agent.stop()


def test_a_session_ends_with_its_token_and_what_is_in_progress_does_not(guarded: Guarded, service: Service) -> None:
    """A request that was there is answered after the end; the next one finds nobody, at both nodes."""
    seen: list[bool] = []

    def script(connection: Connection) -> None:
        connection.read_request()
        wait_until(lambda: seen, "the end of the token")
        connection.send(answer(b"late"))

    path = guarded.file(signed("listen:acme-*", ends_in_s=LIFETIME_S), "ends")
    agent = guarded.agent("acme-ends", service, {"token_file": str(path)})
    service.script = script
    context = guarded.tls.context
    client = http.client.HTTPSConnection("localhost", guarded.nodes[0].ports.proxy, context=context, timeout=30)
    client.request("GET", "/", headers={"x-pico-endpoint": "acme-ends"})
    service.wait_request()
    for node in guarded.nodes:
        node.wait_endpoint("acme-ends", 0)
    assert {guarded.ask("acme-ends", node) for node in guarded.nodes} <= {502, 503}
    seen.append(True)
    response = client.getresponse()
    assert (response.status, response.read()) == (200, b"late")
    agent.wait_output("the credential has expired: get a new one")
    agent.stop()


def test_a_token_that_is_taken_out_of_the_file_ends_its_sessions(guarded: Guarded, service: Service) -> None:
    """After a reload, at the node that was told; another tenant's session goes on."""
    mine = guarded.agent("acme-gone", service, {"token": ACME})
    others = guarded.agent("other-stays", service, {"token": OTHER})
    node = guarded.nodes[0]
    guarded.write_tokens(other=OTHER)
    node.signal(signal.SIGHUP)
    node.wait_endpoint("acme-gone", 0)
    mine.wait_output("the credential is not known here")
    assert guarded.nodes[1].admin.endpoints()["acme-gone"] == 1, "it was not told"
    assert node.admin.endpoints()["other-stays"] == 1 and guarded.ask("other-stays", node) == 200
    guarded.write_tokens(acme=ACME, other=OTHER)
    node.signal(signal.SIGHUP)
    mine.stop()
    others.stop()


def test_an_agent_of_version_1(guarded: Guarded) -> None:
    """It shows its token in the same field, and serves."""
    node = guarded.nodes[0]
    fields = (("Authorization", f"Bearer {ACME}"),)
    agent = v1.Agent(node.upstream, "acme-v1", lambda _: answer(b"old"), tls=guarded.tls.context, headers=fields)
    node.wait_endpoint("acme-v1")
    assert guarded.ask("acme-v1", node) == 200
    agent.close()


def test_a_thousand_stalled_handshakes(guarded: Guarded, service: Service) -> None:
    """In TLS, and behind it. Beside them, an honest agent registers and serves, and they are dropped in time."""
    node = guarded.nodes[0]
    with ExitStack() as stack:
        stalled = [stack.enter_context(socket.create_connection((HOST, node.ports.upstream))) for _ in range(1000)]
        for one in stalled[:300]:
            one.sendall(b"\x16\x03\x01")
        for one in stalled[300:600]:
            within = stack.enter_context(guarded.tls.context.wrap_socket(one, server_hostname="localhost"))
            within.sendall(b"GET /pico/v1/listener/acme-1 HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer ")
        agent = guarded.agent("acme-honest", service, {"token": ACME})
        assert guarded.ask("acme-honest", node) == 200
        for one in (stalled[0], stalled[-1], within):
            one.settimeout(60)
            try:
                while one.recv(4096):
                    pass
            except ConnectionError:
                pass
        agent.stop()
