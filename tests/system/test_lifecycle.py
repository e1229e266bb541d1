"""Processes that die, hang and drain, while requests go through them."""

from __future__ import annotations

import contextlib
import signal
import threading
import time
from collections.abc import Iterator

import pytest

from tests.peers import v2
from tests.peers.pipe import PATIENCE_S, Ended
from tests.system.asking import Asking
from tests.system.balancer import Balancer
from tests.system.requesting import GET, POST, ask, client_of
from tests.system.service import Connection, Service, answer
from tests.system.wire import Broken, Request
from tools.stage.nodes import Node
from tools.stage.processes import Process
from tools.stage.stage import Stage
from tools.stage.waiting import wait_until
from tools.stage.wrk import Wrk

PLAIN = pytest.mark.parametrize("stage", ["plain"], indirect=True)


# -- sudden deaths


def test_kill_9_of_the_node(stage: Stage, service: Service) -> None:
    """A node that is killed and started again gets its agent back by itself, and requests pass again."""
    node = stage.node()
    stage.agent(node, {"web": service.address})
    client = client_of(stage, node)
    client.send(GET)
    assert client.read_response().status == 200
    node.kill()
    assert client.ended()
    client.close()
    again = stage.node(ports=node.ports)
    again.wait_endpoint("web")
    assert ask(stage, again).status == 200


def test_kill_9_of_the_agent(stage: Stage, service: Service) -> None:
    """A killed agent's endpoint is gone at once; a call in flight is a 502, one half answered a broken transfer."""
    half = threading.Event()

    def script(connection: Connection) -> None:
        request = connection.read_request()
        if request.target == b"/half":
            connection.send(b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nhalf")
            half.set()
        connection.linger()

    service.script = script
    node = stage.node()
    agent = stage.agent(node, {"web": service.address})
    waiting, reading = client_of(stage, node), client_of(stage, node)
    waiting.send(GET)
    reading.send(GET.replace(b"/ HTTP", b"/half HTTP"))
    assert reading.response_head().status == 200
    assert reading.body_bytes(4) == b"half"
    service.wait_request(1)
    agent.kill()
    response = waiting.read_response()
    assert response.status == 502
    with pytest.raises(Broken):
        reading.body_piece()
    wait_until(lambda: "web" not in node.admin.endpoints(), "the endpoint to go")
    assert ask(stage, node).status == 502
    for client in (waiting, reading):
        client.close()
    for connection in service.connections:
        assert connection.gone.wait(PATIENCE_S)


def loaded(stage: Stage, addresses: list[tuple[str, int]]) -> Asking:
    """Clients that ask without a pause."""
    return Asking(addresses, "web", clients=8, pause_s=0.0, tls=stage.tls.context if stage.tls else None)


def test_kill_9_of_one_of_two_agents(stage: Stage, service: Service, other_service: Service) -> None:
    """Calls in flight at the killed agent are made again at the other one when that is safe: no GET fails."""
    for one in (service, other_service):
        one.handler = lambda request: answer(b"x" * 100)
    node = stage.node()
    first = stage.agent(node, {"web": service.address}, name="agent-1")
    stage.agent(node, {"web": other_service.address}, name="agent-2")
    load = loaded(stage, [node.proxy])
    load.wait_more(100)
    first.kill()
    load.wait_more(100)
    load.stop()
    # A response that had begun cannot be made again; all others must succeed.
    assert [one for one in load.failures if not one.problem.startswith(("Broken", "Ended"))] == []
    assert len(load.failures) <= 8
    node.wait_endpoint("web", 1)


@PLAIN
@pytest.mark.slow  # the silence after which a session is given up is no setting
def test_sigstop_of_the_agent(stage: Stage, service: Service) -> None:
    """An agent that is stopped, its connections open, is given up after 20 s; it comes back when it goes on."""
    node = stage.node()
    agent = stage.agent(node, {"web": service.address})
    assert ask(stage, node).status == 200
    agent.signal(signal.SIGSTOP)
    try:
        client = client_of(stage, node)
        client.send(POST)
        wait_until(lambda: "web" not in node.admin.endpoints(), "the endpoint to go", 60.0)
        assert client.read_response().status in (502, 504)
        client.close()
    finally:
        agent.signal(signal.SIGCONT)
    node.wait_endpoint("web")
    assert ask(stage, node).status == 200


# -- the ordered end


def test_sigterm_of_an_idle_node(stage: Stage, service: Service) -> None:
    """SIGTERM ends an idle node with status 0, though an agent is connected, which then tries to come back."""
    node = stage.node(settings={"grace_period": "20s"})
    agent = stage.agent(node, {"web": service.address})
    node.terminate()
    assert node.wait_exit() == 0
    assert agent.running
    again = stage.node(ports=node.ports)
    again.wait_endpoint("web")
    assert ask(stage, again).status == 200


def test_sigterm_of_an_idle_agent(stage: Stage, service: Service) -> None:
    """SIGTERM ends an idle agent with status 0; its endpoint is gone."""
    node = stage.node()
    agent = stage.agent(node, {"web": service.address})
    agent.terminate()
    assert agent.wait_exit() == 0
    wait_until(lambda: "web" not in node.admin.endpoints(), "the endpoint to go")


@PLAIN
def test_sigterm_of_an_agent_that_cannot_connect(stage: Stage) -> None:
    """An agent between two attempts ends at once with status 0."""
    agent = stage.agent("http://127.0.0.1:1", {"web": "3000"})
    agent.wait_output("127.0.0.1:1")
    agent.terminate()
    assert agent.wait_exit() == 0


def test_a_node_finishes_its_calls(stage: Stage, service: Service) -> None:
    """SIGTERM: not ready at once, calls in flight are finished with Connection: close, then status 0."""
    go_on = threading.Event()

    def handler(request: Request) -> bytes:
        assert go_on.wait(PATIENCE_S)
        return answer(b"finished")

    service.handler = handler
    node = stage.node()
    stage.agent(node, {"web": service.address})
    client = client_of(stage, node)
    client.send(POST)
    service.wait_request()
    node.terminate()
    wait_until(lambda: node.admin.status("/ready") == 503, "the node to say that it drains")
    go_on.set()
    response = client.read_response()
    assert (response.body, response.get("connection")) == (b"finished", b"close")
    assert client.ended()
    client.close()
    assert node.wait_exit() == 0


def test_an_agent_finishes_its_calls(stage: Stage, service: Service) -> None:
    """SIGTERM to the agent: the call in flight, and its streaming response, are finished before it ends with 0."""
    go_on = threading.Event()

    def script(connection: Connection) -> None:
        connection.read_request()
        connection.send(b"HTTP/1.1 200 OK\r\nContent-Length: 8\r\n\r\nhalf")
        assert go_on.wait(PATIENCE_S)
        connection.send(b"full")
        connection.linger()

    service.script = script
    node = stage.node()
    agent = stage.agent(node, {"web": service.address})
    client = client_of(stage, node)
    client.send(GET)
    assert client.response_head().status == 200
    assert client.body_bytes(4) == b"half"
    agent.terminate()
    agent.wait_output(lambda output: "Stopping" in output or "rain" in output)
    go_on.set()
    assert client.body_bytes(4) == b"full"
    client.close()
    assert agent.wait_exit() == 0


def test_a_draining_node_serves_an_open_connection(stage: Stage, service: Service) -> None:
    """A keep-alive connection between two requests: the next one is served, with Connection: close."""
    held = threading.Event()

    def handler(request: Request) -> bytes:
        if request.method == b"POST":
            assert held.wait(PATIENCE_S)
        return answer(b"ok")

    service.handler = handler
    node = stage.node()
    stage.agent(node, {"web": service.address})
    idle, busy = client_of(stage, node), client_of(stage, node)
    idle.send(GET)
    assert idle.read_response().get("connection") is None
    busy.send(POST)
    service.wait_request(1)
    node.terminate()
    wait_until(lambda: node.admin.status("/ready") == 503, "the node to say that it drains")
    idle.send(GET)
    response = idle.read_response()
    assert (response.status, response.get("connection")) == (200, b"close")
    assert idle.ended()
    held.set()
    assert busy.read_response().status == 200
    idle.close()
    busy.close()
    assert node.wait_exit() == 0


def test_a_draining_node_with_nowhere_to_send(stage: Stage) -> None:
    """A request that a draining node can send nowhere is 503 with Retry-After, so that the client goes elsewhere."""
    node = stage.node()
    peer = v2.Agent(node.upstream, "web", tls=stage.tls.context if stage.tls else None)
    node.wait_endpoint("web")
    busy, idle = client_of(stage, node), client_of(stage, node)
    busy.send(POST)
    call = peer.next_call().call
    idle.send(GET.replace(b"web", b"nobody"))
    assert idle.read_response().status == 502
    node.terminate()
    wait_until(lambda: node.admin.status("/ready") == 503, "the node to say that it drains")
    idle.send(GET.replace(b"web", b"nobody"))
    response = idle.read_response()
    assert (response.status, response.get("connection")) == (503, b"close")
    assert response.get("retry-after") is not None
    assert response.get("x-pico-error") is not None
    peer.answer_call(call, answer(b"ok"))
    assert busy.read_response().body == b"ok"
    for client in (busy, idle):
        client.close()
    peer.close()
    assert node.wait_exit() == 0


def ends_unnoticed(process: Process, load: Asking, wrk: Wrk, before: set[bytes]) -> None:
    """SIGTERM to a process: no request fails, and those after its end are answered with `two` only."""
    try:
        load.wait_more(200)
        assert load.bodies() == before
        process.terminate()
        assert process.wait_exit() == 0
        since = time.monotonic()
        load.wait_more(100)
        result = wrk.result()
        load.check()
        assert load.bodies(since) == {b"two"}
        assert (result.failed, result.requests > 0) == (0, True), result.output
    finally:
        wrk.close()
        load.stop()


def test_sigterm_of_one_of_two_agents_under_load(stage: Stage, service: Service, other_service: Service) -> None:
    """Keep-alive clients and wrk notice nothing when one of two agents ends in order."""
    service.handler = lambda request: answer(b"one")
    other_service.handler = lambda request: answer(b"two")
    node = stage.node()
    first = stage.agent(node, {"web": service.address}, name="agent-1")
    stage.agent(node, {"web": other_service.address}, name="agent-2")
    load = loaded(stage, [node.proxy])
    wrk = Wrk(node.url(), "web", seconds=3)
    ends_unnoticed(first, load, wrk, {b"one", b"two"})


@pytest.fixture
def balanced(stage: Stage, service: Service, other_service: Service) -> Iterator[tuple[Node, Node, Balancer]]:
    """Two nodes, each with an agent for the endpoint `web`, and a balancer that prefers the first."""
    service.handler = lambda request: answer(b"one")
    other_service.handler = lambda request: answer(b"two")
    first, second = stage.node("node-1"), stage.node("node-2")
    stage.agent(first, {"web": service.address}, name="agent-1")
    stage.agent(second, {"web": other_service.address}, name="agent-2")
    balancer = Balancer([first.proxy, second.proxy])
    yield first, second, balancer
    balancer.close()


def test_sigterm_of_a_node_under_load(stage: Stage, balanced: tuple[Node, Node, Balancer]) -> None:
    """Clients with keep-alive that go to another node after Connection: close see no failed request, wrk neither."""
    first, second, balancer = balanced
    load = loaded(stage, [first.proxy, second.proxy])
    scheme = "https" if stage.tls else "http"
    wrk = Wrk(f"{scheme}://127.0.0.1:{balancer.port}/", "web", seconds=4)
    ends_unnoticed(first, load, wrk, {b"one"})


def test_an_agent_moves_from_a_draining_node(stage: Stage, service: Service) -> None:
    """An agent that knows two nodes leaves the draining one for the other before it is dropped."""
    first = stage.node("node-1")
    agent = stage.agent([first], {"web": service.address})
    agent.close()
    second = stage.node("node-2", wait=True)
    # Started while only the first takes connections would be a race; so both are there, and the drain hits its node.
    stage.agent([first, second], {"web": service.address}, name="agent-2")
    left, right = (first, second) if "web" in first.admin.endpoints() else (second, first)
    left.terminate()
    right.wait_endpoint("web")
    assert ask(stage, right).status == 200
    assert left.wait_exit() == 0
    assert ask(stage, right).status == 200


@PLAIN
def test_a_second_signal_cuts_at_once(stage: Stage, service: Service) -> None:
    """A call that never ends holds the first signal's stop; the second signal cuts it."""
    service.script = lambda connection: connection.linger()
    long = {"grace_period": "10m"}
    node = stage.node(settings=long)
    first = stage.agent(node, {"web": service.address}, long)
    for number, process in enumerate((first, node)):
        if process is node:
            stage.agent(node, {"web": service.address}, long, name="agent-2")
        client = client_of(stage, node)
        client.send(POST)
        service.wait_connection(number)
        process.terminate()
        process.wait_output("Stopping")
        if process is node:
            wait_until(lambda: node.admin.status("/ready") == 503, "the drain")
        assert process.running
        process.terminate()
        process.wait_exit()
        client.close()


@PLAIN
def test_the_grace_period_ends(stage: Stage, service: Service) -> None:
    """What is not finished within grace_period is cut, and the process ends by itself."""
    service.script = lambda connection: connection.linger()
    node = stage.node(settings={"grace_period": "1s"})
    agent = stage.agent(node, {"web": service.address}, {"grace_period": "1s"})
    client = client_of(stage, node)
    client.send(GET)
    service.wait_connection()
    agent.terminate()
    agent.wait_exit()
    assert client.read_response().status == 502
    client.close()
    stage.agent(node, {"web": service.address}, name="agent-2")
    client = client_of(stage, node)
    client.send(GET)
    service.wait_connection(1)
    node.terminate()
    node.wait_exit()
    # An answer of 503 or a cut connection are both honest; a success is not.
    with contextlib.suppress(Ended, Broken):
        assert client.read_response().status != 200
    client.close()


@PLAIN
def test_ctrl_c(stage: Stage, service: Service) -> None:
    """SIGINT is as good as SIGTERM."""
    node = stage.node()
    agent = stage.agent(node, {"web": service.address})
    agent.signal(signal.SIGINT)
    assert agent.wait_exit() == 0
    node.signal(signal.SIGINT)
    assert node.wait_exit() == 0
