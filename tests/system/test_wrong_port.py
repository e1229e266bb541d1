"""People who name the wrong port are told which one they met."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from tests.system.wire import connect
from tools.stage.processes import environment
from tools.stage.stage import Stage


def picoctl(*arguments: str) -> str:
    """What picoctl says on stderr."""
    command = [str(Path(sys.executable).with_name("picoctl")), *arguments]
    return subprocess.run(command, capture_output=True, text=True, timeout=60, env=environment(), check=False).stderr


@pytest.mark.parametrize("stage", ["plain"], indirect=True)
def test_every_port_says_which_it_is(stage: Stage) -> None:
    """picoctl at the ports that are not the admin port, and an agent at those that are not the upstream port, name the
    port that they met; so do the node's answers to a first-generation agent and to what speaks no HTTP."""
    node = stage.node(settings={"cluster": {"gossip": {"advertise_addr": ""}}})
    ports = {name: getattr(node.ports, name) for name in ("proxy", "admin", "upstream", "gossip")}
    for name in ("proxy", "upstream", "gossip"):
        told = picoctl("status", "--admin", f"http://127.0.0.1:{ports[name]}")
        assert f"that is the {name} port of a node" in told
    for name in ("proxy", "admin", "gossip"):
        agent = stage.agent(f"http://127.0.0.1:{ports[name]}", {"web": "127.0.0.1:1"}, name=f"agent-{name}", wait=False)
        line = agent.wait_output("Could not register")
        assert f"that is the {name} port of a node: connect.url takes its upstream port" in line
    client = connect(("127.0.0.1", ports["admin"]))
    client.send(b"GET /piko/v1/upstream/web HTTP/1.1\r\nHost: a\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n")
    response = client.read_response()
    client.close()
    assert response.status == 404 and b"agents connect to its upstream port" in response.body
    client = connect(("127.0.0.1", ports["upstream"]))
    client.send(b"SSH-2.0-OpenSSH_9.6\r\n")
    assert client.read_response().status == 400
    client.close()
