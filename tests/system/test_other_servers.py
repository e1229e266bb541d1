"""Servers that people put behind and before Pico, as they are installed: what they do with what we send."""

from __future__ import annotations

import contextlib
import gzip
import socket
from http.client import HTTPConnection, HTTPException, HTTPSConnection

import pytest

from tests.system.service import Service
from tests.system.shapes import NO_TLS
from tests.system.wire import connect
from tools.stage.asking import try_get
from tools.stage.certificates import Tls
from tools.stage.forwarders import Forwarder
from tools.stage.nodes import Node
from tools.stage.ports import free_port, free_row, is_free
from tools.stage.processes import Process, find_program
from tools.stage.stage import Stage
from tools.stage.waiting import wait_until

pytestmark = NO_TLS

_NGINX = """\
daemon off;
master_process off;
pid {directory}/nginx.pid;
lock_file {directory}/nginx.lock;
error_log stderr warn;
events {{ worker_connections 64; }}
http {{
  access_log off;
  client_body_temp_path {directory}/body;
  proxy_temp_path {directory}/proxy;
  fastcgi_temp_path {directory}/fastcgi;
  uwsgi_temp_path {directory}/uwsgi;
  scgi_temp_path {directory}/scgi;
  gzip on;
  gzip_types text/plain;
  server {{
    listen 127.0.0.1:{port};
    default_type text/plain;
    root {directory}/files;
  }}
}}
"""

_HAPROXY = """\
global
  log stderr format raw daemon
defaults
  mode tcp
  timeout connect 10s
  timeout client 60s
  timeout server 60s
listen v1
  bind 127.0.0.1:{v1}
  server node 127.0.0.1:{node} send-proxy
listen none
  bind 127.0.0.1:{none}
  server node 127.0.0.1:{node}
listen v2
  bind 127.0.0.1:{v2}
  server node 127.0.0.1:{node} send-proxy-v2
"""

_HAPROXY_HTTP2 = """\
global
  log stderr format raw daemon
defaults
  mode http
  timeout connect 10s
  timeout client 60s
  timeout server 60s
  timeout tunnel 1h
frontend web
  bind 127.0.0.1:{port}
  option forwardfor
  default_backend pico
backend pico
  option httpchk GET /ready
  default-server check port {admin} inter 500ms fall 2 rise 1
  server n1 127.0.0.1:{node} proto h2 check-proto h1
"""


def listening(stage: Stage, process: Process, port: int) -> None:
    """Wait until a server takes connections."""
    stage.add(process)
    wait_until(lambda: not is_free(port), f"{process.name} to listen")


def two_nodes(stage: Stage) -> list[Node]:
    """Two nodes that know each other."""
    first = stage.node("node-1")
    join = {"cluster": {"join": [f"127.0.0.1:{first.ports.gossip}"]}}
    return [first, stage.node("node-2", settings=join)]


def wait_known(node: Node, endpoint: str) -> None:
    """Wait until a request for an endpoint at a node finds a way."""
    wait_until(
        lambda: try_get(node.ports.proxy, "/", {"x-pico-endpoint": endpoint})[0] != 502, f"{endpoint} to be known"
    )


def test_nginx_compresses_for_clients_behind_us(stage: Stage) -> None:
    """A service that compresses does so through us too, on one node and across two: nginx, as it is installed, does
    not for a request with Via."""
    port, body = free_port(), b"compress me " * 2000
    files = stage.directory / "files"
    files.mkdir()
    (files / "page").write_bytes(body)
    config = stage.directory / "nginx.conf"
    config.write_text(_NGINX.format(directory=stage.directory, port=port))
    program = find_program("nginx", "nginx-light")
    listening(stage, Process("nginx", [program, "-e", "stderr", "-c", str(config)], stage.directory), port)
    nodes = two_nodes(stage)
    stage.agent(nodes[0], {"web": f"127.0.0.1:{port}"})
    for node in nodes:
        wait_known(node, "web")
        client = connect(node.proxy)
        client.send(b"GET /page HTTP/1.1\r\nHost: web.example\r\nAccept-Encoding: gzip\r\n\r\n")
        response = client.read_response()
        client.close()
        assert (response.status, response.get("content-encoding")) == (200, b"gzip")
        assert gzip.decompress(response.body) == body and len(response.body) < len(body) / 10


def test_a_service_that_is_our_own_proxy_port(stage: Stage) -> None:
    """A request to an agent whose service is a proxy port of the cluster goes round a few times and is then answered
    508, at the same node and at another one."""
    nodes = two_nodes(stage)
    for number, node in enumerate(nodes):
        stage.agent(nodes[0], {f"loop-{number}": f"127.0.0.1:{node.ports.proxy}"}, name=f"agent-{number}")
    asked = [(node, endpoint) for node in nodes for endpoint in ("loop-0", "loop-1")]
    for node, endpoint in asked:
        wait_known(node, endpoint)
    for node, endpoint in asked:
        client = connect(node.proxy)
        client.send(f"GET / HTTP/1.1\r\nHost: {endpoint}.example\r\n\r\n".encode())
        assert client.read_response().status == 508
        client.close()
    assert sum(len(node.records) for node in nodes) < 200


@pytest.mark.parametrize("workers", [1, 2])
def test_haproxy_tells_us_the_client(stage: Stage, certificates: Tls, workers: int) -> None:
    """Behind HAProxy with send-proxy and send-proxy-v2, services and the access log have the client's address: with TLS
    behind the header, and on a host with workers; HAProxy without a header is not served."""
    tls = certificates if workers == 1 else None
    cluster = {"workers": workers, "gossip": {"bind_addr": f"127.0.0.1:{free_row(workers)}"}}
    proxy = {"trusted_proxies": "127.0.0.1/32", "proxy_protocol": True, "tls": tls.section if tls else {}}
    service = Service()
    try:
        node = stage.node(settings={"proxy": proxy, "cluster": cluster})
        stage.agent(node, {"web": service.address}, {"connect": {"connections": str(workers)}}, wait=False)
        ports = {"v1": free_port(), "v2": free_port(), "none": free_port()}
        config = stage.directory / "haproxy.cfg"
        config.write_text(_HAPROXY.format(node=node.ports.proxy, **ports))
        program = find_program("haproxy", "haproxy")
        listening(stage, Process("haproxy", [program, "-db", "-f", str(config)], stage.directory), ports["v1"])
        for version in ("v1", "v2"):
            wait_until(lambda version=version: status_through(ports[version], tls) == 200, "an answer")  # type: ignore[misc]
            request = service.requests[-1]
            assert request.get("x-forwarded-for") == b"127.0.0.9"
            assert request.get("x-forwarded-proto") == (b"https" if tls else b"http")
        assert status_through(ports["none"], tls) == 0
        node.wait_output("A proxy sent no usable PROXY protocol header")
        node.wait_output('"client":"127.0.0.9"')
    finally:
        service.close()


def status_through(port: int, tls: Tls | None) -> int:
    """The status that a client at 127.0.0.9 gets for a request; 0 when there is no answer."""
    source = ("127.0.0.9", 0)
    client = (
        HTTPSConnection("127.0.0.1", port, context=tls.context, source_address=source, timeout=30)
        if tls is not None
        else HTTPConnection("127.0.0.1", port, source_address=source, timeout=30)
    )
    with contextlib.closing(client):
        try:
            client.request("GET", "/", headers={"Host": "web.example"})
            return client.getresponse().status
        except (OSError, HTTPException):
            return 0


def test_haproxy_speaks_http2_with_us(stage: Stage) -> None:
    """The balancer of production.md: requests, the client's address and TCP sessions go through it over HTTP/2,
    whatever its clients speak, and it asks the admin port whether the node is ready."""
    web, raw = Service(), Service()
    raw.script = lambda connection: connection.send(connection.read(5))
    try:
        node = stage.node(settings={"proxy": {"trusted_proxies": "127.0.0.1/32"}})
        stage.agent(node, {"web": web.address, "raw": {"addr": raw.address, "protocol": "tcp"}})
        port, config = free_port(), stage.directory / "haproxy.cfg"
        config.write_text(_HAPROXY_HTTP2.format(port=port, node=node.ports.proxy, admin=node.ports.admin))
        program = find_program("haproxy", "haproxy")
        listening(stage, Process("haproxy", [program, "-db", "-f", str(config)], stage.directory), port)
        wait_until(lambda: status_through(port, None) == 200, "an answer")
        assert web.requests[-1].get("x-forwarded-for") == b"127.0.0.9, 127.0.0.1"
        node.wait_output('"protocol":"HTTP/2.0"')
        forward = Forwarder(["raw"], ["--url", f"http://127.0.0.1:{port}"], stage.directory)
        stage.add(forward)
        forward.wait_ready()
        with socket.create_connection(("127.0.0.1", forward.port()), timeout=30) as client:
            client.sendall(b"hello")
            assert client.recv(5) == b"hello"
    finally:
        web.close()
        raw.close()
