"""What an operator sets for the proxy port, for clients that speak HTTP/2 by ALPN: real nodes, curl, hyper-h2."""

from __future__ import annotations

import json
import threading
from pathlib import Path
from typing import Any

import pytest

from tests.peers.http2_client import Http2Client
from tests.peers.pipe import PATIENCE_S
from tests.system.curl import CurlAnswer, curl
from tests.system.service import Service, answer
from tests.system.wire import Request
from tools.stage.nodes import Node
from tools.stage.stage import Stage

TLS = pytest.mark.parametrize("stage", ["tls"], indirect=True)
TRUSTED = {"trusted_proxies": ["127.0.0.1/32"]}
CEILINGS = [
    {"match": "slow", "in_flight": 1},
    {"match": "seldom", "rate": "1/h"},
    {"match": "short", "body_bytes": 10},
]


def fields_of(request: Request) -> bytes:
    """A response that tells the fields of its request, by name."""
    fields = {name.decode().lower(): value.decode() for name, value in request.fields}
    return answer(json.dumps(fields).encode())


def get(stage: Stage, node: Node, endpoint: str, *arguments: str, data: bytes | None = None) -> CurlAnswer:
    """What curl gets, over HTTP/2."""
    url = node.url("/", "localhost")
    name = f"x-pico-endpoint: {endpoint}"
    got = curl(url, "-H", name, *arguments, directory=stage.directory, tls=stage.tls, data=data)
    assert got.heads[-1][0].startswith("HTTP/2 "), got
    return got


def code_of(got: CurlAnswer) -> tuple[int, str]:
    """Status and code of an error."""
    return got.status, got.headers["x-pico-error"].partition("; ")[2]


@TLS
def test_who_the_client_is(stage: Stage, service: Service) -> None:
    """What a trusted proxy tells of its client counts: in fields, or in a PROXY protocol header that comes before TLS
    and HTTP/2. What a stranger tells does not. Via says what was spoken."""
    service.handler = fields_of
    for name, proxy, arguments, address in (
        ("fields", {**TRUSTED, "via": True}, ("-H", "X-Forwarded-For: 203.0.113.9"), "203.0.113.9"),
        ("header", {**TRUSTED, "proxy_protocol": True}, ("--haproxy-protocol",), "127.0.0.1"),
        ("nobody", {}, ("-H", "X-Forwarded-For: 203.0.113.9"), "127.0.0.1"),
    ):
        node = stage.node(f"node-{name}", {"proxy": {**proxy, "access_log": True}})
        stage.agent(node, {"web": service.address}, name=f"agent-{name}")
        told: dict[str, Any] = json.loads(get(stage, node, "web", *arguments).body)
        assert told["x-forwarded-for"].split(", ")[0] == address and told["x-forwarded-proto"] == "https"
        assert told.get("via") == (f"2 pico-{node.name}" if name == "fields" else None)
        node.wait_output('"protocol":"HTTP/2.0"')


@TLS
def test_ceilings_and_error_pages(stage: Stage, service: Service, tmp_path: Path) -> None:
    """They count for each stream: what is refused is answered, and others on the connection are served."""
    pages = tmp_path / "pages"
    pages.mkdir()
    (pages / "502.html").write_text("<h1>Sorry: $endpoint, $code</h1>")
    node = stage.node(settings={"endpoints": CEILINGS, "proxy": {"error_pages": str(pages)}})
    stage.agent(node, dict.fromkeys(("slow", "seldom", "short", "other"), service.address))
    got = get(stage, node, "none", "-H", "Accept: text/html")
    assert (got.status, got.body) == (502, b"<h1>Sorry: none, no-upstreams</h1>")
    assert get(stage, node, "seldom").status == 200
    late = get(stage, node, "seldom")
    assert code_of(late) == (429, "endpoint-rate") and 3000 < int(late.headers["retry-after"]) <= 3600
    for length in ((), ("-H", "Content-Length:")):
        assert get(stage, node, "short", *length, "--data-binary", "@-", data=b"x" * 10).status == 200
        refused = get(stage, node, "short", *length, "--data-binary", "@-", data=b"x" * 11)
        assert code_of(refused) == (413, "endpoint-body")

    go_on = threading.Event()
    service.handler = lambda request: answer(b"%d" % go_on.wait(PATIENCE_S))
    assert stage.tls is not None
    client = Http2Client(node.proxy, ca=stage.tls.authority.ca)
    slow = client.request(b"/", endpoint="slow")
    service.wait_request()
    beyond = client.request(b"/", endpoint="slow")
    (told,) = client.wait(beyond)
    assert told.status == 503 and told.heads[0][b"x-pico-error"].endswith(b"; endpoint-in-flight")
    go_on.set()
    assert [one.body for one in client.wait(slow, client.request(b"/", endpoint="other"))] == [b"1", b"1"]
    client.close()
