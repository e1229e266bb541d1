"""The inspector of a real agent: what passes, whatever it is; sent again; shown to who has the key."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from http.client import HTTPConnection
from pathlib import Path
from typing import Any

import attrs
import pytest

from tests.system.service import Connection, Service, answer
from tests.system.test_upgrades import echo_websocket
from tools.stage.nodes import Agent, Node
from tools.stage.stage import Stage
from tools.stage.waiting import wait_until

pytestmark = pytest.mark.processes

KEY = "a-key-of-at-least-16"
HOSTILE = b"</script><script>alert(1)</script><img src=x onerror=alert(1)>\x1b]0;x\x07\xff\0"
"""A body of somebody who knows that it is looked at."""


@attrs.define
class Inspected:
    """A node, and an agent with an inspector."""

    node: Node
    agent: Agent
    service: Service
    port: int

    def client(self, method: str, path: str, body: bytes = b"", fields: dict[str, str] | None = None) -> int:
        """A request of a client; returns the status."""
        connection = HTTPConnection("127.0.0.1", self.node.ports.proxy, timeout=30)
        try:
            connection.request(method, path, body or None, {"x-pico-endpoint": "web", **(fields or {})})
            response = connection.getresponse()
            response.read()
            return response.status
        finally:
            connection.close()

    def asked(self, path: str, method: str = "GET", told: object = None, **fields: str) -> tuple[int, Any]:
        """What the inspector answers: the status, and what JSON holds."""
        connection = HTTPConnection("127.0.0.1", self.port, timeout=30)
        body = None if told is None else json.dumps(told)
        try:
            connection.request(method, path, body, {"Authorization": f"Bearer {KEY}", **fields})
            response = connection.getresponse()
            return response.status, json.loads(response.read())
        finally:
            connection.close()

    def rows(self, chosen: Callable[[Any], bool] = lambda row: True) -> list[Any]:
        """The rows of the list, the newest first."""
        return [row for row in self.asked("/api/requests")[1] if chosen(row)]

    def row(self, path: str) -> Any:
        """The one of a path that is over, once it is there."""
        return wait_until(
            lambda: next((row for row in self.rows() if row["target"] == path and not row["running"]), None), path
        )


@pytest.fixture
def inspected(tmp_path: Path) -> Any:
    """All of it, running."""
    (tmp_path / "key").write_text(KEY + "\n")
    stage, service = Stage(tmp_path), Service()
    try:
        node = stage.node("n1")
        settings = {"inspect": {"enabled": True, "bind_addr": "127.0.0.1:0", "key_file": str(tmp_path / "key")}}
        agent = stage.agent(node, {"web": service.address, "gone": "127.0.0.1:1"}, settings)
        agent.wait_output("What passes is shown at")
        assert KEY not in agent.output
        (url,) = [record["url"] for record in agent.records if "What passes" in record.get("message", "")]
        yield Inspected(node, agent, service, int(url.rpartition(":")[2]))
        assert stage.new_faults() == []
    finally:
        stage.close()
        service.close()


def test_what_passes_is_shown_and_sent_again(inspected: Inspected) -> None:
    """A webhook that failed is seen, with its body and why; sent again it succeeds, without another client."""
    inspected.service.handler = lambda request: answer(b'{"no": 1}', status=500, reason="Oops")
    assert inspected.client("POST", "/hook?token=t0k", b'{"paid": true}', {"Authorization": "Bearer s3cret"}) == 500
    row = inspected.row("/hook?token=(hidden)")
    _, told = inspected.asked(f"/api/requests/{row['id']}")
    assert told["request"]["body"]["text"] == '{"paid": true}' and told["response"]["body"]["text"] == '{"no": 1}'
    assert "s3cret" not in json.dumps(told) and "t0k" not in json.dumps(told)
    inspected.service.handler = lambda request: answer(b"fine")
    status, begun = inspected.asked(f"/api/requests/{row['id']}/replay", "POST", {})
    assert status == 202 and begun["replay_of"] == row["id"]
    again = wait_until(lambda: inspected.rows(lambda one: one["id"] == begun["id"] and not one["running"]), "replay")
    assert again[0]["status"] == 200
    first, second = [request for request in inspected.service.requests if request.method == b"POST"]
    assert first.target == second.target == b"/hook?token=t0k" and first.body == second.body
    assert second.get("authorization") == b"Bearer s3cret" and first.raw_head == second.raw_head


def test_hostile_bodies_and_heads(inspected: Inspected) -> None:
    """What a stranger sends is told as data: JSON all the way, whatever bytes it has."""
    inspected.service.handler = lambda request: answer(
        HOSTILE, headers=[("Content-Type", "text/html"), ("X-A", "<b>\xff")]
    )
    assert inspected.client("POST", "/<script>", HOSTILE, {"X-Evil": "<img src=x onerror=alert(1)>"}) == 200
    row = inspected.row("/<script>")
    connection = HTTPConnection("127.0.0.1", inspected.port, timeout=30)
    connection.request("GET", f"/api/requests/{row['id']}", headers={"Authorization": f"Bearer {KEY}"})
    response = connection.getresponse()
    body = response.read()
    assert response.headers["content-type"] == "application/json"
    assert response.headers["x-content-type-options"] == "nosniff"
    assert body.isascii() and b"\x1b" not in body and "base64" in json.loads(body)["response"]["body"]
    connection.close()
    for what in ("curl", "har"):
        assert inspected.asked(f"/api/requests/{row['id']}/{what}")[0] == 200


def test_a_websocket_and_a_service_that_is_not_there(inspected: Inspected) -> None:
    """Of a WebSocket the bytes are counted; of a service that does not listen the reason is told."""

    def serve(connection: Connection) -> None:
        echo_websocket(connection, connection.request_head())

    inspected.service.script = serve
    import websockets.sync.client

    url = f"ws://127.0.0.1:{inspected.node.ports.proxy}/chat"
    fields = {"x-pico-endpoint": "web"}
    with websockets.sync.client.connect(url, additional_headers=fields, compression=None, proxy=None) as client:
        client.send("x" * 1000)
        assert client.recv(timeout=30) == "x" * 1000
        (running,) = inspected.rows(lambda row: row["target"] == "/chat")
        assert running["running"] and running["kind"] == "upgraded" and running["status"] == 101
    row = inspected.row("/chat")
    assert row["bytes_in"] >= 1000 and row["bytes_out"] >= 1000
    assert inspected.asked(f"/api/requests/{row['id']}/replay", "POST", {})[0] == 409
    assert inspected.client("GET", "/x", fields={"x-pico-endpoint": "gone"}) == 502
    gone = inspected.row("/x")
    assert gone["error"] == "service-unreachable" and "127.0.0.1:1 cannot be reached" in gone["trouble"]


def test_a_stream_appears_while_it_runs(inspected: Inspected) -> None:
    """Events of a service are there as they come, and a list that is listened to says so."""

    def serve(connection: Connection) -> None:
        connection.request_head()
        connection.send(b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\n\r\ndata: one\n\n")
        connection.linger()

    inspected.service.script = serve
    listening = HTTPConnection("127.0.0.1", inspected.port, timeout=30)
    listening.request("GET", "/api/live", headers={"Authorization": f"Bearer {KEY}"})
    live = listening.getresponse()
    client = HTTPConnection("127.0.0.1", inspected.node.ports.proxy, timeout=30)
    client.request("GET", "/events", headers={"x-pico-endpoint": "web"})
    assert client.getresponse().status == 200
    told = b""
    end = time.monotonic() + 30
    while b'"/events"' not in told and time.monotonic() < end:
        told += live.readline()
    assert b"event: rows" in told and b'"running": true' in told
    row = wait_until(lambda: inspected.rows(lambda one: one["target"] == "/events"), "the stream")[0]
    told_of = wait_until(lambda: inspected.asked(f"/api/requests/{row['id']}")[1]["response"], "its response")
    assert row["running"] and told_of["body"]["text"] == "data: one\n\n"
    client.close()
    listening.close()
    assert inspected.row("/events")["error"] == "client-gone"


def test_other_hosts_and_origins(inspected: Inspected) -> None:
    """A real port refuses a page of another origin, another name, and who has no key."""
    assert inspected.asked("/api/requests", Host="evil.example")[0] == 421
    assert inspected.asked("/api/requests", Origin="http://evil.example")[0] == 403
    assert inspected.asked("/api/requests", Authorization="Bearer wrong")[0] == 401


def test_a_wrong_section_stops_the_start(tmp_path: Path) -> None:
    """An address that others reach, and a key that anybody guesses, are told at once."""
    (tmp_path / "key").write_text("short\n")
    stage = Stage(tmp_path)
    try:
        settings = {"inspect": {"enabled": True, "bind_addr": "0.0.0.0:4040", "key_file": str(tmp_path / "key")}}
        agent = stage.agent("http://127.0.0.1:1", {"web": 3000}, settings, wait=False)
        wait_until(lambda: not agent.running, "its end")
        assert "inspect.bind_addr" in agent.output and "an address of this machine for itself" in agent.output
        settings["inspect"]["bind_addr"] = "localhost:0"
        agent = stage.agent("http://127.0.0.1:1", {"web": 3000}, settings, name="agent-2", wait=False)
        wait_until(lambda: not agent.running, "its end")
        assert "inspect.key_file" in agent.output and "a file that holds no key" in agent.output
    finally:
        stage.close()
