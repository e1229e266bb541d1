"""The admin port: every route and error as an operator sees it, and what a bad client can make it hold."""

from __future__ import annotations

import http.client
import json
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import attrs
import pytest
from prometheus_client.parser import text_string_to_metric_families
from twisted.internet.address import IPv4Address
from twisted.internet.error import ConnectionDone
from twisted.internet.task import Clock
from twisted.internet.testing import StringTransport
from twisted.internet.threads import deferToThread
from twisted.python.failure import Failure

from pico_twisted.config import ServerTlsConfig
from pico_twisted.net.admin.shapes.agents import AgentDetail
from pico_twisted.net.admin.shapes.gossip import MAX_SUSPICION, GossipDetail, GossipRow
from pico_twisted.net.admin.shapes.nodes import NodeDetail, NodeRow
from pico_twisted.net.admin.shapes.paths import OPERATOR
from pico_twisted.net.admin.shapes.reading import ShapeError, read, to_json
from pico_twisted.net.admin.site import FIRST_S, KEEPALIVE_S, MAX_BODY_BYTES, MAX_CONNECTIONS, admin_site
from pico_twisted.net.observe.metrics import Metrics
from pico_twisted.net.tls.port_context import ServerContext
from tests.conftest import LoggedFailures
from tests.net.admin.admin_fakes import AGENT, DETAIL, GOSSIP, Serve, Status, agent_app, node_app
from tests.net.in_reactor import DEADLINE_S, in_reactor
from tools.stage.certificates import Authority

LOST = Failure(ConnectionDone())
ADDRESS = IPv4Address("TCP", "127.0.0.1", 4321)
CLOSE = {"connection": "close"}


class TestRoutes:
    @in_reactor
    async def test_index(self, serve: Serve) -> None:
        """`/` lists every route, and each one without a parameter is there."""
        served = serve()
        code, headers, body = await served.ask("/")
        assert code == 200
        assert headers["content-type"] == "application/json"
        assert headers["server"] == "pico"
        found = json.loads(body)
        assert found["component"] == "node"
        assert set(found["routes"]) == {
            "/",
            "/health",
            "/ready",
            "/metrics",
            "/status/cluster/nodes",
            "/status/cluster/nodes/<id>",
            "/status/cluster/endpoints",
            "/status/cluster/agents",
            "/status/upstream/agents",
            "/status/upstream/endpoints",
            "/sd",
            "/status/revocations",
            "/status/gossip/nodes",
            "/status/gossip/nodes/<id>",
        }
        assert set(found["parameters"]) == {"forward"}
        for route in found["routes"]:
            code, _, _ = await served.ask(route.replace("<id>", "local"))
            assert code == 200

    @in_reactor
    async def test_ready(self, serve: Serve) -> None:
        """`/ready` says 200 or 503 with the reason; `/health` goes on saying 200."""
        status = Status()
        served = serve(node_app(status))
        code, _, body = await served.ask("/ready")
        assert (code, json.loads(body)) == (200, {"status": "ready"})
        status.why_not = "draining"
        code, _, body = await served.ask("/ready")
        assert (code, json.loads(body)) == (503, {"error": "draining"})
        code, _, body = await served.ask("/health")
        assert (code, json.loads(body)) == (200, {"status": "ok"})

    @in_reactor
    async def test_status(self, serve: Serve) -> None:
        """The status routes have exactly the documented keys."""
        served = serve()
        row = {
            "id": "n1",
            "status": "active",
            "proxy_addr": "10.0.0.1:8000",
            "admin_addr": "10.0.0.1:8001",
            "gossip_addr": "",
            "version": "0.1.0",
            "intake": "",
            "endpoints": 2,
            "upstreams": 3,
            "link": "",
        }
        detail = {**row, "endpoints": {"web": 2, "api": 1}}
        del detail["upstreams"]
        detail["public_url"] = ""
        keys = {"status": {"value": "active", "version": 2}, "endpoint:web": {"value": 2, "version": 6}}
        gossip_row = {
            "id": "n1",
            "generation": 1790000000000,
            "status": "active",
            "local": True,
            "heartbeat": 42,
            "version": 7,
            "floor": 3,
            "entries": 2,
            "tombstones": 1,
            "suspicion": 0.0,
            "heard_s": 0.0,
        }
        gossip = {**gossip_row, "keys": keys}
        del gossip["entries"]
        nobody = {"sessions": [], "more": 0, "unanswered": {}}
        agents = {**nobody, "sessions": to_json(Status().sessions)}
        for path, expected in (
            ("/status/cluster/nodes", [row]),
            ("/status/cluster/nodes/local", detail),
            ("/status/cluster/nodes/n1", detail),
            ("/status/cluster/nodes/n%C5%93ud", detail),
            ("/status/cluster/endpoints", {"api": {"n1": 1}, "web": {"n1": 2}}),
            ("/status/cluster/agents", agents),
            ("/status/cluster/agents?endpoint=api", nobody),
            ("/status/upstream/agents", agents),
            ("/status/upstream/agents?endpoint=WEB", agents),
            ("/status/upstream/agents?endpoint=api", nobody),
            ("/status/upstream/endpoints", {"api": 1, "web": 2}),
            ("/status/upstream/endpoints?sort=no&x", {"api": 1, "web": 2}),
            ("/status/gossip/nodes", [gossip_row]),
            ("/status/gossip/nodes/local", gossip),
            ("/status/gossip/nodes/n1", gossip),
        ):
            code, headers, body = await served.ask(path)
            assert (code, json.loads(body)) == (200, expected)
            assert headers["content-type"] == "application/json"

    @in_reactor
    async def test_metrics(self, serve: Serve) -> None:
        """`/metrics` is what Prometheus can read."""
        metrics = Metrics("node")
        metrics.request_done(b"GET", 200, 0.01, 0, 5)
        served = serve(node_app(metrics=metrics))
        code, headers, body = await served.ask("/metrics")
        assert code == 200
        assert headers["content-type"] == "text/plain; version=0.0.4; charset=utf-8"
        names = {family.name for family in text_string_to_metric_families(body.decode())}
        assert {"pico_requests", "process_cpu_seconds", "python_info"} <= names

    @in_reactor
    async def test_agent(self, serve: Serve) -> None:
        """An agent's port has its health, its listeners, metrics and the index, and no status of a cluster."""
        served = serve(agent_app())
        code, _, body = await served.ask("/")
        assert code == 200
        assert json.loads(body)["component"] == "agent"
        assert set(json.loads(body)["routes"]) == {"/", "/health", "/ready", "/metrics", "/status"}
        assert json.loads(body)["parameters"] == {}
        assert (await served.ask("/health?forward=n2"))[0] == 200
        assert (await served.ask("/health"))[0] == 200
        assert b"pico_agent_connects_total 0.0" in (await served.ask("/metrics"))[2]
        assert (await served.ask("/status/cluster/nodes"))[0] == 404
        assert (await served.ask("/ready"))[0] == 200
        assert read(json.loads((await served.ask("/status"))[2]), AgentDetail) == AGENT

    @in_reactor
    async def test_agent_that_is_not_ready(self, serve: Serve) -> None:
        """503 says why, as at a node."""
        detail = attrs.evolve(AGENT, ready=False, reason="no listener is registered")
        served = serve(agent_app(detail))
        code, _, body = await served.ask("/ready")
        assert (code, json.loads(body)) == (503, {"error": "no listener is registered"})

    @in_reactor
    async def test_head(self, serve: Serve) -> None:
        """HEAD is answered like GET, with the length and without the body."""
        served = serve()
        request = b"%b /status/cluster/nodes HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n"
        whole = (await served.say(request % b"GET")).partition(b"\r\n\r\n")
        head = (await served.say(request % b"HEAD")).partition(b"\r\n\r\n")
        assert head[0].startswith(b"HTTP/1.1 200 OK\r\n")
        assert b"Content-Length: %d\r\n" % len(whole[2]) in head[0] + b"\r\n"
        assert head[2] == b""

    @in_reactor
    async def test_errors(self, serve: Serve, logged_failures: LoggedFailures) -> None:
        """Errors are JSON: 404 for unknown paths and nodes, 405 with Allow, 500 without a traceback."""
        served = serve()
        for method, path, status in (
            ("GET", "/nothing", 404),
            ("GET", "/health/", 404),
            ("GET", "/status", 404),
            ("GET", "/status/cluster/nodes/", 404),
            ("GET", "/status/cluster/nodes/other", 404),
            ("GET", "/status/cluster/nodes/%00", 404),
            ("GET", "/status/gossip", 404),
            ("GET", "/status/gossip/nodes/other", 404),
            ("POST", "/status/gossip/nodes", 403),
            ("GET", "/status/cluster/nodes/%FF", 400),
            ("GET", "/%C3%28", 400),
            ("POST", "/health", 403),
            ("DELETE", "/status/cluster/nodes/local", 405),
            ("OPTIONS", "/", 405),
            ("BREW", "/ready", 405),
            ("GET", "/status/cluster/nodes/broken", 500),
        ):
            code, headers, body = await served.ask(path, method, headers={OPERATOR: "me"} if status == 405 else {})
            assert (path, code) == (path, status)
            assert headers["content-type"] == "application/json"
            assert headers["server"] == "pico"
            assert list(json.loads(body)) == ["error"]
            assert b"fault of ours" not in body
            assert headers.get("allow") == ("GET, HEAD" if status == 405 else None)
        assert len(logged_failures.flush(RuntimeError)) == 1


class TestHttp:
    @in_reactor
    async def test_odd_requests(self, serve: Serve) -> None:
        """Odd but lawful requests are served: absolute-form, any Host, HTTP/1.0, a body, two in one packet."""
        served = serve()
        for request in (
            b"GET http://whatever.example/health HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n",
            b"GET /health HTTP/1.1\r\nHost: \xc3\xa4..b:port\r\nConnection: close\r\n\r\n",
            b"GET /health HTTP/1.0\r\n\r\n",
            b"GET /health HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\nContent-Length: 5\r\n\r\nhello",
            b"GET /health HTTP/1.1\r\nHost: x\r\n\r\nGET /health HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n",
        ):
            answer = await served.say(request)
            assert re.match(rb"HTTP/1\.[01] 200 OK\r\n", answer)
            assert answer.count(b'"status": "ok"') == request.count(b"GET")
        lines = (b"OPTIONS * HTTP/1.1", b"Host: localhost", b"X-Pico-Operator: me", b"Connection: close", b"", b"")
        assert (await served.say(b"\r\n".join(lines)))[9:12] == b"405"

    @in_reactor
    async def test_half_close(self, serve: Serve) -> None:
        """A client that ends its side right after its request gets the answer."""
        served = serve()
        answer = await served.say(b"GET /metrics HTTP/1.1\r\nHost: localhost\r\n\r\n", end=True)
        assert answer.startswith(b"HTTP/1.1 200 ")
        assert b"pico_requests_total" in answer
        assert await served.say(b"GET /metr", end=True) == b""

    @in_reactor
    async def test_malformed(self, serve: Serve) -> None:
        """What is no HTTP/1.1 gets a readable 400 and is closed."""
        served = serve()
        for request in (
            b"hello\r\n\r\n",
            b"GET / HTTP/2.0\r\n\r\n",
            b"GET / HTTP/1.1\r\nno colon\r\n\r\n",
            b"GET / HTTP/1.1\r\n" + b"X: y\r\n" * 600 + b"\r\n",
            b"GET /" + b"x" * 20000 + b" HTTP/1.1\r\n\r\n",
            b"GET / HTTP/1.1\r\nContent-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n",
        ):
            answer = await served.say(request)
            head, _, body = answer.partition(b"\r\n\r\n")
            assert head.startswith(b"HTTP/1.1 400 "), request[:40]
            assert json.loads(body)["error"].startswith("not an HTTP/1.1 request")
            length = re.search(rb"content-length: (\d+)", head)
            assert length is not None
            assert int(length[1]) == len(body)


class TestTls:
    @in_reactor
    async def test_over_tls(self, serve: Serve, tmp_path: Path) -> None:
        """The port serves HTTPS, many requests on a connection, and tells a plain client what it speaks."""
        authority = Authority(tmp_path)
        pair = authority.issue("admin")
        port = serve(tls=ServerContext(ServerTlsConfig(cert=str(pair.cert), key=str(pair.key)))).number

        def client() -> tuple[list[int], bytes]:
            secure = http.client.HTTPSConnection(
                "localhost", port, timeout=DEADLINE_S, context=authority.client_context()
            )
            codes = []
            for path, headers in (("/health", {}), ("/metrics", {}), ("/nothing", {}), ("/health", CLOSE)):
                secure.request("GET", path, headers=headers)
                answer = secure.getresponse()
                answer.read()
                codes.append(answer.status)
            secure.close()
            plain = http.client.HTTPConnection("localhost", port, timeout=DEADLINE_S)
            plain.request("GET", "/health")
            return codes, plain.getresponse().read()

        codes, refusal = await deferToThread(client)
        assert codes == [200, 200, 404, 200]
        assert json.loads(refusal) == {"error": "this port speaks TLS: use https"}


class TestBounds:
    def connect(self) -> tuple[Clock, Any, StringTransport]:
        clock = Clock()
        site = admin_site(node_app(), clock)
        transport = Transport()
        channel = site.buildProtocol(ADDRESS)
        channel.makeConnection(transport)
        return clock, channel, transport

    def test_bodies_are_dropped(self) -> None:
        """A huge body is read and dropped, in memory and on disk, and answered 413."""
        for head in (b"Content-Length: 100000000\r\n\r\n", b"Transfer-Encoding: chunked\r\n\r\n"):
            _, channel, transport = self.connect()
            channel.dataReceived(b"POST /health HTTP/1.1\r\nHost: localhost\r\n" + head)
            chunked = b"chunked" in head
            for _ in range(1000):
                piece = b"x" * 100_000
                channel.dataReceived(b"186a0\r\n" + piece + b"\r\n" if chunked else piece)
            if chunked:
                channel.dataReceived(b"0\r\n\r\n")
            assert transport.value().startswith(b"HTTP/1.1 413 ")
            assert channel.requests == []
            channel.connectionLost(LOST)

    def test_small_body(self) -> None:
        """A body within the limit makes no difference."""
        _, channel, transport = self.connect()
        body = b"x" * MAX_BODY_BYTES
        channel.dataReceived(
            b"GET /health HTTP/1.1\r\nHost: localhost\r\nContent-Length: %d\r\n\r\n" % len(body) + body
        )
        assert transport.value().startswith(b"HTTP/1.1 200 ")
        channel.connectionLost(LOST)

    @pytest.mark.parametrize(
        "request_", [b"", b"GET / HTTP/1.1\r\nX: ", b"PUT / HTTP/1.1\r\nContent-Length: 99999\r\n\r\n"]
    )
    def test_slow_requests(self, request_: bytes) -> None:
        """A request that is not complete in time is cut, however steadily its bytes come."""
        for before, within_s in ((b"", FIRST_S), (b"GET /health HTTP/1.1\r\n\r\n", KEEPALIVE_S)):
            clock, channel, transport = self.connect()
            channel.dataReceived(before)
            channel.dataReceived(request_)
            for _ in range(int(within_s) - 1):
                clock.advance(1)
                if request_:
                    channel.dataReceived(b"x")
            assert not transport.disconnecting
            clock.advance(1)
            assert transport.disconnecting
            channel.connectionLost(LOST)
            assert not clock.getDelayedCalls()

    def test_keep_alive(self) -> None:
        """Each answer gives the next request its full time."""
        clock, channel, transport = self.connect()
        for pause_s in (FIRST_S, KEEPALIVE_S, KEEPALIVE_S, KEEPALIVE_S, KEEPALIVE_S):
            clock.advance(pause_s - 1)
            channel.dataReceived(b"GET /health HTTP/1.1\r\nHost: localhost\r\n\r\n")
        assert transport.value().count(b"HTTP/1.1 200 ") == 5
        assert not transport.disconnecting
        channel.connectionLost(LOST)

    def test_connections(self) -> None:
        """The number of connections is limited; one that ends makes room."""
        site = admin_site(node_app(), Clock())
        channels = [self.of(site, ADDRESS.host) for _ in range(MAX_CONNECTIONS)]
        assert site.buildProtocol(ADDRESS) is None
        channels[7].connectionLost(LOST)
        assert site.buildProtocol(ADDRESS) is not None

    @pytest.mark.parametrize("flood", ["192.0.2.1", "2001:db8::{:x}"])
    def test_one_address_takes_not_all(self, flood: str) -> None:
        """Who comes from another one gets a place of theirs, the oldest that waits; who has as many does not. Whoever
        has an address of IPv6 has all of its network."""
        site = admin_site(node_app(), Clock())
        other = "192.0.2.2"
        channels = [self.of(site, flood.format(number)) for number in range(MAX_CONNECTIONS)]
        for number in range(MAX_CONNECTIONS // 2):
            assert self.of(site, other) is not None
            assert channels[number].transport.disconnecting
        assert self.of(site, other) is None and self.of(site, flood.format(MAX_CONNECTIONS)) is None
        assert self.of(site, "192.0.2.3") is not None

    def of(self, site: Any, host: str) -> Any:
        """A connection from an address."""
        address = IPv4Address("TCP", host, 4321)
        channel = site.buildProtocol(address)
        if channel is not None:
            channel.makeConnection(Transport(peerAddress=address))
        return channel


class Transport(StringTransport):
    """A StringTransport that can be aborted and says who its peer is."""

    def abortConnection(self) -> None:
        self.disconnecting = True


class TestShapes:
    def test_there_and_back(self) -> None:
        """What the port writes can be read back, also when a newer node adds keys."""
        assert read(json.loads(json.dumps(to_json(DETAIL))), NodeDetail) == DETAIL
        assert read(json.loads(json.dumps(to_json(GOSSIP))), GossipDetail) == GOSSIP
        assert read(json.loads(json.dumps(DETAIL.endpoints)), dict[str, int]) == DETAIL.endpoints
        rows = [DETAIL.row(), NodeRow(id="n2", status="draining", proxy_addr="a:1", admin_addr="b:2")]
        written = to_json(rows)
        written[0]["something new"] = 1
        assert read(written, list[NodeRow]) == rows
        others = [GOSSIP.row(), attrs.evolve(GOSSIP.row(), id="n2", local=False, suspicion=2.5, heard_s=None)]
        written = to_json(others)
        written[1]["something new"] = 1
        assert read(written, list[GossipRow]) == others

    def test_wrong(self) -> None:
        """What is something else is refused, whatever it is, and nothing is made to fit."""
        row, gossip = to_json(DETAIL.row()), to_json(GOSSIP)
        data: Any
        for data in (
            None,
            1,
            "x",
            b"x",
            {},
            [{}],
            [[]],
            [{"id": "n1"}],
            [{**row, "id": None}],
            [{**row, "endpoints": "2"}],
        ):
            with pytest.raises(ShapeError):
                read(data, list[NodeRow])
        for data in (
            None,
            [],
            "x",
            {},
            {**gossip, "keys": []},
            {**gossip, "keys": {"a": 1}},
            {**gossip, "keys": {"a": {"value": None, "version": 1}}},
            {**gossip, "keys": {"a": {"value": True, "version": 1}}},
            {**gossip, "generation": "1"},
            {**gossip, "local": 1},
            {**gossip, "heard_s": "now"},
        ):
            with pytest.raises(ShapeError):
                read(data, GossipDetail)
        counts: Any
        for counts in (None, [], {"a": "1"}, {"a": None}):
            with pytest.raises(ShapeError):
                read(counts, dict[str, int])

    def test_suspicion(self) -> None:
        """Suspicion is a number that JSON knows, however long a node has been silent."""
        told = to_json(attrs.evolve(GOSSIP.row(), suspicion=float("inf")))
        assert told["suspicion"] == MAX_SUSPICION
        assert json.loads(json.dumps(told, allow_nan=False))["suspicion"] == MAX_SUSPICION


def test_imports() -> None:
    """Only the app imports klein and with it the reactor."""
    program = (
        "import sys; import pico_twisted.net.admin.status, pico_twisted.net.admin.shapes, "
        "pico_twisted.net.observe.metrics, pico_twisted.net.observe.logs, pico_twisted.net.tls.server; "
        "sys.exit(any(name in sys.modules for name in ('twisted.internet.reactor', 'klein')))"
    )
    assert subprocess.run([sys.executable, "-c", program], check=False, timeout=60).returncode == 0
