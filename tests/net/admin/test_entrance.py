"""The entrance of the admin port: who comes in to which routes, as whom, and what is told to everybody else."""

from __future__ import annotations

import contextlib
import http.client
import json
import socket
import ssl
import struct
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives.serialization import Encoding
from twisted.internet.defer import Deferred
from twisted.internet.threads import deferToThread

from pico_twisted.config import ServerTlsConfig
from pico_twisted.core.access.subject import Reason
from pico_twisted.net.admin.shapes.paths import OPERATOR, RELOAD_PATH
from pico_twisted.net.tls.port_context import ServerContext
from tests.doubles.gate import ToldGate, subject
from tests.net.admin.admin_fakes import Serve, Served, access, agent_app, node_app
from tests.net.in_reactor import DEADLINE_S, in_reactor, until
from tools.stage.certificates import make

READER, OPERATES, NOBODY = b"reader's token", b"operator's token", b"agent's token"
OPEN = ("/health", "/ready")


def gate(*, slow: bool = False) -> ToldGate:
    """A reader, an operator, and somebody with rules for something else."""
    known = {
        READER: subject("reader", "admin:read"),
        OPERATES: subject("operator", "admin:operate"),
        NOBODY: subject("agent", "listen:*", "connect:*"),
    }
    return ToldGate(known, slow=slow)


def bearer(token: bytes) -> dict[str, str]:
    return {"authorization": f"Bearer {token.decode()}"}


async def paths_of(served: Served) -> tuple[list[str], list[str]]:
    """The paths that the port says it has: those that show something, and those that change something."""
    _, _, body = await served.ask("/")
    found = json.loads(body)
    return [path.replace("<id>", "local") for path in found["routes"]], list(found["changing"])


@pytest.mark.parametrize("app", [node_app, agent_app])
@in_reactor
async def test_every_route_is_behind_it(app: Any, serve: Serve) -> None:
    """Whatever the port has: strangers see none of it but health and readiness, readers change nothing of it."""
    shown, changing = await paths_of(serve(app()))
    served = serve(app(admits=access(gate())))
    assert len(shown) > 4 and RELOAD_PATH in changing
    for path in (*shown, *changing, "/nothing", "/ready?forward=n2", "/login"):
        for fields in ({}, bearer(b"no such token"), {"authorization": "Basic YTpi"}, {OPERATOR: "me"}):
            code, headers, body = await served.ask(path, headers=fields)
            assert code == (200 if path in OPEN else 401), path
            if code == 401:
                assert headers["www-authenticate"].startswith("Bearer")
                assert list(json.loads(body)) == ["error"]
        code, _, _ = await served.ask(path, headers=bearer(NOBODY))
        assert code == (200 if path in OPEN else 403), path
        code, _, _ = await served.ask(path, headers=bearer(READER))
        assert code not in (401, 403), path
        for method in ("POST", "PUT", "DELETE", "OPTIONS", "BREW"):
            if path != "/login":
                code, _, _ = await served.ask(path, method, headers=bearer(READER))
                assert code == 403, (method, path)
                code, _, _ = await served.ask(path, method, headers={OPERATOR: "me"})
                assert code == 401, (method, path)
    for path in changing:
        code, _, body = await served.ask(path, "POST", headers=bearer(OPERATES))
        assert code not in (401, 403, 405), (path, body)
    for path in shown:
        code, _, _ = await served.ask(path, headers=bearer(OPERATES))
        assert code == 200


@in_reactor
async def test_refusals_are_counted(serve: Serve) -> None:
    """Each by its reason, at the gate."""
    asked = gate()
    served = serve(node_app(admits=access(asked)))
    asked.ended["reader"] = Reason.REVOKED
    for fields in ({}, bearer(b"x"), bearer(NOBODY), bearer(READER)):
        await served.ask("/metrics", headers=fields)
    assert [reason for reason, _ in asked.refusals] == [
        Reason.MISSING,
        Reason.UNKNOWN,
        Reason.NOT_ALLOWED,
        Reason.REVOKED,
    ]


@in_reactor
async def test_a_signature_is_waited_for(serve: Serve) -> None:
    """And whoever leaves meanwhile disturbs nothing."""
    asked = gate(slow=True)
    served = serve(node_app(admits=access(asked)))
    waiting = Deferred.fromCoroutine(served.ask("/status/cluster/nodes", headers=bearer(READER)))
    await until(lambda: len(asked.waiting) == 1)
    with socket.create_connection(("127.0.0.1", served.number)) as client:
        client.sendall(b"GET /metrics HTTP/1.0\r\nAuthorization: Bearer reader's token\r\n\r\n")
        await until(lambda: len(asked.waiting) == 2)
        client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))  # close with a reset
    await until(lambda: len(served.site.open) == 1)
    asked.answer()
    code, _, _ = await waiting
    assert code == 200


@in_reactor
async def test_a_certificate_is_a_credential(serve: Serve, tmp_path: Path) -> None:
    """Of the client, verified by the port; and a change by it alone has to be meant, since browsers show it unasked."""
    authority = make(tmp_path, "authority", authority=True)
    server = make(tmp_path, "server", issuer=authority)
    client = make(tmp_path, "client", issuer=authority, client=True)
    known = ToldGate({client.cert.public_bytes(Encoding.DER): subject("ann", "admin:operate")})
    tls = ServerTlsConfig(cert=server.cert_file, key=server.key_file, client_ca=authority.cert_file)
    served = serve(node_app(admits=access(known)), tls=ServerContext(tls))

    def ask(method: str, fields: dict[str, str], *, shows: bool) -> int:
        context = ssl.create_default_context(cafile=authority.cert_file)
        if shows:
            context.load_cert_chain(client.cert_file, client.key_file)
        connection = http.client.HTTPSConnection("localhost", served.number, context=context, timeout=DEADLINE_S)
        with contextlib.closing(connection):
            connection.request(method, RELOAD_PATH if method == "POST" else "/status/cluster/nodes", headers=fields)
            return connection.getresponse().status

    host = f"localhost:{served.number}"
    cases: list[tuple[str, dict[str, str], bool, int]] = [
        ("GET", {}, True, 200),
        ("GET", {}, False, 401),
        ("POST", {}, True, 403),
        ("POST", {"origin": f"http://{host}"}, True, 403),
        ("POST", {"authorization": "Basic YTpi"}, True, 403),
        ("POST", {OPERATOR: "picoctl"}, True, 200),
        ("POST", {"origin": f"https://{host}"}, True, 200),
        ("POST", {OPERATOR: "picoctl"}, False, 401),
    ]
    for method, fields, shows, expected in cases:
        assert await deferToThread(ask, method, fields, shows=shows) == expected, (method, fields)


class TestOrigins:
    """A page in an operator's browser, with and without authentication."""

    @pytest.mark.parametrize(
        "host",
        [
            *("evil.example", "evil.example:8001", "localhost.evil.example", "[::1", "a@b", ""),
            *("evil@localhost", "localhost#evil", "[::1].evil", "localhost:evil"),  # which lenient readers take
        ],
    )
    @in_reactor
    async def test_a_name_that_is_not_ours(self, host: str, serve: Serve) -> None:
        """A stranger's name that has our address, as DNS rebinding makes it, sees nothing; the words name the key."""
        for admits in (access(), access(gate())):
            served = serve(node_app(admits=admits))
            for path in ("/", "/metrics", "/login", "/nothing", "/ready?forward=n2"):
                code, _, body = await served.ask(path, headers={"host": host, **bearer(OPERATES)})
                assert code == 421 and "admin.hosts" in json.loads(body)["error"]
            code, _, _ = await served.ask(RELOAD_PATH, "POST", headers={"host": host, OPERATOR: "me"})
            assert code == 421

    @pytest.mark.parametrize(
        "host",
        [
            "127.0.0.1",
            "127.0.0.1:80",
            "[::1]:8001",
            "10.1.2.3",
            "localhost",
            "LOCALHOST.:1",
            "node1.example",
            "NODE1.Example:99",
        ],
    )
    @in_reactor
    async def test_names_that_are(self, host: str, serve: Serve) -> None:
        """Any address, the machine itself, and what an operator gave; not for load balancers, which may ask by any."""
        served = serve(node_app(admits=access(hosts=["node1.example"])))
        for name in (host, socket.gethostname()):
            code, _, _ = await served.ask("/metrics", headers={"host": name})
            assert code == 200
        assert (await served.say(b"GET /metrics HTTP/1.0\r\n\r\n"))[9:12] == b"200"
        for path in OPEN:
            code, _, _ = await served.ask(path, headers={"host": "balancer.example"})
            assert code == 200

    @pytest.mark.parametrize(
        "fields",
        [
            {"origin": "http://evil.example"},
            {"origin": "null"},
            {"origin": "http://127.0.0.1:1"},
            {"origin": "http://localhost:{port}"},
            {"origin": "ftp://127.0.0.1:{port}"},
            {"sec-fetch-site": "cross-site"},
            {"sec-fetch-site": "same-site", "sec-fetch-mode": "no-cors", "sec-fetch-dest": "script"},
            {"sec-fetch-site": "cross-site", "sec-fetch-mode": "navigate", "sec-fetch-dest": "iframe"},
            {"sec-fetch-site": "new-words"},
        ],
        ids=lambda fields: "-".join(fields.values()),
    )
    @in_reactor
    async def test_pages_of_strangers(self, fields: dict[str, str], serve: Serve) -> None:
        """Other hosts, other ports of this machine, frames: nothing at all, and no answer that they may read."""
        for admits in (access(), access(gate())):
            served = serve(node_app(admits=admits))
            sent = {name: value.replace("{port}", str(served.number)) for name, value in fields.items()}
            for path, method in (("/", "GET"), ("/health", "GET"), (RELOAD_PATH, "POST"), (RELOAD_PATH, "OPTIONS")):
                code, headers, _ = await served.ask(path, method, headers={**sent, OPERATOR: "me", **bearer(OPERATES)})
                assert code == 403
                assert not any(name.startswith("access-control") for name in headers)

    @in_reactor
    async def test_a_link_leads_here(self, serve: Serve) -> None:
        """From another site a person may come by a link, to look; and a page of the port itself may ask."""
        served = serve()
        link = {"sec-fetch-site": "cross-site", "sec-fetch-mode": "navigate", "sec-fetch-dest": "document"}
        for fields in (link, {"origin": served.url, "sec-fetch-site": "same-origin"}, {"sec-fetch-site": "none"}):
            code, _, _ = await served.ask("/", headers=fields)
            assert code == 200
        code, _, _ = await served.ask("/", "POST", headers=link)
        assert code == 403


@in_reactor
async def test_every_answer_tells_browsers(serve: Serve) -> None:
    """To keep nothing, to guess no type, to tell nobody where they were, and to show it in no frame."""
    served = serve(node_app(admits=access(gate())))
    answers = [
        await served.say(b"GET %b HTTP/1.0\r\n%b\r\n" % (path, fields))
        for path in (b"/health", b"/metrics", b"/login", b"/nothing", b"/%FF", b"//")
        for fields in (b"", b"Accept: text/html\r\n", b"Authorization: Bearer reader's token\r\n", b"Host: evil\r\n")
    ]
    answers.append(await served.say(b"nonsense\r\n\r\n"))
    answers.append(await served.say(b"POST / HTTP/1.0\r\nContent-Length: 70000\r\n\r\n" + bytes(70000)))
    for answer in answers:
        head = answer.partition(b"\r\n\r\n")[0].lower()
        assert head.startswith(b"http/1.")
        for field in (b"cache-control: no-store", b"x-content-type-options: nosniff", b"referrer-policy: same-origin"):
            assert field in head
        assert b"content-security-policy: default-src 'none'; " in head and b"frame-ancestors 'none'" in head


@pytest.mark.parametrize(
    "name", ["Host", "Origin", "Cookie", "Authorization", "Accept", "Sec-Fetch-Site", "X-Pico-Operator", "Upgrade"]
)
@in_reactor
async def test_bytes_of_any_kind(name: str, serve: Serve) -> None:
    """In a field that is looked at, bytes that are no UTF-8 are one more value, and no fault of ours."""
    for admits in (access(), access(gate())):
        served = serve(node_app(admits=admits))
        for value in (
            b"\xff\xfe",
            b"Bearer \xff",
            b"pico-node \xff a b c d",
            b"pico-session-1=\xff; \xe9",
            b"http://\xff",
        ):
            for line in (b"GET /nothing", b"POST /reload", b"POST /login"):
                answer = await served.say(line + b" HTTP/1.0\r\n%b: %b\r\n\r\n" % (name.encode(), value))
                assert answer[9:12] in (b"200", b"401", b"403", b"404", b"421"), (value, line, answer[:100])


@in_reactor
async def test_an_agent_that_came_to_the_wrong_port(serve: Serve) -> None:
    """Is told so by whatever name it came, and not that it is a stranger here; curl's offer of HTTP/2 is none of it."""
    fields = {"connection": "Upgrade", "host": "node.example", "authorization": "Bearer agent's"}
    for admits in (access(), access(gate())):
        served = serve(node_app(admits=admits))
        for path in ("/pico/v1/listener/web", "/"):
            code, _, body = await served.ask(path, headers={**fields, "upgrade": "WebSocket"})
            assert code == 404 and b"agents connect to its upstream port" in body
    code, _, _ = await served.ask("/metrics", headers={"connection": "Upgrade", "upgrade": "h2c", **bearer(READER)})
    assert code == 200
