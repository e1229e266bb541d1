"""`picoctl forward` with real nodes and agents: connections reach services, and what is cut does not look whole."""

from __future__ import annotations

import hashlib
import os
import socket
import threading

import pytest

from pico_twisted.core.access.credentials_file import hash_of
from tests.ctl.harness import picoctl
from tests.peers.pipe import PATIENCE_S, Ended, Pipe, dial
from tests.system.service import Connection, Service
from tests.system.stack import PLAIN, Stack
from tests.system.tcp import tcp_endpoint
from tools.stage.certificates import Tls
from tools.stage.forwarders import Forwarder, forwarder, reaching
from tools.stage.ports import unused_address
from tools.stage.stage import Stage

SIZE = 5_000_000
TOKEN = "pico_for-a-database"


def started(stack: Stack, *endpoints: str) -> Forwarder:
    """A forwarder to the stack's first node, ended with the stack."""
    return forwarder(stage=stack.stage, nodes=stack.node, endpoints=endpoints)


def connected(forward: Forwarder, endpoint: str = "") -> Pipe:
    """A local connection."""
    return dial(("127.0.0.1", forward.port(endpoint)))


def read_all(pipe: Pipe) -> tuple[bytes, bool]:
    """All that comes, and whether it ended in order: not by a reset."""
    found = bytearray()
    try:
        while True:
            found += pipe.recv()
    except Ended as ended:
        return bytes(found), not ended.broken


def ended(stack: Stack, forward: Forwarder) -> None:
    """End a forwarder, which ends in order."""
    stack.stage.processes.remove(forward)
    assert forward.stop() is None
    assert forward.faults() == []


def test_both_ways_whole_and_each_half_by_itself(stack: Stack) -> None:
    """Megabytes go both ways at once, and the ends of both halves arrive, in every shape."""
    up, down = os.urandom(SIZE), os.urandom(SIZE)
    digests: list[bytes] = []

    def serve(connection: Connection) -> None:
        sender = threading.Thread(target=connection.send, args=(down,))
        sender.start()
        digests.append(hashlib.sha256(connection.read_rest()).digest())
        sender.join()
        connection.send(b"the end")

    stack.service.script = serve
    forward = started(stack, tcp_endpoint(stack))
    local = connected(forward)
    stack.keep_pipe(local)

    def send() -> None:
        local.send(up)
        local.half_close()

    sender = threading.Thread(target=send)
    sender.start()
    assert read_all(local) == (down + b"the end", True)
    sender.join()
    assert digests == [hashlib.sha256(up).digest()]
    ended(stack, forward)


@PLAIN
def test_what_cannot_be_forwarded_is_reset_and_told(stack: Stack) -> None:
    """An endpoint of HTTP, a service that is away, one that breaks off, and a local program that is killed."""
    endpoint = tcp_endpoint(stack)
    seen: list[bool] = []

    def serve(connection: Connection) -> None:
        connection.send(b"half of it")
        try:
            if connection.read(4) == b"wait":  # which a cut may overtake
                connection.read(1)
            connection.pipe.reset()
        except Ended as ended:
            seen.append(ended.broken)

    stack.service.script = serve
    away = f"away-{endpoint}"
    agent = stack.stage.agent(stack.agents_node, {away: {"addr": unused_address(), "protocol": "tcp"}}, name="away")
    stack.wait_endpoints([away])
    forward = started(stack, endpoint, stack.endpoint, away)
    for other, words in (
        (stack.endpoint, f"{stack.endpoint}: node {stack.node.name} refuses (421 not-tcp)"),
        (away, f"{away}: node {stack.node.name} refuses (502 service-unreachable)"),
    ):
        local = connected(forward, other)
        assert read_all(local) == (b"", False)
        forward.wait_output(words)
    local = connected(forward, endpoint)
    local.send(b"gone")
    assert read_all(local) == (b"half of it", False)
    forward.wait_output(f"{endpoint}: a connection was cut: ")
    local = connected(forward, endpoint)
    local.send(b"wait")
    assert local.recv() == b"half of it"
    local.reset()
    stack.stage.remove(agent)
    forward.wait_until(lambda: seen, "the service to see the cut")
    assert seen == [True], "the service took it for an end"
    ended(stack, forward)


def guarded(stage: Stage) -> tuple[Service, Forwarder, str]:
    """A service that greets, behind a node that wants a token, and a forwarder whose file holds another one."""
    service = Service()

    def greet(connection: Connection) -> None:
        connection.send(b"hello")

    service.script = greet
    tokens, file = stage.directory / "tokens", stage.directory / "token"
    tokens.write_text(f"db sha256:{hash_of(TOKEN.encode()).hex()} connect:db\n")
    file.write_text("pico_of-somebody-else\n")
    node = stage.node("n1", {"proxy": {"auth": {"tokens_file": str(tokens)}}})
    stage.agent(node, {"db": {"addr": service.address, "protocol": "tcp"}, "other": service.address})
    return service, forwarder(stage, node, ["db", "other"], "--token-file", str(file)), str(file)


def test_a_token_is_shown_and_read_again(stage: Stage) -> None:
    """What a wrong token meets is told at the start; a right one in the same file is shown to the next connection, and
    opens what its rules allow."""
    service, forward, file = guarded(stage)
    try:
        forward.wait_output("node n1 refuses (401 unknown)")
        assert read_all(connected(forward, "db")) == (b"", False)
        with open(file, "w") as opened:
            opened.write(TOKEN)
        assert read_all(connected(forward, "db")) == (b"hello", True)
        assert read_all(connected(forward, "other")) == (b"", False)
        forward.wait_output("other: node n1 refuses (403 not-allowed)")
        assert TOKEN not in forward.output
        stage.processes.remove(forward)
        assert forward.stop() is None
    finally:
        service.close()


@pytest.mark.parametrize("stage", ["plain"], indirect=True)
def test_a_restart_of_node_and_agent_goes_unnoticed(stage: Stage) -> None:
    """A connection that is made while the only node is away waits for it, and for the agent to be back."""
    service = Service()

    def greet(connection: Connection) -> None:
        connection.send(b"hello")

    service.script = greet
    try:
        node = stage.node("n1")
        stage.agent(node, {"db": {"addr": service.address, "protocol": "tcp"}})
        forward = forwarder(stage, node, ["db"], "--patience", f"{PATIENCE_S:g}s")
        assert read_all(connected(forward)) == (b"hello", True)
        stage.remove(node)
        local = connected(forward)
        with socket.create_server(node.proxy):
            pass  # the port is free again
        stage.node("n1", ports=node.ports)
        assert read_all(local) == (b"hello", True)
        stage.processes.remove(forward)
        assert forward.stop() is None
    finally:
        service.close()


@pytest.mark.parametrize("stage", ["plain"], indirect=True)
def test_a_node_is_reached_by_its_socket(stage: Stage) -> None:
    """Where its proxy port is a unix socket."""
    service = Service(lambda connection: connection.send(b"hello"))
    path = stage.directory / "proxy"
    node = stage.node("n1", {"proxy": {"bind_addr": f"unix:{path}"}})
    stage.agent(node, {"db": {"addr": service.address, "protocol": "tcp"}})
    try:
        done = picoctl("forward", "-", "db", "--url", f"unix:{path}", own_process=True)
        assert (done.returncode, done.stdout, done.stderr) == (0, "hello", "")
    finally:
        service.close()


@pytest.mark.parametrize("stage", ["tls"], indirect=True)
def test_a_client_certificate_is_shown(stage: Stage, certificates: Tls) -> None:
    """In place of a token, where the proxy port knows whose it is."""
    service = Service(lambda connection: connection.send(b"hello"))
    known = stage.directory / "certificates"
    known.write_text("spiffe://tests/ann connect:db\n")
    auth = {"auth": {"certificates_file": str(known)}, "tls": {"client_ca": str(certificates.authority.ca)}}
    node = stage.node("n1", {"proxy": auth})
    stage.agent(node, {"db": {"addr": service.address, "protocol": "tcp"}})
    shown = ["forward", "-", "db", *reaching([node])]
    try:
        for name, status, out in (("spiffe://tests/ann", 0, "hello"), ("spiffe://tests/bob", 1, "")):
            pair = certificates.authority.issue("client", (name,), client=True)
            done = picoctl(*shown, "--cert", str(pair.cert), "--key", str(pair.key), own_process=True)
            assert (done.returncode, done.stdout) == (status, out), done.stderr
        assert "node n1 refuses (401 unknown)" in done.stderr
        done = picoctl(*shown, own_process=True)
        assert (done.returncode, "node n1 refuses (401 missing)" in done.stderr) == (1, True)
    finally:
        service.close()
