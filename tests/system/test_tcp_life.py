"""TCP sessions while nodes and agents stop and die, and what clients and operators may set."""

from __future__ import annotations

import contextlib
import signal
import socket
import time
from pathlib import Path

import pytest

from pico_twisted.core.access.credentials_file import hash_of
from tests.peers import websocket
from tests.peers.pipe import Ended
from tests.system.cluster import Cluster
from tests.system.service import Connection, Service
from tests.system.shapes import NO_TLS
from tests.system.tcp import PATH, SUBPROTOCOL, Session
from tools.stage.nodes import Node, Settings
from tools.stage.stage import Stage
from tools.stage.waiting import wait_until


def echo(connection: Connection) -> None:
    """A script: says what it hears, and ends when its client does."""
    while True:
        try:
            connection.send(connection.pipe.recv(3600))
        except Ended as ended:
            if ended.broken:
                raise
            return


def listener(service: Service, **settings: object) -> Settings:
    """A listener of TCP for a service that echoes."""
    service.script = echo
    return {"addr": service.address, "protocol": "tcp", **settings}


def heard(session: Session, text: bytes = b"hello") -> bool:
    """Whether a session works."""
    session.send(text)
    return session.read(len(text)) == text


def refusal(node: Node, endpoint: str = "db", headers: websocket.Headers = (), **how: object) -> tuple[int, str]:
    """How a node refuses a session: status and code."""
    protocols = how.get("subprotocols", (SUBPROTOCOL,))
    with pytest.raises(websocket.Refused) as error:
        websocket.connect(
            node.proxy,
            PATH + endpoint,
            subprotocols=protocols,  # type: ignore[arg-type]
            headers=headers,
            tls=node.tls.context if node.tls else None,
        )
    return error.value.status, (error.value.answer.get("x-pico-error") or "").rpartition(" ")[2]


def test_a_node_that_stops(stage: Stage, service: Service) -> None:
    """A node that stops lets sessions go on, and new ones begin, for its grace period, and then tells clients with
    1001; its agent's service sees a reset. Streams of HTTP have their own bound."""
    node = stage.node(settings={"grace_period": "3s", "drain_streams": "0s", "proxy": {"keepalive_timeout": "1s"}})
    stage.agent(node, {"db": listener(service)})
    session = Session(node, "db")
    assert heard(session)
    began = time.monotonic()
    node.terminate()
    node.wait_output("Stopping")
    assert heard(session, b"still here")
    assert session.closed() == (1001, "the node stops")
    assert 1.5 < time.monotonic() - began < 15
    assert node.wait_exit() == 0


def test_an_agent_that_stops(stage: Stage, service: Service) -> None:
    """An agent that stops serves its sessions on; one that ends by itself in the grace period was never disturbed."""
    node = stage.node()
    agent = stage.agent(node, {"db": listener(service)}, {"grace_period": "20s", "drain_streams": "0s"})
    session = Session(node, "db")
    assert heard(session)
    agent.terminate()
    agent.wait_output("Waiting for calls in flight")
    time.sleep(0.5)
    assert heard(session, b"still here")
    session.end()
    assert session.read_rest() == b"" and session.closed() == (1000, "")
    assert agent.wait_exit() == 0


@NO_TLS
def test_an_agent_that_is_killed(stage: Stage, service: Service) -> None:
    """The client of an agent that is gone is told with 1011, and a new session goes to another one."""
    node = stage.node()
    agent = stage.agent(node, {"db": listener(service)})
    session = Session(node, "db")
    assert heard(session)
    stage.agent(node, {"db": listener(service)}, name="agent-2")
    agent.kill()
    code, reason = session.closed()
    assert code == 1011 and reason
    wait_until(lambda: node.admin.endpoints().get("db") == 1, "the end of the first registration")
    assert heard(Session(node, "db"))
    stage.remove(agent)


def test_nodes_that_are_killed(cluster: Cluster, service: Service) -> None:
    """With an agent at two nodes and a client at a third: a session whose node is killed is told, those through the
    other node are not disturbed, and new ones go on at once."""
    cluster.start("n1", "n2", "n3")
    cluster.stage.agent([cluster["n1"], cluster["n2"]], {"db": listener(service)}, {"connect": {"connections": "2"}})
    for id in ("n1", "n2"):
        cluster.wait_endpoint(id, "db")
    sessions = [Session(cluster["n3"], "db") for _ in range(8)]
    assert all(heard(session) for session in sessions)
    cluster["n1"].kill()
    cut = []
    for number, session in enumerate(sessions):
        try:
            assert heard(session, b"on and on")
        except Ended as ended:
            assert ended.code == 1011
            cut.append(number)
    assert 0 < len(cut) < len(sessions)
    for _ in range(8):
        assert heard(Session(cluster["n3"], "db"))


def test_who_may(stage: Stage, service: Service, tmp_path: Path) -> None:
    """A session asks for the same rule as a request, by the field, by Authorization, or by a subprotocol, which a page
    of a browser can show; one that shows none is refused before anything is known of the endpoint."""
    tokens = tmp_path / "tokens"
    tokens.write_text(
        f"db sha256:{hash_of(b'pico_db').hex()} connect:db\nweb sha256:{hash_of(b'pico_web').hex()} connect:web\n"
    )
    node = stage.node(settings={"proxy": {"auth": {"tokens_file": str(tokens)}}})
    stage.agent(node, {"db": listener(service)})
    assert refusal(node) == (401, "missing")
    assert refusal(node, headers=[("x-pico-authorization", "pico_other")]) == (401, "unknown")
    assert refusal(node, headers=[("x-pico-authorization", "pico_web")]) == (403, "not-allowed")
    assert refusal(node, "nobody", headers=[("x-pico-authorization", "pico_web")]) == (403, "not-allowed")
    page = ("Origin", "https://page.example")
    for headers in ([("x-pico-authorization", "pico_db")], [("Authorization", "Bearer pico_db")]):
        assert heard(Session(node, "db", headers=headers))
        assert refusal(node, headers=[*headers, page]) == (403, "origin-refused")
    ws, answer = websocket.connect(
        node.proxy,
        PATH + "db",
        subprotocols=(SUBPROTOCOL, "pico.bearer.pico_db"),
        headers=[page],
        tls=node.tls.context if node.tls else None,
    )
    assert answer.get("sec-websocket-protocol") == SUBPROTOCOL
    ws.send(b"from a page")
    assert ws.receive()[1] == b"from a page"


@NO_TLS
def test_what_a_listener_lets_in(stage: Stage, service: Service) -> None:
    """Addresses, sessions at once and sessions in a time are bounded at the listener, before its service is dialled."""
    node = stage.node()
    listeners = {
        "denied": listener(service, deny="127.0.0.0/8"),
        "two": listener(service, max_in_flight=2),
        "rare": listener(service, rate="1/h"),
    }
    stage.agent(node, listeners)
    assert refusal(node, "denied") == (403, "listener-address")
    first, second = Session(node, "two"), Session(node, "two")
    assert heard(first) and heard(second)
    assert refusal(node, "two") == (503, "listener-in-flight")
    first.socket.close(1000)
    assert first.closed() == (1000, "")
    wait_until(lambda: node.admin.metric("pico_calls_pending") == 1, "the end of the first session")
    assert heard(Session(node, "two"))
    assert heard(Session(node, "rare"))
    assert refusal(node, "rare") == (429, "listener-rate")


@NO_TLS
def test_an_idle_session(stage: Stage, service: Service) -> None:
    """With `proxy.tcp.idle_timeout` a session that is silent is cut, at both ends, and one that is not goes on."""
    ends: list[Ended] = []
    node = stage.node(settings={"proxy": {"tcp": {"idle_timeout": "1s"}}})
    stage.agent(node, {"db": listener(service)})

    def script(connection: Connection) -> None:
        try:
            echo(connection)
        except Ended as ended:
            ends.append(ended)

    service.script = script
    session, busy = Session(node, "db"), Session(node, "db")
    assert heard(session)

    for _ in range(8):
        assert heard(busy)
        time.sleep(0.25)
    assert session.closed() == (1011, "no byte for 1 s")
    wait_until(lambda: len(ends) == 1, "the end at the service")
    assert heard(busy)


@NO_TLS
def test_another_protocol_by_a_reload(stage: Stage, service: Service) -> None:
    """A listener that becomes one of TCP, and HTTP again: sessions that it has go on, new calls go by what it is."""
    node = stage.node()
    agent = stage.agent(node, {"db": {"addr": service.address}})
    assert refusal(node) == (421, "not-tcp")

    def become(protocol: str) -> None:
        agent.write_settings({"listeners": [{"endpoint": "db", "addr": service.address, "protocol": protocol}]})
        agent.signal(signal.SIGHUP)

    become("tcp")
    service.script = echo
    wait_until(lambda: opens(node), "a session")
    session = Session(node, "db")
    assert heard(session)
    wait_until(lambda: spoken(node) == "tcp", "the node to hear of it")
    become("http")
    wait_until(lambda: not opens(node), "the end of TCP")
    assert heard(session)
    session.end()
    assert session.closed() == (1000, "")


def spoken(node: Node) -> str:
    """What the newest session of the agent says that its service speaks."""
    sessions = node.admin.json("/status/cluster/agents?endpoint=db")["sessions"]
    return str(min(sessions, key=lambda one: one["since_s"])["protocol"])


def opens(node: Node) -> bool:
    """Whether a session can be opened."""
    try:
        Session(node, "db").reset()
    except websocket.Refused:
        return False
    return True


@NO_TLS
def test_a_service_that_hangs(stage: Stage) -> None:
    """A service that takes no connection is given up after the listener's timeout, and the client told."""
    with socket.create_server(("127.0.0.1", 0), backlog=0) as full, contextlib.ExitStack() as waiting:
        for _ in range(4):
            client = waiting.enter_context(socket.socket())
            client.setblocking(False)
            client.connect_ex(full.getsockname())
        node = stage.node()
        stage.agent(node, {"db": {"addr": f"127.0.0.1:{full.getsockname()[1]}", "protocol": "tcp", "timeout": "1s"}})
        began = time.monotonic()
        assert refusal(node) == (502, "service-unreachable")
        assert 0.5 < time.monotonic() - began < 15
