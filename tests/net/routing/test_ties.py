"""Requests whose clients are tied to an agent: which one they go to, and who is told of that."""

from __future__ import annotations

import attrs
import pytest
from twisted.internet.task import Clock

from pico_twisted.core.gossip.events import StatusChanged
from pico_twisted.core.http1.account import account_of_peer
from pico_twisted.core.http1.affinity import ClientTie, cookie_name
from pico_twisted.core.http1.head import RequestHead
from pico_twisted.core.routing.affinity import Affinity, ranked, short_id, tied_by
from pico_twisted.core.routing.table import affinity_key, endpoint_key
from pico_twisted.core.rpc import frames
from tests.doubles.node import MemoryNode
from tests.doubles.said import says
from tests.doubles.tunnel import FakeTunnel
from tests.net.doubles import OK2, Case, FakeDownstream, register
from tests.net.doubles import request_head as plain_head
from tests.net.links.test_request import REQUEST, Served
from tests.net.routing.test_cluster_service import FakeLinks, route_by

NAME = cookie_name("my-ep")
CLIENT = tied_by(b"192.0.2.7")


def short(agent: str) -> str:
    """Its short ID."""
    return short_id("my-ep", agent)


def tied(affinity: Affinity, count: int) -> list[FakeTunnel]:
    """Sessions of so many agents."""
    tunnels = [FakeTunnel(agent_id=f"agent-{number}") for number in range(1, count + 1)]
    for tunnel in tunnels:
        tunnel.affinity = affinity
    return tunnels


def request_head(cookie: bytes = b"") -> RequestHead:
    """A request, of a client with this cookie."""
    return plain_head(b"GET", *([b"Cookie: a=1; " + NAME + b"=" + cookie] if cookie else []))


class Clients:
    """A node, agents, and what clients ask of them.

    Attributes:
        told: what other nodes are told of the endpoint's ties.
        links: to other nodes.
    """

    def __init__(self, affinity: Affinity, agents: int = 3, calls_per_session: int = 2) -> None:
        self.parts = MemoryNode(Clock(), calls_per_session=calls_per_session)
        self.links = FakeLinks()
        self.told = ""
        route_by(self.parts, self.links, self._announced)
        self.tunnels = tied(affinity, agents)
        self.case = Case(self.parts, *self.tunnels)
        self.parts.node = attrs.evolve(self.parts.node, cluster=self.parts.cluster)

    def _announced(self, endpoint: str, count: int, draining: int, out: int, owner: str, ties: str) -> None:
        self.told = ties

    def ask(self, cookie: bytes = b"") -> tuple[str, bytes]:
        """A client asks, and is answered: who served it, and what its cookie is from then on."""
        self.case.start(request_head(cookie))
        call = self.case.call
        assert NAME not in bytes(call.sent), "the cookie is for us"
        call.respond(OK2 + b"hi", False)
        return call.tunnel.agent_id, self.cookie() or cookie

    def cookie(self) -> bytes:
        """What the answer sets."""
        answer = self.case.down.answer
        assert answer is not None
        values = [value for lower, _, value in answer.fields if lower == b"set-cookie"]
        return b"".join(values).partition(b"=")[2].partition(b";")[0]

    def other_node(self, node_id: str, *agents: str, mode: str = "cookie", status: str = "active") -> None:
        """Gossip tells of another node, and of agents there."""
        table = self.parts.cluster.table
        table.status_changed(StatusChanged(node_id, status))
        ties = f"{mode}:" + "".join(map(short, agents))
        says(table, node_id, {endpoint_key("my-ep"): len(agents), affinity_key("my-ep"): ties})


class TestCookie:
    """By a cookie."""

    def test_stays(self) -> None:
        """New clients are shared among the agents, and each stays with its own."""
        clients = Clients(Affinity.COOKIE)
        firsts = [clients.ask() for _ in range(3)]
        assert sorted(agent for agent, _ in firsts) == ["agent-1", "agent-2", "agent-3"]
        for agent, cookie in firsts * 3:
            assert clients.ask(cookie) == (agent, cookie) and not clients.cookie()
            assert cookie == short(agent).encode()

    def test_a_new_process(self) -> None:
        """A node that has just started knows the cookies that were set before: they are of the agents, not of it."""
        _, cookie = Clients(Affinity.COOKIE).ask()
        again = Clients(Affinity.COOKIE)
        assert {again.ask(cookie)[0] for _ in range(5)} == {"agent-1"}

    @pytest.mark.parametrize("how", ["gone", "drains", "full"])
    def test_another_one(self, how: str) -> None:
        """When its agent is gone, drains, or is full, another one serves, and the cookie names that one."""
        clients = Clients(Affinity.COOKIE, agents=2)
        agent, cookie = clients.ask()
        (tunnel,) = [one for one in clients.tunnels if one.agent_id == agent]
        if how == "gone":
            clients.parts.cluster.deregister(tunnel)
        elif how == "drains":
            assert clients.parts.cluster.resign(tunnel)
        else:
            for _ in range(2):
                clients.case.start(request_head(cookie))
            (other,) = [one for one in clients.tunnels if one is not tunnel]
            clients.case.start(request_head(cookie))
            (call,) = other.calls
            call.respond(OK2 + b"hi", False)
            assert clients.cookie() == short(other.agent_id).encode()
            return
        served, new = clients.ask(cookie)
        assert served != agent and new == short(served).encode()
        assert clients.ask(new) == (served, new)

    def test_a_node_that_drains(self) -> None:
        """The agents of a node that is about to stop are about to be elsewhere: they keep their clients."""
        clients = Clients(Affinity.COOKIE, agents=2)
        agent, cookie = clients.ask()
        for tunnel in clients.tunnels:
            tunnel.draining = True
        assert {clients.ask(cookie)[0] for _ in range(4)} == {agent}

    def test_tried_elsewhere(self) -> None:
        """A request that its agent refused is made again elsewhere, and its client told who served."""
        clients = Clients(Affinity.COOKIE, agents=2)
        agent, cookie = clients.ask()
        clients.case.start(request_head(cookie))
        assert clients.case.call.tunnel.agent_id == agent
        clients.case.call.refuse(frames.REFUSED_BUSY)
        assert clients.case.call.tunnel.agent_id != agent
        clients.case.call.respond(OK2 + b"hi", False)
        assert clients.cookie() not in (b"", cookie)

    def test_another_session_of_its_agent(self) -> None:
        """An agent with two sessions is one: when one session refuses, the other gets the request first."""
        clients = Clients(Affinity.COOKIE, agents=2)
        second = FakeTunnel(agent_id="agent-1", slot="1")
        second.affinity = Affinity.COOKIE
        register(clients.parts, second)
        clients.case.tunnels = (*clients.case.tunnels, second)
        clients.case.start(request_head(short("agent-1").encode()))
        first = clients.case.call
        first.refuse(frames.REFUSED_BUSY)
        assert (first.tunnel.agent_id, clients.case.call.tunnel.agent_id) == ("agent-1", "agent-1")

    @pytest.mark.parametrize("cookie", [b"garbage", b"x" * 4000, short_id("other", "agent-1").encode(), b"\xff\xfe"])
    def test_hostile(self, cookie: bytes) -> None:
        """What names no agent of the endpoint gets what a new client gets."""
        clients = Clients(Affinity.COOKIE)
        assert len({clients.ask(cookie)[0] for _ in range(3)}) == 3
        assert clients.cookie()


class TestLinks:
    """Over two nodes."""

    def test_meant_and_told(self) -> None:
        """A request goes to the node at which its agent is, with the agent's name; who served is told to the client."""
        clients = Clients(Affinity.COOKIE, agents=1)
        clients.other_node("n2", "agent-8", "agent-9")
        clients.case.start(request_head(short("agent-9").encode()))
        (call,) = clients.links.links["n2"].calls
        assert b"\r\nx-pico-agent: " + short("agent-9").encode() + b"\r\n" in bytes(call.sent)
        told = OK2.replace(b"\r\n", b"\r\nx-pico-agent: " + short("agent-8").encode() + b"\r\n", 1)
        call.respond(told + b"hi", False)
        assert clients.cookie() == short("agent-8").encode()

    @pytest.mark.parametrize("agent", [b"", b"x-pico-agent: no good ID\r\n", b"x-pico-agent: \r\n"])
    def test_a_node_that_does_not_say(self, agent: bytes) -> None:
        """Without a word of who served no cookie is set, and nothing else is different."""
        clients = Clients(Affinity.COOKIE, agents=0)
        clients.other_node("n2", "agent-9")
        clients.case.start(request_head())
        (call,) = clients.links.links["n2"].calls
        assert b"x-pico-agent" not in bytes(call.sent)
        call.respond(OK2.replace(b"\r\n", b"\r\n" + agent, 1) + b"hi", False)
        assert clients.case.down.told == ["begin 200", "write", "finish", "done"] and not clients.cookie()

    def test_here_first(self) -> None:
        """An agent with sessions at both nodes serves by that of this one; while it drains here, by the other; and
        while nothing leads there, by this one still."""
        clients = Clients(Affinity.COOKIE, agents=2)
        clients.other_node("n2", "agent-1")
        cookie = short("agent-1").encode()
        assert clients.ask(cookie)[0] == "agent-1"
        clients.tunnels[0].draining = True
        clients.case.start(request_head(cookie))
        assert len(clients.links.links["n2"].calls) == 1
        clients.links.unusable.add("n2")
        assert clients.ask(cookie)[0] == "agent-1"

    def test_asked_by_another_node(self) -> None:
        """The agent that another node means serves, whose turn it ever is; the node is told who did; no agent and no
        service hears of it."""
        for number in (1, 2, 3, 1):
            served = Served(0)
            served.agents = tied(Affinity.COOKIE, 3)
            for tunnel in served.agents:
                register(served.parts, tunnel)
            agent = short(f"agent-{number}").encode()
            served.ask(REQUEST.replace(b"Host", b"x-pico-agent: " + agent + b"\r\nHost", 1))
            assert served.agent_call.tunnel.agent_id == f"agent-{number}"
            assert b"x-pico-agent" not in bytes(served.agent_call.sent)
            served.agent_call.respond(OK2 + b"hi", False)
            told = OK2.replace(b"\r\n", b"\r\nx-pico-agent: " + agent + b"\r\n", 1)
            assert bytes(served.call.sent) == told + b"hi"

    @pytest.mark.parametrize("value", [b"", b"gone0000", b"x" * 3000])
    def test_asked_for_one_that_is_gone(self, value: bytes) -> None:
        """One that is not here any more is as if none was named."""
        served = Served(0)
        served.agents = tied(Affinity.COOKIE, 1)
        register(served.parts, served.agents[0])
        served.ask(REQUEST.replace(b"Host", b"x-pico-agent: " + value + b"\r\nHost", 1))
        served.agent_call.respond(OK2 + b"hi", False)
        assert b"x-pico-agent: " + short("agent-1").encode() in bytes(served.call.sent)


class TestAddress:
    """By the client's address."""

    def test_the_same_everywhere(self) -> None:
        """The best agent of the client's order serves, at this node or another one, and the next one when that is
        gone."""
        order = ranked(CLIENT, tuple(map(short, ("agent-1", "agent-2", "agent-3"))))
        for away in ("agent-1", "agent-2", "agent-3"):
            clients = Clients(Affinity.ADDRESS, agents=3)
            (gone,) = [one for one in clients.tunnels if one.agent_id == away]
            clients.parts.cluster.deregister(gone)
            clients.other_node("n2", away, mode="address")
            clients.case.start(request_head())
            if order[0] == short(away):
                (call,) = clients.links.links["n2"].calls
                assert short(away).encode() in bytes(call.sent)
            else:
                assert short(clients.case.call.tunnel.agent_id) == order[0]
            clients.links.unusable.add("n2")
            here = [short for short in order if short != short_id("my-ep", away)]
            assert clients.parts.cluster.take("my-ep", [], FakeDownstream(request_head())) is not None
            route = clients.parts.cluster.take("my-ep", [], FakeDownstream(request_head()))
            assert route is not None and short_id("my-ep", route.name) == here[0]

    def test_no_cookie(self) -> None:
        """Nothing is set, and all requests of the client go to one agent."""
        clients = Clients(Affinity.ADDRESS)
        assert len({clients.ask() for _ in range(6)}) == 1

    def test_tcp(self) -> None:
        """A client of TCP has no cookie: it goes by its address, whatever its agents ask for."""
        clients = Clients(Affinity.COOKIE)
        down = FakeDownstream(request_head())
        down.tie = lambda: ClientTie(account_of_peer(b"192.0.2.7", False, None))  # type: ignore[method-assign]
        routes = {route.name for _ in range(5) if (route := clients.parts.cluster.take("my-ep", [], down)) is not None}
        order = ranked(CLIENT, tuple(map(short, ("agent-1", "agent-2", "agent-3"))))
        assert {short(name) for name in routes} == {order[0]}


def test_told() -> None:
    """Other nodes hear of the agents that ask for it, until they drain or are gone."""
    clients = Clients(Affinity.COOKIE, agents=2)
    assert clients.told == "cookie:" + "".join(sorted(map(short, ("agent-1", "agent-2"))))
    clients.parts.cluster.resign(clients.tunnels[0])
    assert clients.told == "cookie:" + short("agent-2")
    clients.parts.cluster.deregister(clients.tunnels[1])
    assert clients.told == ""


def test_without_affinity() -> None:
    """Where no agent asks for it nothing is told, looked for, or taken out of a request."""
    clients = Clients(Affinity.NONE)
    clients.case.start(request_head(b"aaaaaaaa"))
    assert NAME in bytes(clients.case.call.sent)
    clients.case.call.respond(OK2 + b"hi", False)
    assert not clients.told and not clients.cookie() and not clients.parts.cluster.table.affinity.endpoints
