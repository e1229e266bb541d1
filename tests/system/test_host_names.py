"""Host names and paths that lead to endpoints, as clients use them, and the URLs that people are shown."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from functools import partial

import pytest

from tests.ctl.harness import picoctl
from tests.system.curl import CurlAnswer, curl
from tests.system.service import Service, answer
from tests.system.wire import Request
from tools.stage.nodes import Node
from tools.stage.stage import Stage
from tools.stage.waiting import wait_until

PUBLIC = "https://*.tunnel.example.com"
HOSTS = {
    "shop.example.com": "shop",
    "shop.example.com/api": "shop-api",
    "*.acme.tunnel.example.com": "acme-*",
    "*.other.tunnel.example.com": "other-*",
}
ENDPOINTS = ("shop", "shop-api", "acme-www", "other-www", "web")


def says(endpoint: str, request: Request) -> bytes:
    """What the service of an endpoint answers: which one it is, and the target that it got."""
    return answer(f"{endpoint} {request.target.decode()}".encode())


@pytest.fixture
def services(stage: Stage) -> Iterator[dict[str, Service]]:
    """A service for each endpoint."""
    found = {}
    for endpoint in ENDPOINTS:
        found[endpoint] = service = Service()
        service.handler = partial(says, endpoint)
    yield found
    for service in found.values():
        service.close()


def ask(node: Node, stage: Stage, url: str, *arguments: str) -> CurlAnswer:
    """What curl gets for a URL without scheme and port, whose name leads to the node."""
    host, slash, path = url.partition("/")
    scheme, port = "https" if stage.tls else "http", node.proxy[1]
    resolve = ("--resolve", f"{host}:{port}:127.0.0.1", "--insecure")
    return curl(f"{scheme}://{host}:{port}{slash}{path}", *resolve, *arguments, directory=stage.directory)


def body(node: Node, stage: Stage, url: str) -> str:
    """The body for a URL, or status and code of an error."""
    got = ask(node, stage, url)
    return got.body.decode() if got.status == 200 else f"{got.status} {got.json['code']}"


def test_names_lead_to_endpoints(stage: Stage, services: dict[str, Service]) -> None:
    """Whole domains, paths, names below names, and the public URL; clients at one node, the agent at another. A reload
    takes other names at once."""
    config = {"proxy": {"public_url": PUBLIC, "hosts": HOSTS}}
    away = stage.node("away")
    node = stage.node("node", {**config, "cluster": {"join": [f"127.0.0.1:{away.ports.gossip}"]}})
    agent = stage.agent(away, {name: service.address for name, service in services.items()})
    wait_until(lambda: body(node, stage, "web.tunnel.example.com/") == "web /", "the endpoints at the other node")
    for url, words in {
        "shop.example.com/": "shop /",
        "SHOP.example.com./x?y=/api": "shop /x?y=/api",
        "shop.example.com/api/x": "shop-api /api/x",
        "shop.example.com/%61pi/x": "shop-api /%61pi/x",
        "shop.example.com/apis": "shop /apis",
        "shop.example.com/a%2Fb": "shop /a%2Fb",
        "shop.example.com/x/../api": "400 ambiguous-path",
        "shop.example.com//api": "400 ambiguous-path",
        "shop.example.com/api%2fx": "400 ambiguous-path",
        "www.acme.tunnel.example.com/": "acme-www /",
        "www.other.tunnel.example.com/": "other-www /",
        "www.third.tunnel.example.com/": "404 unknown-host",
        "web.example.org/": "404 unknown-host",
        "no.tunnel.example.com/../x": "502 no-upstreams",
    }.items():
        assert body(node, stage, url) == words, url
    assert ask(node, stage, "web.example.org/", "-H", "x-pico-endpoint: web").body == b"web /"
    assert ask(node, stage, "a.example.org/").json["hint"] == (
        "Use https://my-endpoint.tunnel.example.com, or send x-pico-endpoint."
    )
    assert body(away, stage, "web.example.org/") == "web /"
    assert "reachable_at" in agent.output
    node.write_settings({"proxy": {"hosts": ["web.example.org=web"]}})
    node.signal(signal.SIGHUP)
    wait_until(lambda: body(node, stage, "web.example.org/") == "web /", "the new name")
    assert body(node, stage, "shop.example.com/") == "404 unknown-host"


def test_people_are_shown_urls(stage: Stage, services: dict[str, Service]) -> None:
    """The agent's log, its status, and what picoctl shows of the node have the URL of the endpoint."""
    node = stage.node(settings={"proxy": {"public_url": PUBLIC}})
    agent = stage.agent(node, {"web": services["web"].address, "shop.api": services["shop"].address})
    agent.wait_count("Registered", 2)
    registered = {one["endpoint"]: one["reachable_at"] for one in agent.records if one.get("message") == "Registered"}
    url = "https://web.tunnel.example.com"
    assert registered == {"web": url, "shop.api": ""}
    assert node.admin.json("/status/cluster/nodes/local")["public_url"] == PUBLIC
    sessions = node.admin.json("/status/upstream/agents")["sessions"]
    assert {one["endpoint"]: one["url"] for one in sessions} == {"web": url, "shop.api": ""}
    admin = ["--admin", f"{'https' if stage.tls else 'http'}://localhost:{node.ports.admin}"]
    admin += ["--ca", str(stage.tls.authority.ca)] if stage.tls else []
    for words in (["status"], ["status", "endpoints"], ["endpoint", "web"], ["agents"]):
        assert url in picoctl(*words, *admin).stdout, words
