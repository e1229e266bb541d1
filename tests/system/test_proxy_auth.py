"""A proxy port that authenticates its clients: real nodes, curl, WebSockets; on one node, and on two with TLS."""

from __future__ import annotations

import asyncio
import json
import signal
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import jwt
import pytest
import websockets.asyncio.client
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from pico_twisted.core.access.credentials_file import hash_of
from tests.peers.pipe import PATIENCE_S
from tests.system.service import answer
from tests.system.shared import Shared, sharing_stack
from tests.system.stack import Stack
from tests.system.test_upgrades import websocket_echo
from tools.stage.certificates import Tls

CLIENT = "spiffe://tests/client"
SECRET = "s3cr3t"
MINE, OTHERS, SHORT_LIVED = (f"pico_{SECRET}_{name}" for name in ("mine", "others", "short"))


def signed(**claims: Any) -> str:
    """A JWT of the issuer that the nodes know."""
    return jwt.encode({"sub": "ci@tests", "exp": time.time() + 3600, **claims}, KEY, "EdDSA")


KEY = Ed25519PrivateKey.generate()


@pytest.fixture(scope="module", params=["plain", "two-tls"])
def running_guarded(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory, certificates: Tls
) -> Iterator[Shared[Stack]]:
    """Nodes whose proxy ports know three tokens, a JWT's key and, with TLS, a client certificate."""
    directory = tmp_path_factory.mktemp("credentials")
    rules = {"mine": "connect:svc-* connect:peer-*", "others": "connect:other-*", "short": "connect:svc-*"}
    tokens = directory / "tokens"
    tokens.write_text(
        "".join(
            f"{name} sha256:{hash_of(token.encode()).hex()} {rules[name]}\n"
            for name, token in zip(rules, (MINE, OTHERS, SHORT_LIVED), strict=True)
        )
    )
    key = directory / "jwt.pem"
    key.write_bytes(KEY.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo))
    proxy: dict[str, Any] = {"auth": {"tokens_file": str(tokens), "jwt": {"keys": [str(key)]}}, "access_log": True}
    if request.param == "two-tls":
        known = directory / "certificates"
        known.write_text(f"{CLIENT} connect:svc-*\n")
        proxy["auth"]["certificates_file"] = str(known)
        proxy["tls"] = {"client_ca": str(certificates.authority.ca)}
    yield from sharing_stack(request.param, tmp_path_factory, certificates, {"proxy": proxy})


@pytest.fixture
def stack(running_guarded: Shared[Stack]) -> Iterator[Stack]:
    """The nodes; afterwards no token may stand in what the processes wrote, nor have reached a service."""
    result = running_guarded.get()
    result.begin()
    yield result
    assert SECRET.encode() not in result.service.received
    assert not any(SECRET in process.output for process in result.processes)
    result.end()


CREDENTIALS: dict[str, Callable[[], tuple[str, ...]]] = {
    "field": lambda: ("-H", f"x-pico-authorization: Bearer {MINE}"),
    "bare": lambda: ("-H", f"x-pico-authorization: {MINE}", "-H", "Authorization: Basic for-the-service"),
    "authorization": lambda: ("--oauth2-bearer", MINE),
    "jwt": lambda: ("--oauth2-bearer", signed(pico={"rules": ["connect:svc-*"]})),
}


@pytest.mark.parametrize("shown", CREDENTIALS)
def test_who_is_let_in(stack: Stack, shown: str) -> None:
    """curl with a credential gets its service's answer, which saw no credential but one of its own; the log has who it
    was, and over TLS that HTTP/2 was spoken."""
    got = stack.curl_endpoint(f"/{shown}", "--http2", *CREDENTIALS[shown](), "--data", "a=1")
    assert (got.status, got.body) == (200, b"hello from the service\n")
    request = stack.service.wait_request()
    assert request.body == b"a=1" and request.get("x-pico-authorization") is None
    assert request.get("authorization") == (b"Basic for-the-service" if shown == "bare" else None)
    stack.node.wait_output(f'"target":"/{shown}"')
    (line,) = [record for record in stack.node.records if record.get("target") == f"/{shown}"]
    assert line["subject"] == ("ci@tests" if shown == "jwt" else "mine")
    assert line["protocol"] == ("HTTP/2.0" if stack.tls else "HTTP/1.1")


def test_a_body_that_comes_while_a_signature_is_checked(stack: Stack) -> None:
    """It reaches the service whole."""
    body = bytes(range(256)) * 10_000
    bearer = signed(jti="first shown with a body", pico={"rules": ["connect:svc-*"]})
    shown = ("--oauth2-bearer", bearer, "-H", "Expect:", "--data-binary", "@-")
    assert stack.curl_endpoint("/", *shown, data=body).status == 200
    assert stack.service.wait_request().body == body


@pytest.mark.parametrize(
    ("arguments", "status", "code"),
    [
        ((), 401, "missing"),
        (("-u", "mine:secret"), 401, "missing"),
        (("-H", "x-pico-authorization: Bearer nobody"), 401, "unknown"),
        (("--oauth2-bearer", MINE + "x"), 401, "unknown"),
        (("-H", f"x-pico-authorization: {MINE}, {MINE}"), 401, "malformed"),
        (("-H", f"x-pico-authorization: {MINE}", "-H", f"x-pico-authorization: {MINE}"), 400, "bad-request"),
        (("-H", f"x-pico-authorization: {OTHERS}"), 403, "not-allowed"),
    ],
)
def test_who_is_not(stack: Stack, arguments: tuple[str, ...], status: int, code: str) -> None:
    """Anybody else is told why, the same for endpoints that are served and that are not, and no service hears of it."""
    told = []
    for endpoint in (stack.endpoint, "svc-none"):
        got = stack.curl("/", "-H", f"x-pico-endpoint: {endpoint}", "-H", "x-request-id: r", *arguments)
        got.headers.pop("date")
        told.append((got.status, got.headers, got.body))
        assert got.headers["x-pico-error"] == f"{stack.node.name}; {code}"
        assert ("www-authenticate" in got.headers) is (status != 400)
    assert told[0] == told[1] and told[0][0] == status
    assert stack.service.connections == []


def test_jwts_that_do_not_count(stack: Stack) -> None:
    """Expired, without a rule, signed by somebody else, or by nobody: refused, with what to do."""
    rules = {"rules": ["connect:*"]}
    foreign = jwt.encode({"sub": "x", "pico": rules}, Ed25519PrivateKey.generate(), "EdDSA")
    unsigned = jwt.encode({"sub": "x", "pico": rules}, None, "none")  # type: ignore[arg-type]  # as attackers do
    for bearer, code in (
        (signed(pico=rules, exp=time.time() - 3600), "expired"),
        (signed(), "not-allowed"),
        (foreign, "signature"),
        (unsigned, "algorithm"),
    ):
        got = stack.curl_endpoint("/", "-H", f"x-pico-authorization: {bearer}")
        assert (got.status, got.json["code"]) == (403 if code == "not-allowed" else 401, code)
    assert stack.service.connections == []


def test_a_client_certificate(stack: Stack, certificates: Tls) -> None:
    """One of the authority lets in, over either version of HTTP; the token for the service that comes with it reaches
    the service."""
    if stack.tls is None:
        assert stack.curl_endpoint("/", "--oauth2-bearer", "for-the-service").json["code"] == "unknown"
        return
    for name, status in ((CLIENT, 200), ("spiffe://tests/stranger", 401)):
        pair = certificates.authority.issue("client", (name,), client=True)
        shown = ("--cert", str(pair.cert), "--key", str(pair.key))
        for version, spoken in (("--http1.1", "HTTP/1.1"), ("--http2", "HTTP/2")):
            got = stack.curl_endpoint("/", version, *shown, "--oauth2-bearer", "for-the-service")
            assert (got.status, got.heads[-1][0].split(" ")[0]) == (status, spoken)
    assert [request.get("authorization") for request in stack.service.requests] == [b"Bearer for-the-service"] * 2


def test_a_websocket_of_a_browser(stack: Stack) -> None:
    """It shows its token among the subprotocols; a service that knows no subprotocol is no trouble."""
    stack.service.script = websocket_echo
    scheme = "wss" if stack.tls else "ws"

    async def chat(own: tuple[str, ...]) -> None:
        async with websockets.asyncio.client.connect(
            f"{scheme}://127.0.0.1:{stack.node.ports.proxy}/",
            additional_headers={"x-pico-endpoint": stack.endpoint},
            subprotocols=[websockets.Subprotocol(name) for name in ("pico", f"pico.bearer.{MINE}", *own)],
            ssl=stack.tls.context if stack.tls else None,
            proxy=None,
        ) as client:
            assert client.subprotocol == (*own, "pico")[0]
            await client.send("hello")
            assert await client.recv() == "hello"

    for own in ((), ("chat",)):
        asyncio.run(asyncio.wait_for(chat(own), PATIENCE_S))


def test_an_agent_of_version_1_sees_no_token(stack: Stack) -> None:
    """Its requests go whole, and without what was shown here."""
    seen: list[bytes] = []

    def serve(request: bytes) -> bytes:
        seen.append(request)
        return answer(b"ok")

    _, endpoint = stack.v1_agent(serve)
    for shown in ("field", "authorization"):
        got = stack.curl("/", "-H", f"x-pico-endpoint: {endpoint}", *CREDENTIALS[shown]())
        assert (got.status, got.body) == (200, b"ok")
    assert len(seen) == 2 and SECRET.encode() not in b"".join(seen)


def test_a_token_that_is_taken_away(stack: Stack) -> None:
    """After a reload its next request is refused, on the connection that it has, too; others go on."""
    client, other = stack.connect(), stack.connect()

    def ask(connection: Any, token: str) -> tuple[int, bytes]:
        connection.send(stack.head("GET / HTTP/1.1", f"x-pico-authorization: {token}"))
        response = connection.read_response()
        return response.status, response.body

    assert ask(client, SHORT_LIVED)[0] == ask(other, MINE)[0] == 200
    file = Path(stack.node.settings["proxy"]["auth"]["tokens_file"])
    file.write_text("".join(line for line in file.read_text().splitlines(True) if not line.startswith("short ")))
    stack.node.signal(signal.SIGHUP)
    stack.node.wait_output("who may use proxy")
    status, body = ask(client, SHORT_LIVED)
    assert (status, json.loads(body)["code"]) == (401, "unknown")
    assert ask(other, MINE)[0] == 200
    assert b'pico_auth_total{port="proxy",result="unknown"}' in stack.node.admin.get("/metrics")[2]
