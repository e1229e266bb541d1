"""Sockets that systemd holds while a node restarts. The tests stand in for systemd: they bind, and hand over."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.system import wire
from tests.system.asking import Asking
from tests.system.handing import Systemd, bound
from tests.system.requesting import client_of
from tests.system.service import Service, answer
from tools.stage.ports import HOST, Ports
from tools.stage.stage import Stage

pytestmark = pytest.mark.parametrize("stage", ["plain"], indirect=True)

ASKING = b"GET %b HTTP/1.1\r\nHost: web\r\nx-pico-endpoint: web\r\n%b\r\n"


@pytest.fixture
def ports() -> Ports:
    """Of the node."""
    return Ports.pick()


@pytest.fixture
def systemd(tmp_path: Path, ports: Ports) -> Iterator[Systemd]:
    """It holds all ports of a node, as one unit."""
    made = Systemd(tmp_path / "systemd", {"pico.socket": bound(ports)})
    yield made
    made.close()


def test_a_restart_refuses_nobody(stage: Stage, systemd: Systemd, ports: Ports, service: Service) -> None:
    """With a WebSocket and a stream of events open, and requests all the time: no connection is refused or cut, and
    what came while no process was there is answered by the next one."""

    def respond(request: wire.Request) -> bytes:
        if request.target == b"/socket":
            return b"HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: echo\r\n\r\n"
        if request.target == b"/events":
            return b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\n\r\ndata: 1\n\n"
        return answer(b"here")

    service.handler = respond
    settings = {"drain_streams": "1s"}
    node = stage.node(ports=ports, settings=settings, prelude=systemd.prelude)
    stage.agent(node, {"web": service.address})
    streams = [client_of(stage, node) for _ in range(2)]
    streams[0].send(ASKING % (b"/socket", b"Connection: Upgrade\r\nUpgrade: echo\r\n"))
    streams[1].send(ASKING % (b"/events", b""))
    assert [stream.read_head().split()[1] for stream in streams] == [b"101", b"200"]
    asking = Asking([node.proxy], "web", clients=4, pause_s=0.02, kept=5, path="/")
    try:
        asking.wait_more(20)
        node.terminate()
        assert node.wait_exit() == 0
        again = stage.node(ports=ports, settings=settings, prelude=systemd.prelude, name=node.name)
        asking.wait_more(40)
    finally:
        asking.stop()
        for stream in streams:
            stream.close()
    broken = [outcome for outcome in asking.failures if not outcome.problem.startswith(("502", "503"))]
    assert broken == []
    assert again.running


def test_all_five_sockets_are_used(stage: Stage, systemd: Systemd, ports: Ports) -> None:
    """Two nodes find each other through the gossip port that was handed over, for packets and for links."""
    node = stage.node(ports=ports, prelude=systemd.prelude, name="n1")
    other = stage.node(settings={"cluster": {"join": [f"{HOST}:{ports.gossip}"]}}, name="n2")
    other.wait_until(lambda: node.admin.statuses() == {"n1": "active", "n2": "active"}, "two nodes")


def test_a_socket_that_is_for_no_port_stops_the_start(stage: Stage, tmp_path: Path, ports: Ports) -> None:
    """Else its clients would wait for ever."""
    stray = socket.create_server((HOST, Ports.pick(but=ports.numbers).proxy))
    systemd = Systemd(tmp_path / "systemd", {"pico.socket": [stray]})
    try:
        node = stage.command("node", "pico", *ports.flags(), prelude=systemd.prelude)
        assert node.wait_exit() == 1
        assert f"what is for no port of this node: TCP at {HOST}:{stray.getsockname()[1]}" in node.output
    finally:
        systemd.close()


def test_workers_refuse_them_with_words(stage: Stage, systemd: Systemd, ports: Ports) -> None:
    """Each worker needs a socket of its own, which only their parent can make."""
    host = stage.command("host", "pico", *ports.flags(), "--cluster.workers=2", prelude=systemd.prelude)
    assert host.wait_exit() == 1
    assert "cluster.workers cannot use sockets that systemd hands over" in host.output
