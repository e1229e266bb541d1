"""The admin port, the metrics and the logs, as an operator sees them."""

from __future__ import annotations

import json
from typing import Any

import pytest

from tests.system.curl import curl
from tests.system.service import Service, answer
from tests.system.stack import Stack
from tests.system.wire import connect
from tools.stage.asking import Admin
from tools.stage.ports import free_port
from tools.stage.stage import Stage
from tools.stage.waiting import wait_until


def test_health_and_ready(stack: Stack) -> None:
    """Both are 200 on a running node, as JSON."""
    for path in ("/health", "/ready"):
        status, headers, body = stack.node.admin.get(path)
        assert (status, headers["content-type"]) == (200, "application/json")
        assert isinstance(json.loads(body), dict)


def test_curl_on_the_admin_port(stack: Stack) -> None:
    """curl reaches it, over TLS with its certificate checked."""
    scheme = "https" if stack.tls else "http"
    got = curl(f"{scheme}://127.0.0.1:{stack.node.ports.admin}/ready", directory=stack.directory, tls=stack.tls)
    assert (got.code, got.status) == (0, 200)


def test_the_index(stack: Stack) -> None:
    """GET / lists what is there."""
    status, _, body = stack.node.admin.get("/")
    assert status == 200
    for path in ("/health", "/ready", "/metrics", "/status/cluster/nodes", "/status/upstream/endpoints"):
        assert path in body.decode()


def test_endpoints(stack: Stack) -> None:
    """Registrations by endpoint: one more with each agent, and gone with it. Another node knows, and claims none."""
    peer, endpoint = stack.v2_agent()
    assert stack.agents_node.admin.endpoints()[endpoint] == stack.registrations()[endpoint] == 1
    other, _ = stack.v2_agent(endpoint)
    stack.wait_endpoint(endpoint, 2)
    if stack.two_nodes:
        assert stack.node.admin.endpoints() == {}
    peer.close()
    stack.wait_endpoint(endpoint, 1)
    other.vanish()
    stack.wait_gone(endpoint)


def test_nodes(stack: Stack) -> None:
    """The list has this node's row first; `local` and its ID show its endpoints; an unknown ID is 404 in JSON."""
    rows = stack.node.admin.json("/status/cluster/nodes")
    assert [row["id"] for row in rows] == (["node-1", "node-2"] if stack.two_nodes else ["node-1"])
    row = rows[0]
    assert set(row) == {
        "id",
        "status",
        "proxy_addr",
        "admin_addr",
        "gossip_addr",
        "version",
        "intake",
        "endpoints",
        "upstreams",
        "link",
    }
    assert (row["id"], row["status"]) == ("node-1", "active")
    assert row["proxy_addr"] == f"127.0.0.1:{stack.node.ports.proxy}"
    assert row["admin_addr"] == f"127.0.0.1:{stack.node.ports.admin}"
    assert row["endpoints"] == row["upstreams"] == len(stack.node.admin.endpoints())
    assert rows[-1]["endpoints"] == rows[-1]["upstreams"] == len(stack.registrations()) > 0
    local = stack.node.admin.json("/status/cluster/nodes/local")
    assert local == stack.node.admin.json("/status/cluster/nodes/node-1")
    assert local["id"] == "node-1" and local["endpoints"] == stack.node.admin.endpoints()
    status, headers, body = stack.node.admin.get("/status/cluster/nodes/nobody")
    assert (status, headers["content-type"]) == (404, "application/json")
    assert json.loads(body)["error"]


@pytest.mark.parametrize("path", ["/nothing", "/status", "/status/nothing", "/health/x", "/%00"])
def test_unknown_paths(stack: Stack, path: str) -> None:
    """404 in JSON."""
    status, headers, body = stack.node.admin.get(path)
    assert (status, headers["content-type"]) == (404, "application/json")
    assert json.loads(body)["error"]


def test_metrics(stack: Stack) -> None:
    """Requests by method and status are counted, unknown methods as `other`; the rest of what is promised is there."""
    admin = stack.node.admin
    before = admin.metric("pico_requests_total")
    unknown = admin.metric("pico_requests_total", 'method="other"')
    stack.service.handler = lambda request: answer(b"x" * 1000)
    assert stack.request().status == 200
    assert stack.request("MKACTIVITY / HTTP/1.1").status == 200
    assert admin.metric("pico_requests_total") >= before + 2
    assert admin.metric("pico_requests_total", 'method="other"') > unknown
    assert admin.metric("pico_requests_total", 'status="200"') > 0
    _, headers, body = admin.get("/metrics")
    assert headers["content-type"].startswith("text/plain")
    text = body.decode()
    assert "MKACTIVITY" not in text
    names = {line.split(" ")[2] for line in text.splitlines() if line.startswith("# TYPE ")}
    for word in (
        "latency|seconds",
        "in_flight",
        "bytes",
        "endpoints",
        "sessions",
        "calls",
        "resets",
        "retries",
        "heartbeat",
        "lag",
        "buffered",
    ):
        assert any(name.startswith("pico_") and part in name for name in names for part in word.split("|")), (
            word,
            names,
        )
    assert "process_resident_memory_bytes" in names
    assert any(name.startswith("python_") for name in names)


def test_the_agents_admin_port(stage: Stage) -> None:
    """Off by default; when set, /health and /metrics of the agent."""
    service = Service()
    port = free_port()
    try:
        node = stage.node()
        agent = stage.agent(node, {"web": service.address}, {"admin": {"bind_addr": f"127.0.0.1:{port}"}})
        admin = Admin(port, None)
        assert admin.get("/health")[0] == 200
        assert "pico_" in admin.get("/metrics")[2].decode()
        assert agent.running
    finally:
        service.close()


# -- logs


def line_of(stack: Stack, request_id: str) -> dict[str, Any]:
    """The access log line of a request."""

    def found() -> dict[str, Any] | None:
        return next((item for item in stack.node.records if request_id in str(item.values())), None)

    return wait_until(found, f"the access log line of {request_id}")


def test_the_access_log(stack: Stack) -> None:
    """One JSON line for a request: client, endpoint, upstream, status, bytes both ways, times and request ID."""
    stack.service.handler = lambda request: answer(b"x" * 1000)
    client_id = "access-log-1"
    assert stack.request("POST /logged?secret HTTP/1.1", f"X-Request-Id: {client_id}", body=b"12345").status == 200
    record = line_of(stack, client_id)
    values = {str(value) for value in record.values()}
    assert {stack.endpoint, "200", client_id, "POST"} <= values
    assert any("127.0.0.1" in value for value in values)
    assert stack.upstream in values
    assert any(value in ("5", "1000") for value in values)
    assert len([value for value in record.values() if isinstance(value, float)]) >= 2


def test_errors_before_routing_are_logged(stack: Stack) -> None:
    """A request that fails before it is routed has a line too."""
    assert stack.curl("/", "-H", "Host: localhost", "-H", "X-Request-Id: unrouted-1").status == 400
    record = line_of(stack, "unrouted-1")
    assert "400" in {str(value) for value in record.values()}
    before = len(stack.node.records)
    client = stack.connect()
    client.send(b"garbage\r\n\r\n")
    assert client.read_response().status == 400
    wait_until(
        lambda: any("400" in {str(value) for value in item.values()} for item in stack.node.records[before:]),
        "a line for the garbage",
    )


def test_secrets_are_never_logged(stack: Stack) -> None:
    """Values of Authorization and cookies appear in no line of any process."""
    stack.service.handler = lambda request: answer(b"ok", headers=[("Set-Cookie", "session=sesame-3")])
    stack.request(
        "GET / HTTP/1.1",
        "Authorization: Bearer sesame-1",
        "Cookie: session=sesame-2",
        "x-pico-authorization: Bearer sesame-4",
        "X-Request-Id: secrets-1",
    )
    line_of(stack, "secrets-1")
    assert all("sesame" not in process.output for process in stack.processes)


def test_every_line_is_json(stack: Stack) -> None:
    """Nothing but JSON objects on stderr, one a line, each with time, level and message; no byte 0x1E."""
    for process in stack.processes:
        raw = [item for item in process.records if "raw" in item]
        assert raw == []
        assert "\x1e" not in process.output
        assert all("level" in item for item in process.records)


@pytest.mark.parametrize("stage", ["plain"], indirect=True)
def test_text_logs(stage: Stage) -> None:
    """log.format: text is no JSON; an access log that is off writes no line for a request."""
    service = Service()
    try:
        node = stage.node(settings={"log": {"format": "text"}, "proxy": {"access_log": False}})
        stage.agent(node, {"web": service.address})
        client = connect(node.proxy)
        client.send(b"GET /unlogged HTTP/1.1\r\nHost: web.example\r\n\r\n")
        assert client.read_response().status == 200
        client.close()
        node.terminate()
        assert node.wait_exit() == 0
        assert "/unlogged" not in node.output
        assert all("raw" in item for item in node.records)
        assert "node-1" in node.output
    finally:
        service.close()
