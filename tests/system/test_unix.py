"""Unix sockets and the servers around them: nginx and HAProxy behind the agent and in front of the node."""

from __future__ import annotations

import contextlib
import socket
import tempfile
import threading
from collections.abc import Iterator
from http.client import HTTPConnection
from pathlib import Path

import pytest

from tests.peers.pipe import Pipe
from tests.system import wire
from tests.system.asking import Asking
from tests.system.handing import Systemd
from tests.system.service import Connection, Service, answer
from tests.system.shapes import NO_TLS
from tests.system.tcp import Session
from tests.system.test_other_servers import listening
from tools.stage.certificates import Authority
from tools.stage.nodes import Node, Settings
from tools.stage.ports import HOST, Ports, free_port, free_row
from tools.stage.processes import Process, find_program
from tools.stage.stage import Stage
from tools.stage.waiting import wait_until

pytestmark = NO_TLS

CLIENT = "127.0.0.9"

_NGINX = """\
daemon off;
master_process off;
pid {here}/nginx.pid;
lock_file {here}/nginx.lock;
error_log stderr warn;
events {{ worker_connections 64; }}
http {{
  access_log off;
  client_body_temp_path {here}/body-files;
  proxy_temp_path {here}/proxy-files;
  fastcgi_temp_path {here}/fastcgi-files;
  uwsgi_temp_path {here}/uwsgi-files;
  scgi_temp_path {here}/scgi-files;
  server {{
    listen unix:{here}/web;
    location / {{ return 200 "$http_host $http_x_forwarded_for"; }}
  }}
  server {{
    listen {host}:{told} proxy_protocol;
    listen unix:{here}/told proxy_protocol;
    location / {{ return 200 "$proxy_protocol_addr to $proxy_protocol_server_port"; }}
  }}
  server {{
    listen {host}:{secure} ssl;
    ssl_certificate {here}/service.pem;
    ssl_certificate_key {here}/service.key;
    ssl_client_certificate {here}/authority.pem;
    ssl_verify_client on;
    location / {{ return 200 "$ssl_client_s_dn"; }}
  }}
  upstream node {{
    server unix:{here}/proxy;
    keepalive 8;
  }}
  server {{
    listen {host}:{front};
    location / {{
      proxy_pass http://node;
      proxy_http_version 1.1;
      proxy_set_header Connection "";
      proxy_set_header Host $http_host;
      proxy_set_header X-Forwarded-For $proxy_add_x_forwarded_for;
    }}
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
listen front
  bind {host}:{front}
  server node unix@{node} send-proxy-v2
"""


@pytest.fixture
def here() -> Iterator[Path]:
    """A directory for sockets: the path of pytest's own is too long for some."""
    with tempfile.TemporaryDirectory(prefix="pico-test-") as made:
        yield Path(made)


def asked(port: int, endpoint: str, fields: dict[str, str] | None = None) -> tuple[int, str]:
    """What a client at `CLIENT` is answered: status and body; 0 when there is no answer."""
    client = HTTPConnection(HOST, port, source_address=(CLIENT, 0), timeout=30)
    with contextlib.closing(client):
        try:
            client.request("GET", "/", headers={"Host": f"{endpoint}.example", **(fields or {})})
            found = client.getresponse()
            return found.status, found.read().decode()
        except OSError:
            return 0, ""


def over(path: Path) -> wire.Stream:
    """A connection to a Unix socket."""
    sock = socket.socket(socket.AF_UNIX)
    sock.settimeout(30)
    sock.connect(str(path))
    return wire.Stream(Pipe(sock))


def on_sockets(here: Path, **more: object) -> dict[str, object]:
    """Settings of a node whose ports for clients and agents are sockets."""
    return {
        "proxy": {"bind_addr": f"unix:{here}/proxy", "trusted_proxies": ["unix"], **more},
        "upstream": {"bind_addr": f"unix:{here}/upstream", "socket_mode": "600"},
    }


def to_socket(here: Path) -> dict[str, object]:
    """Settings of an agent beside such a node."""
    return {"connect": {"url": f"unix:{here}/upstream"}}


def test_nginx_in_front_and_behind(stage: Stage, here: Path) -> None:
    """From nginx to the node, from the agent to the node, and from the agent to nginx over Unix sockets: services and
    the access log have the client's address, one that is told by PROXY protocol too, on each connection that of its
    client; and a service that asks for a certificate gets the listener's."""
    authority = Authority(here)
    authority.issue("service", (HOST,))
    pair = authority.issue("agent-of-ours", client=True)
    ports = {"told": free_port(), "secure": free_port(), "front": free_port()}
    config = here / "nginx.conf"
    config.write_text(_NGINX.format(here=here, host=HOST, **ports))
    node = stage.node(settings=on_sockets(here))
    program = find_program("nginx", "nginx-light")
    listening(stage, Process("nginx", [program, "-e", "stderr", "-c", str(config)], stage.directory), ports["front"])
    shown = {"ca": str(authority.ca), "cert": str(pair.cert), "key": str(pair.key)}
    secure = f"https://{HOST}:{ports['secure']}"
    listeners: dict[str, str | int | Settings] = {
        "web": {"addr": f"unix:{here}/web"},
        "own": {"addr": f"unix:{here}/web", "rewrite_host": "true"},
        "told-1": {"addr": f"{HOST}:{ports['told']}", "proxy_protocol": "v1"},
        "told-2": {"addr": f"unix:{here}/told", "proxy_protocol": "v2"},
        "secure": {"addr": secure, "tls": shown},
        "insecure": {"addr": secure, "tls": {"ca": str(authority.ca)}},
    }
    stage.agent(node, listeners, to_socket(here))
    front = ports["front"]
    assert asked(front, "web") == (200, f"web.example {CLIENT}")
    assert asked(front, "own") == (200, f"localhost {CLIENT}")
    for endpoint in ("told-1", "told-2"):
        assert asked(front, endpoint) == (200, f"{CLIENT} to 80")
        for _ in range(3):  # on one connection to the node, of several clients
            fields = {"X-Forwarded-For": "203.0.113.7"}
            assert asked(front, endpoint, fields) == (200, f"{CLIENT} to 80")
        with contextlib.closing(over(here / "proxy")) as client:
            for told in ("203.0.113.7", "203.0.113.8", "2001:db8::1", "203.0.113.7"):
                client.send(f"GET / HTTP/1.1\r\nHost: {endpoint}.example\r\nX-Forwarded-For: {told}\r\n\r\n".encode())
                assert client.read_response().body == f"{told} to 80".encode()
    assert asked(front, "secure") == (200, "CN=agent-of-ours")
    assert asked(front, "insecure")[0] == 400
    node.wait_output(f'"client":"{CLIENT}"')
    assert {name: (here / name).stat().st_mode & 0o777 for name in ("proxy", "upstream")} == {
        "proxy": 0o660,
        "upstream": 0o600,
    }
    node.terminate()
    assert node.wait_exit() == 0
    assert not (here / "proxy").exists() and not (here / "upstream").exists()


def test_a_node_that_was_killed(stage: Stage, here: Path) -> None:
    """Its files are in nobody's way: the next process has them, and the agent finds it; while it lives, a second one
    does not start."""
    with contextlib.closing(Service()) as service:
        service.handler = lambda request: answer(b"here")
        ports = Ports.pick()
        node = stage.node(ports=ports, settings=on_sockets(here))
        stage.agent(node, {"web": service.address}, to_socket(here))
        second = stage.command("second", "pico", "--config", str(node.config_path))
        assert second.wait_exit() == 1
        assert f"cannot listen on unix:{here}/proxy (proxy.bind_addr): another process listens there" in second.output
        node.kill()
        node.wait_exit()
        assert (here / "proxy").exists()
        again = stage.node(ports=ports, settings=on_sockets(here))
        again.wait_endpoint("web")
        with contextlib.closing(over(here / "proxy")) as client:
            client.send(b"GET / HTTP/1.1\r\nHost: web.example\r\n\r\n")
            assert client.read_response().body == b"here"
        assert service.requests[-1].get("x-forwarded-for") == b"unknown"


@pytest.mark.parametrize("version", [b"HTTP/1.0", b"HTTP/1.1"])
def test_a_client_that_leaves(stage: Stage, here: Path, version: bytes) -> None:
    """The kernel says so, and the service sees it at once, whatever the client speaks; one that only ended its half
    gets its answer."""
    with contextlib.closing(Service()) as service:
        go_on = threading.Event()

        def script(connection: Connection) -> None:
            request = connection.read_request()
            if request.target == b"/left":
                connection.linger()
            else:
                go_on.wait(30)
                connection.send(answer(b"patience"))

        service.script = script
        node = stage.node(settings=on_sockets(here))
        stage.agent(node, {"web": service.address}, to_socket(here))
        with contextlib.closing(over(here / "proxy")) as client:
            client.send(b"GET /left %b\r\nHost: web.example\r\n\r\n" % version)
            left = service.wait_connection()
            service.wait_request()
        wait_until(left.gone.is_set, "the end of the service's connection")
        with contextlib.closing(over(here / "proxy")) as client:
            client.send(b"GET /ended %b\r\nHost: web.example\r\n\r\n" % version)
            client.pipe.half_close()
            service.wait_request(1)
            go_on.set()
            assert client.read_response().body == b"patience"


def test_haproxy_before_workers(stage: Stage, here: Path) -> None:
    """Two workers share one socket, behind HAProxy that sends headers: each takes clients, whose addresses services
    get; a worker that dies loses no later client, and the file goes with the host."""
    with contextlib.closing(Service()) as service:
        service.handler = lambda request: answer(request.get("via") or b"")
        cluster = {"workers": 2, "gossip": {"bind_addr": f"{HOST}:{free_row(2)}"}}
        settings = {**on_sockets(here, proxy_protocol=True, via=True), "cluster": cluster}
        node = stage.node(settings=settings)
        stage.agent(node, {"web": service.address}, {**to_socket(here)}, wait=False)
        front = free_port()
        config = here / "haproxy.cfg"
        config.write_text(_HAPROXY.format(host=HOST, front=front, node=here / "proxy"))
        program = find_program("haproxy", "haproxy")
        listening(stage, Process("haproxy", [program, "-db", "-f", str(config)], stage.directory), front)
        wait_until(lambda: asked(front, "web")[0] == 200, "an answer")
        assert service.requests[-1].get("x-forwarded-for") == CLIENT.encode()
        seen: set[str] = set()

        def both_serve() -> bool:
            seen.add(asked(front, "web")[1])
            return len(seen) >= 2

        wait_until(both_serve, "requests through both workers")
        asking = Asking([(HOST, front)], "web", clients=2, pause_s=0.01, path="/")
        asking.wait_more(20)
        asking.stop()
        assert asking.failures == []
        node.terminate()
        assert node.wait_exit() == 0
        assert not (here / "proxy").exists()


def test_sockets_of_systemd(stage: Stage, here: Path) -> None:
    """They stay while the node restarts, with the permissions that their unit gave them: who comes meanwhile waits, and
    agents are let in first."""
    sockets: dict[str, list[socket.socket]] = {}
    for name in ("proxy", "upstream"):
        sockets[name] = [socket.socket(socket.AF_UNIX)]
        sockets[name][0].bind(str(here / name))
        sockets[name][0].listen(64)
    (here / "proxy").chmod(0o604)
    systemd = Systemd(here / "systemd", sockets)
    with contextlib.closing(systemd), contextlib.closing(Service()) as service:
        service.handler = lambda request: answer(b"here")
        ports = Ports.pick()
        node: Node = stage.node(ports=ports, settings=on_sockets(here), prelude=systemd.prelude)
        stage.agent(node, {"web": service.address}, to_socket(here))
        node.terminate()
        assert node.wait_exit() == 0
        assert (here / "proxy").stat().st_mode & 0o777 == 0o604
        with contextlib.closing(over(here / "proxy")) as client:
            client.send(b"GET / HTTP/1.1\r\nHost: web.example\r\n\r\n")
            stage.node(ports=ports, settings=on_sockets(here), prelude=systemd.prelude)
            assert client.read_response().body == b"here"
        assert (here / "proxy").stat().st_mode & 0o777 == 0o604


def test_a_tcp_endpoint_on_a_socket(stage: Stage, here: Path) -> None:
    """Bytes both ways and half a connection, and the client's address in front of them."""

    def serve(listening: socket.socket) -> None:
        with listening, listening.accept()[0] as sock:
            data = b""
            while piece := sock.recv(65536):
                data += piece
            sock.sendall(data)

    listens = socket.socket(socket.AF_UNIX)
    listens.bind(str(here / "echo"))
    listens.listen()
    threading.Thread(target=serve, args=(listens,), daemon=True).start()
    node = stage.node(settings={"proxy": {"trusted_proxies": [HOST]}})
    listener: Settings = {"addr": f"unix:{here}/echo", "protocol": "tcp", "proxy_protocol": "v1"}
    stage.agent(node, {"echo": listener})
    session = Session(node, "echo", headers=[("X-Forwarded-For", "203.0.113.7")])
    body = bytes(range(256)) * 4000
    session.send(body)
    session.end()
    header, _, rest = session.read_rest().partition(b"\r\n")
    assert header == b"PROXY TCP4 203.0.113.7 0.0.0.0 0 %d" % node.ports.proxy
    assert rest == body
    session.drop()
