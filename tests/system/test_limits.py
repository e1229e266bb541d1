"""Limits of a node and of a listener as clients meet them, at the node of the agent and at another one."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from pathlib import Path

import bcrypt
import pytest

from tests.system.curl import CurlAnswer, curl
from tests.system.service import Connection, Service, answer
from tests.system.wire import connect
from tools.stage.nodes import Agent, Node, Settings
from tools.stage.stage import Stage

ENDPOINTS = [
    {"match": "slow-*", "in_flight": 1},
    {"match": "seldom", "rate": "1/h"},
    {"match": "short", "body_bytes": 10},
    {"match": "few", "sessions": 1},
]


class Rig:
    """Two nodes, an agent at the first one, and its service."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.stage = Stage(directory, None)
        self.service = Service(self._serve)
        self.users = directory / "users"
        self.write_users("secret")
        first = self.stage.node("node-1", {"endpoints": ENDPOINTS})
        join = {"cluster": {"join": [f"127.0.0.1:{first.ports.gossip}"]}}
        self.nodes = [first, self.stage.node("node-2", {"endpoints": ENDPOINTS, **join})]
        plain = {"addr": self.service.address}
        edits = {"set": ["X-Env: staging"], "remove": ["X-Secret", "Server"]}
        self.listeners: dict[str, str | int | Settings] = {
            **dict.fromkeys(("slow-1", "slow-2", "seldom", "short", "other"), plain),
            "few": plain,
            "local": {**plain, "allow": ["127.0.0.0/8"]},
            "remote": {**plain, "deny": ["127.0.0.0/8"]},
            "wiki": {**plain, "basic_auth_file": str(self.users), "basic_auth_realm": "Our wiki"},
            "edited": {**plain, "request_headers": edits, "response_headers": edits},
            "one": {**plain, "max_in_flight": 1},
            "hourly": {**plain, "rate": "1/h"},
        }
        self.agent: Agent = self.stage.agent(first, self.listeners)
        other, count = self.nodes[1], len(self.listeners)
        other.wait_until(lambda: other.admin.metric("pico_cluster_endpoints") == count, "the news of the agent")

    @staticmethod
    def _serve(connection: Connection) -> None:
        while True:
            request = connection.read_request()
            if request.target == b"/wait":
                connection.read_request()
            head = b"\n".join(name + b": " + value for name, value in request.fields)
            connection.send(answer(head, headers=(("Server", "x"), ("X-Secret", "y"))))

    def write_users(self, password: str) -> None:
        """The file of users says that ann has this password."""
        self.users.write_text(f"ann:{bcrypt.hashpw(password.encode(), bcrypt.gensalt(4)).decode()}\n")

    def get(self, node: Node, endpoint: str, *arguments: str, data: bytes | None = None) -> CurlAnswer:
        """What curl gets."""
        host, port = node.proxy
        url = f"http://{host}:{port}/"
        return curl(url, "-H", f"x-pico-endpoint: {endpoint}", *arguments, directory=self.directory, data=data)

    def close(self) -> None:
        """End all."""
        self.stage.close()
        self.service.close()


@pytest.fixture(scope="module")
def rig(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Rig]:
    """Started once."""
    made = Rig(tmp_path_factory.mktemp("limits"))
    try:
        yield made
        assert made.stage.new_faults() == []
    finally:
        made.close()


def error(got: CurlAnswer) -> tuple[int, str]:
    """Status and code of an error."""
    assert got.headers["x-pico-error"].endswith("; " + got.json["code"])
    return got.status, got.json["code"]


@pytest.mark.parametrize("at", [0, 1])
def test_endpoints(rig: Rig, at: int) -> None:
    """What `endpoints` says counts at the node where a request comes in; other endpoints notice nothing."""
    node = rig.nodes[at]
    waits = connect(node.proxy)
    waits.send(b"GET /wait HTTP/1.1\r\nHost: a\r\nx-pico-endpoint: slow-1\r\n\r\n")
    node.wait_until(lambda: node.admin.metric("pico_requests_in_flight") == 1, "the request")
    assert error(rig.get(node, "slow-2")) == (503, "endpoint-in-flight")
    assert rig.get(node, "other").status == 200
    waits.close()
    node.wait_until(lambda: node.admin.metric("pico_requests_in_flight") == 0, "the end of the request")
    assert rig.get(node, "slow-2").status == 200
    assert rig.get(node, "seldom").status == 200
    late = rig.get(node, "seldom", "-H", "Accept: text/html")
    assert (late.status, late.headers["content-type"]) == (429, "text/html; charset=utf-8")
    assert 3000 < int(late.headers["retry-after"]) <= 3600 and b"endpoint-rate" in late.body
    for arguments in ((), ("-H", "Transfer-Encoding: chunked")):
        assert rig.get(node, "short", *arguments, "--data-binary", "@-", data=b"x" * 10).status == 200
        assert error(rig.get(node, "short", *arguments, "--data-binary", "@-", data=b"x" * 11)) == (
            413,
            "endpoint-body",
        )
    assert node.admin.metric("pico_limited_total", 'reason="endpoint-body"') == 2


def test_other_ceilings_at_a_reload(rig: Rig) -> None:
    """A node takes other limits of endpoints and of addresses while it runs; those that are none are told, and change
    nothing."""
    node = rig.nodes[1]
    before = node.settings
    try:
        node.write_settings(
            {"endpoints": [{"match": "other", "body_bytes": 1}], "limits": {"requests_per_address": "1/h"}}
        )
        node.signal(signal.SIGHUP)
        node.wait_output("endpoints: other")
        assert [error(rig.get(node, "other", "--data-binary", "@-", data=b"xx")) for _ in range(2)] == [
            (413, "endpoint-body"),
            (429, "address-rate"),
        ]
        node.write_settings({"endpoints": [{"match": "o*r"}]})
        node.signal(signal.SIGHUP)
        node.wait_output("endpoints[0].match")
    finally:
        node.settings = before
        node.write_settings()
        node.signal(signal.SIGHUP)
    node.wait_output("limits.requests_per_address 1/h -> nothing")
    assert rig.get(node, "other", "--data-binary", "@-", data=b"xx").status == 200


def test_sessions(rig: Rig) -> None:
    """A further agent of an endpoint with as many sessions as it may have is refused, and told why."""
    other = rig.stage.agent(rig.nodes[0], {"few": rig.service.address}, name="agent-2", wait=False)
    other.wait_output("too many sessions for this endpoint")
    rig.stage.remove(other)
    assert rig.get(rig.nodes[0], "few").status == 200


@pytest.mark.parametrize("at", [0, 1])
def test_listeners(rig: Rig, at: int) -> None:
    """What a listener lets through, and with which headers, counts at whichever node the request comes in."""
    node = rig.nodes[at]
    assert rig.get(node, "local").status == 200
    assert error(rig.get(node, "remote")) == (403, "listener-address")
    asked = rig.get(node, "wiki", "-u", "ann:wrong")
    assert error(asked) == (401, "listener-login")
    assert asked.headers["www-authenticate"] == 'Basic realm="Our wiki", charset="UTF-8"'
    let_in = rig.get(node, "wiki", "-u", "ann:secret")
    assert let_in.status == 200 and b"authorization" not in let_in.body.lower()
    edited = rig.get(node, "edited", "-H", "X-Env: mine", "-H", "X-Secret: z")
    assert b"X-Env: staging" in edited.body and b"mine" not in edited.body and b"X-Secret" not in edited.body
    assert edited.headers["x-env"] == "staging" and not {"x-secret", "server"} & edited.headers.keys()
    late = [rig.get(node, "hourly") for _ in range(2)][-1]
    assert error(late) == (429, "listener-rate") and 3000 < int(late.headers["retry-after"]) <= 3600
    waits = connect(node.proxy)
    waits.send(b"GET /wait HTTP/1.1\r\nHost: a\r\nx-pico-endpoint: one\r\n\r\n")
    node.wait_until(lambda: node.admin.metric("pico_requests_in_flight") == 1, "the request")
    busy = rig.get(node, "one")
    assert error(busy) == (503, "listener-in-flight") and busy.headers["retry-after"] in ("1", "2", "3")
    waits.close()
    node.wait_until(lambda: node.admin.metric("pico_requests_in_flight") == 0, "the node to see that its client left")
    assert rig.get(node, "other").status == 200


def test_another_password(rig: Rig) -> None:
    """A reload of the agent takes the users that the file has then; a file that cannot be used is told by its line, and
    the users stay."""
    rig.write_users("new")
    rig.agent.signal(signal.SIGHUP)
    rig.agent.wait_output("users of basic_auth_file")
    assert rig.get(rig.nodes[0], "wiki", "-u", "ann:secret").status == 401
    assert rig.get(rig.nodes[0], "wiki", "-u", "ann:new").status == 200
    rig.users.write_text("# people\nann:plain\n")
    rig.agent.signal(signal.SIGHUP)
    rig.agent.wait_output(f"{rig.users}:2")
    assert rig.get(rig.nodes[0], "wiki", "-u", "ann:new").status == 200
    rig.write_users("secret")
    rig.agent.signal(signal.SIGHUP)
