"""An agent in a network that lets nobody out but through a proxy."""

from __future__ import annotations

import base64
import contextlib
import os
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.ctl.harness import picoctl
from tests.peers.pipe import Ended, Listener, Pipe, dial
from tests.system import wire
from tests.system.balancer import copy
from tests.system.service import Service, answer
from tests.system.shapes import NO_TLS
from tools.stage.certificates import Authority
from tools.stage.ports import HOST
from tools.stage.stage import Stage

pytestmark = NO_TLS


class ConnectProxy:
    """A forward proxy that wants a user, and has a node behind whatever name it is asked for."""

    def __init__(self, user: str) -> None:
        self.asked: list[tuple[bytes, bytes]] = []
        self.leads_to = 0
        self._wanted = b"Basic " + base64.b64encode(user.encode())
        self._listener = Listener(self._serve)
        self.address = f"{HOST}:{self._listener.port}"

    def _serve(self, client: Pipe) -> None:
        stream = wire.Stream(client)
        with contextlib.suppress(Ended, wire.Broken):
            request = stream.request_head()
            self.asked.append((request.method, request.target))
            if request.get("proxy-authorization") != self._wanted:
                stream.send(b"HTTP/1.1 407 Who are you\r\nProxy-Authenticate: Basic\r\n\r\n")
                return
            node = dial((HOST, self.leads_to))
            stream.send(b"HTTP/1.1 200 Connection established\r\n\r\n")
            back = threading.Thread(target=copy, args=(node, client), daemon=True)
            back.start()
            copy(client, node)
            back.join(30)
            node.close()

    def close(self) -> None:
        self._listener.close()


@pytest.fixture
def proxy() -> Iterator[ConnectProxy]:
    """The only way out, for ann."""
    made = ConnectProxy("ann:s3cret")
    yield made
    made.close()


def test_the_way_out_of_the_environment(stage: Stage, proxy: ConnectProxy, service: Service, tmp_path: Path) -> None:
    """A node whose name nobody here can look up is reached as the environment says, by TLS from end to end: requests
    and answers of any size pass, and the log shows the proxy without the password."""
    service.handler = lambda request: answer(request.body[::-1])
    authority = Authority(tmp_path)
    pair = authority.issue("node", ("node.example",))
    node = stage.node(settings={"upstream": {"tls": {"cert": str(pair.cert), "key": str(pair.key)}}})
    proxy.leads_to = node.ports.upstream
    settings = {"connect": {"url": "https://node.example:8443", "tls": {"root_cas": str(authority.ca)}}}
    agent = stage.agent(
        "", {"web": service.address}, settings, env={"https_proxy": f"http://ann:s3cret@{proxy.address}"}
    )
    node.wait_endpoint("web")
    client = wire.connect(node.proxy)
    body = os.urandom(3_000_000)
    client.send(b"POST / HTTP/1.1\r\nHost: web.example\r\nContent-Length: %d\r\n\r\n" % len(body) + body)
    assert client.read_response().body == body[::-1]
    client.close()
    assert set(proxy.asked) == {(b"CONNECT", b"node.example:8443")}
    agent.wait_output(f"https://node.example:8443 is reached through the proxy http://{proxy.address}")
    assert "s3cret" not in agent.output


def test_a_proxy_that_wants_another_user(stage: Stage, proxy: ConnectProxy, service: Service) -> None:
    """The agent says why it does not register, and goes on trying; a user of the configuration is never shown."""
    settings = {"connect": {"url": "http://node.example:8002", "proxy": f"http://bob:passw0rd@{proxy.address}"}}
    agent = stage.agent("", {"web": service.address}, settings)
    agent.wait_output(f"the proxy http://{proxy.address} does not take the user and password (407)")
    agent.wait_until(lambda: len(proxy.asked) > 1, "another attempt")
    assert "passw0rd" not in agent.output and "Ym9iOn" not in agent.output


def test_picoctl_forward_goes_through_it(stage: Stage, proxy: ConnectProxy) -> None:
    """Where the environment names it; who is not let through is told."""
    service = Service(lambda connection: connection.send(b"hello"))
    node = stage.node()
    stage.agent(node, {"db": {"addr": service.address, "protocol": "tcp"}})
    proxy.leads_to = node.ports.proxy
    command = ("forward", "-", "db", "--url", "http://pico.example:8000", "--patience", "0s")
    try:
        done = picoctl(*command, own_process=True, all_proxy=f"http://ann:s3cret@{proxy.address}")
        assert (done.returncode, done.stdout, done.stderr) == (0, "hello", "")
        assert proxy.asked == [(b"CONNECT", b"pico.example:8000")]
        done = picoctl(*command, own_process=True, all_proxy=f"http://{proxy.address}")
        assert (done.returncode, done.stdout) == (3, "")
        assert done.stderr == f"picoctl: db: the proxy http://{proxy.address} wants a user and a password (407)\n"
    finally:
        service.close()
