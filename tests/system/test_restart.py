"""A restart that nobody notices: the only agent or the only node ends while streams are open that never end."""

from __future__ import annotations

import contextlib
import threading
import time
from collections.abc import Iterator

import pytest

from tests.peers import v1, websocket
from tests.peers.pipe import PATIENCE_S, Ended
from tests.system.asking import Asking
from tests.system.cluster import Cluster, registrations
from tests.system.requesting import GET, ask
from tests.system.service import Connection, Service, answer
from tests.system.wire import Broken, Stream, connect
from tools.stage.asking import Admin
from tools.stage.nodes import Agent, Node
from tools.stage.ports import free_port
from tools.stage.processes import Process, find_program
from tools.stage.stage import Stage
from tools.stage.waiting import wait_until

PLAIN = pytest.mark.parametrize("stage", ["plain"], indirect=True)
UPGRADE = b"GET /raw HTTP/1.1\r\nHost: web.example\r\nConnection: Upgrade\r\nUpgrade: raw\r\n\r\n"
EVENTS = b"GET /events HTTP/1.1\r\nHost: web.example\r\n\r\n"
FOR_EVER = {"drain_streams": "1h"}


def streams(connection: Connection) -> None:
    """A script: streams that the service never ends, and plain answers."""
    while True:
        request = connection.request_head()
        if request.target == b"/raw":
            connection.send(b"HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: raw\r\n\r\nraw!")
            connection.linger()
        elif request.target == b"/events":
            connection.send(
                b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n"
                b"4\r\nup\n\n\r\n"
            )
            connection.linger()
        else:
            connection.send(answer(b"plain"))


def opened(node: Node) -> list[Stream]:
    """Clients of a node, each with an open stream."""
    clients = [connect(node.proxy), connect(node.proxy)]
    for client, request, begin in zip(clients, (UPGRADE, EVENTS), (b"raw!", b"up\n\n"), strict=True):
        client.send(request)
        assert client.response_head().status in (101, 200)
        if begin == b"raw!":
            assert client.read(4) == begin
        else:
            assert client.body_piece() == begin
    return clients


def ends(clients: list[Stream]) -> None:
    """What is open ends, by the server."""
    for client in clients:
        with pytest.raises((Ended, Broken)):
            client.read(1)
        client.close()


class Only:
    """The only agent of an endpoint, and the node that a client asks; with two nodes not the agent's."""

    def __init__(self, cluster: Cluster, service: Service, ids: list[str], settings: dict[str, str]) -> None:
        service.script = streams
        cluster.start(*ids, settings=settings)
        self.agent: Agent = cluster.agent(["n1"], {"web": service.address}, settings=settings)
        self.holder, self.asked = cluster["n1"], cluster[ids[-1]]
        if len(ids) > 1:
            cluster.wait_endpoint("n1", "web")


@pytest.fixture(params=[["n1"], ["n1", "n2"]], ids=["one node", "two nodes"])
def only(request: pytest.FixtureRequest, cluster: Cluster, one: Service) -> Only:
    """With all time for streams."""
    return Only(cluster, one, request.param, FOR_EVER)


@pytest.fixture
def load(only: Only) -> Iterator[Asking]:
    """Requests that do not stop, each on a connection of its own or more."""
    asking = Asking([only.asked.proxy], "web", method="POST", clients=4, kept=3)
    asking.wait_more(20)
    yield asking
    asking.stop()


def test_the_only_agent_serves_on(only: Only, load: Asking) -> None:
    """While streams hold up the stop of the only agent, it serves new requests, at its node and over another one.

    It ends as soon as the streams do. What fails then fails for as long as no agent is there, and not longer.
    """
    clients = opened(only.asked)
    only.agent.terminate()
    only.agent.wait_output("Waiting for calls in flight")
    load.wait_more(100)
    assert load.failures == []
    for client in clients:
        client.close()
    assert only.agent.wait_exit() == 0
    assert all("502" in one.problem for one in load.failures), load.failures[:3]


def test_the_only_node_serves_on(only: Only, load: Asking) -> None:
    """While streams hold up the stop of a node, its proxy port takes new connections and requests."""
    clients = opened(only.asked)
    only.asked.terminate()
    wait_until(lambda: only.asked.admin.status("/ready") == 503, "the node to drain")
    load.wait_more(100)
    assert load.failures == []
    for client in clients:
        client.close()
    assert only.asked.wait_exit() == 0
    assert all("connection" in one.problem for one in load.failures), load.failures[:3]


@pytest.mark.parametrize("who", ["agent", "holder", "asked"])
def test_streams_have_a_bound_of_their_own(cluster: Cluster, one: Service, who: str) -> None:
    """A stream that nobody ends does not hold up a stop for the grace period: it is cut after `drain_streams`."""
    only = Only(cluster, one, ["n1", "n2"], {"drain_streams": "300ms", "grace_period": "1h"})
    clients = opened(only.asked)
    process = getattr(only, who)
    process.terminate()
    ends(clients)
    assert process.wait_exit() == 0
    one.wait_connection(0).gone.wait()


NGINX = """
daemon off; master_process off; pid {directory}/nginx.pid; error_log stderr warn;
events {{ worker_connections 100; }}
http {{
  access_log off;
  client_body_temp_path {directory}/body; proxy_temp_path {directory}/proxy; fastcgi_temp_path {directory}/fastcgi;
  uwsgi_temp_path {directory}/uwsgi; scgi_temp_path {directory}/scgi;
  server {{
    listen 127.0.0.1:{port};
    location / {{
      proxy_pass http://127.0.0.1:{upstream};
      proxy_http_version 1.1;
      proxy_set_header Connection upgrade;
      proxy_set_header Upgrade $http_upgrade;
    }}
  }}
}}
"""


@PLAIN
def test_a_proxy_answers_for_a_node_that_is_away(stage: Stage, service: Service) -> None:
    """An agent behind an nginx comes back to its node: a 502 of nginx is no refusal, but as a closed port."""
    node = stage.node()
    port, config = free_port(), stage.directory / "nginx.conf"
    config.write_text(NGINX.format(directory=stage.directory, port=port, upstream=node.ports.upstream))
    command = [find_program("nginx", "nginx-light"), "-e", "stderr", "-c", str(config)]
    stage.add(Process("nginx", command, stage.directory))
    admin = free_port()
    settings = {"admin": {"bind_addr": f"127.0.0.1:{admin}"}}
    agent = stage.agent(f"http://127.0.0.1:{port}", {"web": service.address}, settings)
    node.wait_endpoint("web")
    node.kill()
    agent.wait_output("answers 502")
    failures = "pico_agent_connection_failures_total"
    wait_until(lambda: Admin(admin).metric(failures, "proxy") > 4, "attempts")
    assert (Admin(admin).status("/health"), Admin(admin).status("/ready")) == (200, 503)
    again = stage.node(ports=node.ports)
    again.wait_endpoint("web")
    assert Admin(admin).metric("pico_agent_refusals_total") == 0
    wait_until(lambda: Admin(admin).status("/ready") == 200, "the agent to be ready")
    (listener,) = Admin(admin).json("/status")["listeners"]
    assert (listener["endpoint"], [one["node"] for one in listener["sessions"]]) == ("web", ["node-1"])
    assert ask(stage, again).status == 200


@PLAIN
def test_a_second_agent_relieves_the_first(stage: Stage, service: Service, other_service: Service) -> None:
    """An agent that drains is the last choice: once another one serves its endpoint, all new requests go there."""
    service.script = streams
    other_service.handler = lambda request: answer(b"other")
    node = stage.node()
    first = stage.agent(node, {"web": service.address}, FOR_EVER, name="agent-1")
    clients = opened(node)
    first.terminate()
    first.wait_output("Waiting for calls in flight")
    assert ask(stage, node, GET).body == b"plain"
    stage.agent(node, {"web": other_service.address}, name="agent-2")
    assert {ask(stage, node, GET).body for _ in range(10)} == {b"other"}
    for client in clients:
        client.close()
    assert first.wait_exit() == 0


@PLAIN
def test_two_agents_with_one_id(stage: Stage, service: Service) -> None:
    """A copied agent: both sides say what it is and where the other one is, and no request fails for it for ever."""
    node = stage.node()
    agents = [stage.agent(node, {"web": service.address}, wait=False, name="copied") for _ in range(2)]
    for agent in agents:
        agent.wait_output("Another agent has the ID copied and took web over")
    node.wait_output("Two agents have the ID copied and take web from each other")
    (line,) = [one for one in node.records if one["message"].startswith("Two agents")]
    assert line["peer"].startswith("127.0.0.1:") and line["other_peer"].startswith("127.0.0.1:")
    told = [one for agent in agents for one in agent.records if one["message"].startswith("Another agent")]
    assert all(one["other"].startswith("127.0.0.1:") and one["retry_s"] >= 1.0 for one in told)
    assert ask(stage, node).status == 200


@PLAIN
def test_an_agent_at_a_node_of_version_1(stage: Stage, service: Service) -> None:
    """Under a load without a gap it ends all the same: calls that it took are answered, later ones refused."""
    server = v1.Server()
    agent = stage.agent(f"http://127.0.0.1:{server.port}", {"web": service.address}, {"grace_period": "1h"})
    session = server.wait_session("web")
    answers: list[bytes] = []

    def ask_on(delay_s: float) -> None:
        with contextlib.suppress(Ended, websocket.Nonsense):
            while True:
                answers.append(session.http(GET))
                time.sleep(delay_s)

    def slow(request: object) -> bytes:
        time.sleep(0.1)
        return answer(b"slow")

    service.handler = slow
    clients = [threading.Thread(target=ask_on, args=(number / 1000,), daemon=True) for number in range(4)]
    for client in clients:
        client.start()
    wait_until(lambda: len(answers) > 8, "answers")
    agent.terminate()
    assert agent.wait_exit() == 0
    for client in clients:
        client.join(PATIENCE_S)
    assert all(b"slow" in one for one in answers)
    server.close()


@pytest.mark.parametrize("ids", [["n1"], ["n1", "n2"]], ids=["one node", "two nodes"])
def test_who_shares_an_endpoint(cluster: Cluster, one: Service, ids: list[str]) -> None:
    """A second agent says whom it shares with; one that will not share is refused, and then serves alone."""
    cluster.start(*ids)
    place = "127.0.0.1" if len(ids) == 1 else "at node n1"
    first = cluster.agent(["n1"], {"web": one.address}, name="first")
    for id in ids:
        wait_until(lambda id=id: registrations(cluster[id], "n1", "web"), "the first agent")  # type: ignore[misc]
    second = cluster.agent([ids[-1]], {"web": one.address}, name="second")
    second.wait_output("web is also served by " + ("first (127.0.0.1" if len(ids) == 1 else "an agent (at node n1)"))
    second.terminate()
    assert second.wait_exit() == 0
    url = cluster[ids[-1]].upstream_url
    alone = cluster.stage.agent(url, {"web": {"addr": one.address, "share": False}}, name="alone")
    assert place in alone.wait_output("and is not shared: choose another endpoint ID")
    first.terminate()
    alone.wait_output("All listeners are registered")
    if len(ids) > 1:
        wait_until(lambda: registrations(cluster["n1"], "n2", "web"), "the one that serves alone")
    late = cluster.stage.agent(cluster["n1"].upstream_url, {"web": one.address}, name="late")
    late.wait_output("web is served by alone (")
