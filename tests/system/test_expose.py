"""`picoctl http`, `tcp` and `file`: what is reachable, who may come in, and what is refused with which words."""

from __future__ import annotations

import base64
import os
import re
import socket
from pathlib import Path
from urllib.parse import urlsplit

import pytest

from pico_twisted.core.access.credentials_file import hash_of
from tests.peers import websocket
from tests.system.exposing import Exposer, exposing, home, over
from tests.system.service import Service, answer
from tests.system.shapes import NO_TLS
from tests.system.test_restart import streams
from tests.system.test_upgrades import echo_websocket
from tests.system.wire import connect
from tools.stage.asking import Answer, get
from tools.stage.certificates import Tls
from tools.stage.forwarders import forwarder
from tools.stage.nodes import Node
from tools.stage.ports import free_port
from tools.stage.stage import Stage
from tools.stage.waiting import wait_until

TOKEN = "pico_of-a-developer"


def asked(node: Node, endpoint: str, path: str = "/", **fields: str) -> Answer:
    """The answer to a request for an endpoint."""
    named = {name.replace("_", "-"): value for name, value in fields.items()}
    return get(node.ports.proxy, path, {"x-pico-endpoint": endpoint, **named})


# The first minute


@NO_TLS
def test_one_command_and_nothing_else(stage: Stage, service: Service, tmp_path: Path) -> None:
    """Without a node anywhere one command gives a URL on this machine, writes nothing where it runs, and says who can
    reach it. The next time it is the same name."""
    env = home(tmp_path)
    first = exposing(stage, None, "http", str(service.port), env=env)
    (event,) = first.events("url")
    url = urlsplit(event["url"])
    assert re.fullmatch(r"[a-z]+-[a-z]+-[a-z0-9]{4}\.localhost", url.hostname or "")
    assert url.port
    assert get(url.port, "/", {"host": url.netloc}).status == 200
    assert get(url.port, "/", {"host": f"localhost:{url.port}"}).status == 200
    assert "only this machine" in first.wait_event("note")["text"]
    listening = [line for line in first.events("url") if not urlsplit(line["url"]).hostname]
    assert listening == []
    assert first.stop() is None
    again = exposing(stage, None, "http", str(service.port), env=env)
    assert again.names == first.names
    assert sorted(os.listdir(tmp_path / "home" / "config" / "pico")) == ["names.json"]


@NO_TLS
def test_only_this_machine_reaches_its_own_node(stage: Stage, service: Service) -> None:
    """A node in the process of the command listens on loopback alone."""
    process = exposing(stage, None, "http", str(service.port))
    port = urlsplit(process.events("url")[0]["url"]).port
    assert port
    with socket.socket() as sock:
        sock.bind(("127.0.0.2", port))  # free, so nobody has all addresses


def test_through_a_node(stage: Stage, service: Service, other_service: Service) -> None:
    """Several services of one command, each by its name, through a node with and without TLS."""
    node = stage.node()
    trust = ("--ca", str(stage.tls.authority.ca)) if stage.tls else ()
    words = (f"shop={service.port}", f"api={other_service.address}", *trust)
    process = exposing(stage, node, "http", *words)
    assert process.names == ["shop", "api"]
    node.wait_endpoints(["shop", "api"])
    tls = stage.tls.context if stage.tls else None
    for name in process.names:
        assert get(node.ports.proxy, "/", {"x-pico-endpoint": name}, tls=tls).status == 200
    process.wait_event("request", 2)
    assert len(service.requests) == len(other_service.requests) == 1


@NO_TLS
def test_the_url_that_the_node_tells(stage: Stage, service: Service) -> None:
    """Where nodes have a public URL, it is what is shown."""
    node = stage.node(settings={"proxy": {"public_url": "https://*.tunnel.example.com"}})
    process = exposing(stage, node, "http", f"shop={service.port}")
    assert process.events("url")[0]["url"] == "https://shop.tunnel.example.com"


# What is told


@NO_TLS
def test_what_is_told_of_requests(stage: Stage, service: Service) -> None:
    """One line for each, with what a developer asks for; failures in words; secrets hidden."""
    node = stage.node()
    dead = free_port()
    process = exposing(stage, node, "http", f"shop={service.port}", f"dead={dead}")
    node.wait_endpoints(["shop", "dead"])
    assert asked(node, "shop", "/a?token=hunter2").status == 200
    told = process.wait_event("request")
    assert (told["method"], told["endpoint"], told["status"], told["error"]) == ("GET", "shop", 200, "")
    assert told["client"] == "127.0.0.1"
    assert "hunter2" not in process.output
    assert asked(node, "dead").status == 502
    failed = process.wait_event("request", 2)
    assert failed["reason"] == f"nothing listens at localhost:{dead}. Is your server running?"
    service.handler = lambda request: b"HTTP/1.1 200 OK\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\n"
    assert asked(node, "shop").status == 502
    assert process.wait_event("request", 3)["reason"].startswith("what your server answered is no HTTP: ")


@NO_TLS
def test_what_does_not_end_is_told_when_it_begins(stage: Stage, service: Service) -> None:
    """A WebSocket has a line when it opens and one when it closes; so has a stream of events."""
    node = stage.node()
    process = exposing(stage, node, "http", f"web={service.port}")
    service.script = lambda connection: echo_websocket(connection, connection.request_head())
    socket, _ = websocket.connect(node.proxy, "/", headers=[("x-pico-endpoint", "web")])
    assert process.wait_event("opened")["kind"] == "WebSocket"
    socket.pipe.close()
    assert process.wait_event("closed")["kind"] == "WebSocket"
    service.script = streams
    client = connect(node.proxy)
    client.send(b"GET /events HTTP/1.1\r\nHost: web.example\r\n\r\n")
    assert process.wait_event("opened", 2)["kind"] == "stream"
    client.close()
    assert process.wait_event("closed", 2)["kind"] == "stream"
    assert process.events("request") == []


@NO_TLS
def test_a_node_that_goes_and_comes(stage: Stage, service: Service) -> None:
    """One line says that it is away, however long that is, and one that it is back."""
    node = stage.node()
    process = exposing(stage, node, "http", f"web={service.port}")
    node.stop()
    process.wait_event("lost")
    wait_until(lambda: process.events("lost"), "the line")
    again = stage.node(ports=node.ports)
    process.wait_event("back")
    again.wait_endpoint("web")
    assert (len(process.events("lost")), len(process.events("back"))) == (1, 1)


@NO_TLS
def test_a_server_that_refuses_the_name(stage: Stage, service: Service) -> None:
    """Development servers refuse hosts that they do not know: a hint says what helps, and it does."""
    service.handler = lambda request: answer(
        status=200 if (request.get("host") or b"").startswith(b"localhost:") else 403
    )
    node = stage.node()
    process = exposing(stage, node, "http", f"web={service.port}")
    assert asked(node, "web", host="web.example").status == 403
    assert "--host-header" in process.wait_event("note")["text"]
    process.stop()
    process = exposing(stage, node, "http", f"web={service.port}", "--host-header")
    assert asked(node, "web", host="web.example").status == 200
    process.stop()
    exposing(stage, node, "http", f"web={service.port}", "--host-header", "localhost:1")
    assert asked(node, "web", host="web.example").status == 200
    assert service.requests[-1].get("host") == b"localhost:1"


# Who may come in


@NO_TLS
def test_passwords_and_addresses(stage: Stage, service: Service) -> None:
    """Who does not know the password gets a 401, and who comes from elsewhere a 403; the service sees neither."""
    node = stage.node()
    process = exposing(stage, node, "http", f"web={service.port}", "--basic-auth", "alice:a:b", "--basic-auth", "bob:x")
    assert asked(node, "web").status == 401
    for pair, status in (("alice:a:b", 200), ("bob:x", 200), ("alice:x", 401), ("carol:x", 401)):
        shown = f"Basic {base64.b64encode(pair.encode()).decode()}"
        assert asked(node, "web", authorization=shown).status == status
    assert len(service.requests) == 2
    assert "a:b" not in process.output
    process.stop()
    exposing(stage, node, "http", f"web={service.port}", "--allow", "10.0.0.0/8", "--allow", "192.0.2.1")
    assert asked(node, "web").status == 403
    assert len(service.requests) == 2


@NO_TLS
def test_two_people_and_one_name(stage: Stage, one: Service, two: Service) -> None:
    """The second is told whose the name is and what to do; if both share it, both serve."""
    node = stage.node()
    first = exposing(stage, node, "http", f"shop={one.port}")
    second = stage.add(
        Exposer(["http", f"shop={two.port}", "--to", node.upstream_url], stage.directory, home(stage.directory))
    )
    status, said = over(second)
    assert status == 1
    assert re.search(r"shop is served by \S+ \(127\.0\.0\.1, \d+ s\): --share to join, or another name", said)
    stage.remove(second)
    assert first.stop() is None
    exposing(stage, node, "http", f"shop={one.port}", "--share")
    exposing(stage, node, "http", f"shop={two.port}", "--share")
    node.wait_endpoint("shop", 2)
    assert {asked(node, "shop").body for _ in range(8)} == {b"one", b"two"}


@NO_TLS
def test_a_token(stage: Stage, service: Service, tmp_path: Path) -> None:
    """A node that wants a token is told one, by a file or the environment; what is remembered of it is the file."""
    tokens = tmp_path / "tokens"
    tokens.write_text(f"ann sha256:{hash_of(TOKEN.encode()).hex()} listen:ann-*\n")
    node = stage.node(settings={"upstream": {"auth": {"tokens_file": str(tokens)}}})
    env = home(tmp_path)
    to = ("--to", node.upstream_url)
    refused = stage.add(Exposer(["http", f"ann-web={service.port}", *to], stage.directory, env))
    status, said = over(refused)
    assert (status, said.count("\n")) == (1, 1)
    assert "A token: --token-file FILE or PICO_TOKEN_FILE" in said
    other = stage.add(Exposer(["http", f"web={service.port}", *to], stage.directory, {**env, "PICO_TOKEN": TOKEN}))
    status, said = over(other)
    assert (status, said.count("\n")) == (1, 1)
    assert f"Another name: picoctl http NAME={service.port}" in said
    for process in (refused, other):
        stage.remove(process)
    file = tmp_path / "token"
    file.write_text(TOKEN)
    process = exposing(stage, node, "http", f"ann-web={service.port}", "--token-file", str(file), env=env)
    assert asked(node, "ann-web").status == 200
    process.stop()
    again = stage.add(Exposer(["http", f"ann-web={service.port}"], stage.directory, env))
    again.wait_event("ready")
    kept = (tmp_path / "home" / "config" / "pico" / "nodes.json").read_text()
    assert str(file) in kept
    assert TOKEN not in kept


@NO_TLS
@pytest.mark.parametrize("port", ["proxy", "admin", "gossip"])
def test_another_port_of_a_node(stage: Stage, service: Service, port: str) -> None:
    """It is said which one it is, and which one is wanted, in one line."""
    node = stage.node()
    url = f"http://127.0.0.1:{getattr(node.ports, port)}"
    process = stage.add(Exposer(["http", str(service.port), "--to", url], stage.directory, home(stage.directory)))
    status, said = over(process)
    assert status == 1
    assert (
        said == f"picoctl: {url}: that is the {port} port of a node: --to takes the upstream port (8002 by default)\n"
    )
    stage.remove(process)


@NO_TLS
def test_nobody_there(stage: Stage, service: Service, tmp_path: Path) -> None:
    """A node that is not there ends the command with its own status; with patience it is waited for."""
    port = free_port()
    words = ["http", f"web={service.port}", "--to", f"http://127.0.0.1:{port}"]
    process = stage.add(Exposer(words, stage.directory, home(tmp_path)))
    assert over(process) == (3, f"picoctl: http://127.0.0.1:{port}: nothing listens there\n")
    stage.remove(process)
    node = stage.node()
    node.stop()
    words = ["http", f"web={service.port}", "--to", node.upstream_url, "--patience", "1m"]
    patient = stage.add(Exposer(words, stage.directory, home(tmp_path)))
    patient.wait_event("note")
    stage.node(ports=node.ports)
    patient.wait_event("ready")


# Other kinds


@NO_TLS
def test_tcp(stage: Stage, service: Service) -> None:
    """A TCP service is reached with picoctl forward, as the command says, and each connection is told."""
    service.script = lambda connection: connection.send(connection.read(5))
    node = stage.node()
    process = exposing(stage, node, "tcp", f"db={service.port}")
    assert process.events("url")[0]["otherwise"].startswith("picoctl forward 0 db --url http://")
    local = forwarder(stage, node, ["db"])
    with socket.create_connection(("127.0.0.1", local.port()), timeout=30) as client:
        client.sendall(b"hello")
        assert client.recv(5) == b"hello"
    assert process.wait_event("closed")["kind"] == "connection"


@NO_TLS
def test_a_service_with_a_certificate_of_its_own(stage: Stage, certificates: Tls) -> None:
    """An https service that nobody trusts is told of, with what helps; both ways of helping do."""
    service = Service(tls=certificates.authority.server_context(certificates.pair))
    try:
        node = stage.node()
        address = f"https://localhost:{service.port}"
        process = exposing(stage, node, "http", f"web={address}")
        assert asked(node, "web").status == 502
        assert "--insecure" in process.wait_event("request")["reason"]
        process.stop()
        for more in (("--insecure",), ("--service-ca", str(certificates.authority.ca))):
            process = exposing(stage, node, "http", f"web={address}", *more)
            assert asked(node, "web").status == 200
            process.stop()
    finally:
        service.close()
