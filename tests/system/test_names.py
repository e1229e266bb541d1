"""Names that are never found: what a silent name server does to processes that ask it."""

from __future__ import annotations

import os
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.system.requesting import GET, ask, client_of
from tests.system.service import Service
from tools.stage.asking import Admin
from tools.stage.ports import free_port, unused_address
from tools.stage.stage import Stage
from tools.stage.waiting import wait_until

pytestmark = pytest.mark.parametrize("stage", ["plain"], indirect=True)

HANGING = "hangs.test"
WAITING = 60
"""Requests that wait for the name: more than any pool of threads has."""

FUNCTION = f"""
import socket, time
known = socket.getaddrinfo
def look_up(host, *more, **named):
    while host == {HANGING!r}:
        time.sleep(1)
    return known(host, *more, **named)
socket.getaddrinfo = look_up
"""
"""A prelude: the look-up of one name never ends."""

RESOLV_CONF = """
import ctypes
libc = ctypes.CDLL(None, use_errno=True)
assert libc.unshare(0x20000) == 0
assert libc.mount(None, b"/", None, 0x44000, None) == 0
assert libc.mount({path!r}, b"/etc/resolv.conf", None, 0x1000, None) == 0
"""
"""A prelude for root: this file is the process's /etc/resolv.conf."""


@pytest.fixture(params=["function", "name server"])
def prelude(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[str]:
    """What a process runs first, so that one name is never found: by a name server that is silent, if root asks."""
    if request.param == "function" or os.geteuid() != 0:
        yield FUNCTION
        return
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as silent:
        silent.bind((f"127.53.{os.getpid() // 256 % 256}.{os.getpid() % 254 + 1}", 53))
        path = tmp_path / "resolv.conf"
        path.write_text(f"nameserver {silent.getsockname()[0]}\noptions timeout:30 attempts:5\n")
        yield RESOLV_CONF.format(path=os.fsencode(path))


def test_a_service_whose_name_hangs(stage: Stage, service: Service, prelude: str) -> None:
    """Requests that wait for the name of their service neither hold up other services nor the end of the agent."""
    node = stage.node()
    agent = stage.agent(
        node,
        {"web": f"localhost:{service.port}", "other": f"{HANGING}:80"},
        settings={"grace_period": "1s"},
        prelude=prelude,
    )
    clients = [client_of(stage, node) for _ in range(WAITING)]
    for client in clients:
        client.send(GET.replace(b"web", b"other"))
    for _ in range(10):
        assert ask(stage, node).status == 200
    agent.terminate()
    assert agent.wait_exit() == 0
    for client in clients:
        client.close()


def test_nodes_whose_names_hang(stage: Stage, service: Service, prelude: str) -> None:
    """A node and an agent find those whose names are known beside one that hangs, and end in time."""
    first = stage.node("node-1")
    seeds = [f"{HANGING}:8003", f"localhost:{first.ports.gossip}"]
    second = stage.node("node-2", {"cluster": {"join": seeds}, "grace_period": "1s"}, prelude=prelude)
    assert second.admin.statuses() == {"node-1": "active", "node-2": "active"}
    urls = [f"http://{HANGING}:8002", second.upstream_url]
    agent = stage.agent(
        second, {"web": service.address}, {"connect": {"url": urls, "connections": "2"}}, prelude=prelude
    )
    assert ask(stage, second).status == 200
    for process in (agent, second):
        process.terminate()
        assert process.wait_exit() == 0


def test_an_agent_that_finds_no_node_ends(stage: Stage, prelude: str) -> None:
    """So does one that only waits for a name."""
    admin = free_port()
    settings = {"admin": {"bind_addr": f"127.0.0.1:{admin}"}}
    agent = stage.agent(f"http://{HANGING}:8002", {"web": unused_address()}, settings, prelude=prelude)
    wait_until(lambda: Admin(admin).status("/health") == 200, "an agent that takes signals")
    agent.terminate()
    assert agent.wait_exit() == 0
