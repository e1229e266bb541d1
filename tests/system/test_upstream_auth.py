"""An upstream port that authenticates, as agents of all kinds meet it: a real node, real TLS."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from pico_twisted.core.access.credentials_file import hash_of
from tests.doubles.jwt import bad_tokens, public_pem
from tests.peers import websocket
from tests.peers.pipe import Ended
from tests.peers.websocket import Answer
from tools.stage.certificates import Authority, Tls
from tools.stage.nodes import Node
from tools.stage.stage import open_stage

TOKEN = "pico_a-token-of-acme-that-stands-nowhere-in-a-log"


class Guarded:
    """A node that takes tokens, JWTs and client certificates, and an authority of the latter."""

    def __init__(self, node: Node, tls: Tls, clients: Authority) -> None:
        self.node = node
        self.tls = tls
        self.clients = clients

    def ask(self, endpoint: str, token: str | None = None, name: str | None = None) -> Answer:
        """What the node answers to a handshake with this token, and a certificate for this name."""
        context = self.tls.authority.client_context()
        if name is not None:
            pair = self.clients.issue("client", (name,), client=True)
            context.load_cert_chain(pair.cert, pair.key)
        shown = [] if token is None else [("Authorization", f"Bearer {token}")]
        try:
            opened, answer = websocket.connect(
                self.node.upstream,
                f"/pico/v1/listener/{endpoint}",
                subprotocols=("pico.v2",),
                headers=shown,
                tls=context,
            )
        except websocket.Refused as refused:
            return refused.answer
        opened.close()
        return answer


@pytest.fixture(scope="module")
def guarded(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Guarded]:
    """A node; at the end no credential stands in what it wrote."""
    folder = tmp_path_factory.mktemp("upstream-auth")
    tls, clients = Tls.make(folder), Authority(folder, "clients")
    (folder / "tokens").write_text(f"acme sha256:{hash_of(TOKEN.encode()).hex()} listen:acme-*\n")
    (folder / "certificates").write_text("spiffe://acme/web listen:acme-web\nagent.acme.example listen:acme-*\n")
    (folder / "key.pem").write_bytes(public_pem())
    auth = {
        "tokens_file": str(folder / "tokens"),
        "certificates_file": str(folder / "certificates"),
        "jwt": {"keys": [str(folder / "key.pem")], "audience": "pico", "issuer": "us"},
    }
    with open_stage(folder, tls) as stage:
        node = stage.node(settings={"upstream": {"auth": auth, "tls": {"client_ca": str(clients.ca)}}})
        yield Guarded(node, tls, clients)
        assert TOKEN not in node.output and "eyJ" not in node.output
        assert stage.new_faults() == []


def code(answer: Answer) -> str:
    """The reason in an answer, or `opened`; with whatever else a refusal has to have."""
    if answer.status == 101:
        return "opened"
    told = json.loads(answer.body)["error"]
    assert told and "eyJ" not in told and "pico_" not in told
    assert answer.status in (401, 403) and (answer.get("www-authenticate") or "").startswith("Bearer")
    return (answer.get("x-pico-error") or "").rpartition(" ")[2]


@pytest.mark.parametrize("name", bad_tokens(0))
def test_a_bad_jwt_is_refused_with_its_reason(guarded: Guarded, name: str) -> None:
    """And the good one opens a session, of the endpoints that it names alone."""
    token, reason = bad_tokens(time.time())[name]
    assert code(guarded.ask("acme-web", token.decode())) == (reason or "opened")
    if not reason:
        assert code(guarded.ask("other-web", token.decode())) == "not-allowed"


def test_a_token_opens_sessions_of_its_endpoints(guarded: Guarded) -> None:
    """In any case of the ID; nobody else does, nor anybody without."""
    assert [code(guarded.ask(name, TOKEN)) for name in ("acme-web", "ACME-api", "acme", "other-web")] == [
        "opened",
        "opened",
        "not-allowed",
        "not-allowed",
    ]
    assert code(guarded.ask("acme-web", TOKEN + "x")) == "unknown"
    assert code(guarded.ask("acme-web")) == "missing"
    assert guarded.node.admin.metric("pico_auth_total", '{port="upstream",result="missing"}') >= 1


def test_a_certificate_opens_sessions_of_its_endpoints(guarded: Guarded) -> None:
    """By the name that its authority says, and beside a token by the token."""
    assert code(guarded.ask("acme-web", name="spiffe://acme/web")) == "opened"
    assert code(guarded.ask("acme-api", name="spiffe://acme/web")) == "not-allowed"
    assert code(guarded.ask("acme-api", name="agent.acme.example")) == "opened"
    assert code(guarded.ask("acme-web", name="spiffe://acme/other")) == "unknown"
    assert code(guarded.ask("acme-api", TOKEN, "spiffe://acme/web")) == "opened"
    assert code(guarded.ask("acme-web", "wrong", "spiffe://acme/web")) == "unknown"


def test_a_certificate_of_a_stranger_opens_nothing(guarded: Guarded, tmp_path: Path) -> None:
    """Whatever name it has."""
    strangers = Guarded(guarded.node, guarded.tls, Authority(tmp_path, "strangers"))
    with pytest.raises(Ended, match="UNKNOWN_CA"):
        strangers.ask("acme-web", name="spiffe://acme/web")
