"""Error pages of the operator, in a running node."""

from __future__ import annotations

import signal

from tests.system.wire import connect
from tools.stage.nodes import Node
from tools.stage.stage import Stage


def page(node: Node, stage: Stage, host: str) -> tuple[int, bytes, bytes | None]:
    """What a browser is shown: status, body, and the request's ID."""
    client = connect(node.proxy, tls=stage.tls.context if stage.tls else None)
    client.send(f"GET / HTTP/1.1\r\nHost: {host}\r\nAccept: text/html,*/*;q=0.8\r\n\r\n".encode())
    response = client.read_response()
    client.close()
    return response.status, response.body, response.get("x-request-id")


def test_pages_are_read_at_the_start_and_on_a_reload(stage: Stage) -> None:
    """Browsers see the operator's pages, filled in: for errors of the node, and for those of an agent; a reload reads
    them again, and pages that cannot be used leave the old ones in use."""
    directory = stage.directory / "pages"
    directory.mkdir()
    (directory / "502.html").write_text("<h1>Sorry: $endpoint, $code, $request_id</h1>")
    node = stage.node(settings={"proxy": {"error_pages": str(directory)}})
    stage.agent(node, {"down": "127.0.0.1:1"})
    for host, words in (("no.example", "no, no-upstreams"), ("down.example", "down, service-unreachable")):
        status, body, request_id = page(node, stage, host)
        assert request_id is not None
        assert (status, body.decode()) == (502, f"<h1>Sorry: {words}, {request_id.decode()}</h1>")
    assert b"names no endpoint" in page(node, stage, "localhost")[1]
    (directory / "default.html").write_text("new: $status")
    node.signal(signal.SIGHUP)
    node.wait_output("error pages: 502, default")
    assert page(node, stage, "localhost")[1] == b"new: 400"
    (directory / "502.html").write_bytes(b"\xff")
    node.signal(signal.SIGHUP)
    node.wait_output("not UTF-8")
    assert page(node, stage, "no.example")[1].startswith(b"<h1>Sorry: no")
