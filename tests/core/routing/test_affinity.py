"""Affinity: which agent a client goes to, wherever it arrives."""

from __future__ import annotations

import random
from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pico_twisted.core.gossip.events import StatusChanged
from pico_twisted.core.gossip.packets import MAX_VALUE_BYTES
from pico_twisted.core.routing.affinity import (
    MAX_AGENTS,
    Affinity,
    AffinityTable,
    affinity_of,
    is_short_id,
    ranked,
    short_id,
    tied_by,
    told_of,
)
from pico_twisted.core.routing.table import ACTIVE, DRAINING, ClusterTable, affinity_key
from tests.doubles.said import says

agent_ids = st.sets(st.integers(0, 99).map("agent-{}".format), min_size=1, max_size=12)
clients = st.ip_addresses().map(lambda address: str(address).encode())
modes = st.sampled_from([Affinity.COOKIE, Affinity.ADDRESS])


def short(agent: str) -> str:
    """Its short ID."""
    return short_id("ep", agent)


class TestIds:
    """How agents are called."""

    @given(st.text(max_size=64), st.text(max_size=64))
    def test_short(self, endpoint: str, agent: str) -> None:
        """A short ID is one that cookies and fields may hold, whatever an agent is called."""
        made = short_id(endpoint, agent)
        assert is_short_id(made) and made == short_id(endpoint, agent)

    def test_of_one_endpoint(self) -> None:
        """The ID of one endpoint is none of another one's; nor can the two names be shifted into each other."""
        names = [("a", "agent"), ("b", "agent"), ("aa", "gent"), ("", "aagent")]
        assert len({short_id(endpoint, agent) for endpoint, agent in names}) == len(names)

    @pytest.mark.parametrize("word", ["", "sticky", "COOKIE", None])
    def test_unknown_words(self, word: str | None) -> None:
        """What a peer says that we do not know is no affinity."""
        assert affinity_of(word) is Affinity.NONE


class TestOrder:
    """Which agent is whose."""

    @given(clients, agent_ids, st.randoms(use_true_random=False))
    def test_nodes_agree(self, client: bytes, agents: set[str], rng: random.Random) -> None:
        """All nodes find the same order, in whichever order they have heard of the agents."""
        one = list(map(short, agents))
        other = list(one)
        rng.shuffle(other)
        assert ranked(tied_by(client), tuple(one)) == ranked(tied_by(client), tuple(other))

    @given(clients, agent_ids, st.data())
    def test_only_its_clients_move(self, client: bytes, agents: set[str], data: st.DataObject) -> None:
        """When an agent goes, the order of the others stays: only its own clients go elsewhere."""
        gone = short(data.draw(st.sampled_from(sorted(agents))))
        before = ranked(tied_by(client), tuple(map(short, agents)))
        after = ranked(tied_by(client), tuple(id for id in before if id != gone))
        assert after == tuple(id for id in before if id != gone)

    def test_even(self) -> None:
        """Many clients are shared about evenly, and the clients of one that goes are, too."""
        agents = tuple(map(short, ("a", "b", "c", "d")))
        orders = [ranked(tied_by(b"192.0.%d.%d" % (high, low)), agents) for high in range(8) for low in range(250)]
        firsts = Counter(order[0] for order in orders)
        seconds = Counter(order[1] for order in orders if order[0] == agents[0])
        assert all(400 < firsts[agent] < 600 for agent in agents)
        assert all(100 < count < 250 for count in seconds.values()) and len(seconds) == 3

    def test_networks(self) -> None:
        """A host of IPv6 may change its last 64 bits; addresses of IPv4, and what a proxy tells in their place, count
        whole."""
        assert tied_by(b"2001:db8:1:2:3:4:5:6") == tied_by(b"2001:db8:1:2::9") != tied_by(b"2001:db8:1:3::9")
        assert tied_by(b"192.0.2.1") != tied_by(b"192.0.2.2")
        assert tied_by(b"192.0.2.1") == tied_by(b"::ffff:192.0.2.1") != tied_by(b"::ffff:192.0.2.2")
        assert tied_by(b"_hidden") == b"_hidden" and tied_by(b"unknown") == b"unknown"


class TestTold:
    """What nodes tell each other."""

    @given(modes, agent_ids)
    def test_there_and_back(self, mode: Affinity, agents: set[str]) -> None:
        """What a node tells is what the others know of it."""
        table = AffinityTable()
        table.told("ep", "n1", told_of((mode, short(agent)) for agent in agents))
        servers = table.servers("ep")
        assert servers is not None
        assert servers.affinity is mode and set(servers.agents) == set(map(short, agents))
        assert set(servers.nodes.values()) == {("n1",)}

    def test_as_much_as_fits(self) -> None:
        """However many agents an endpoint has at a node, the gossip takes what is told: the same ones always."""
        ids = [short(f"agent-{number}") for number in range(500)]
        told = told_of((Affinity.ADDRESS, id) for id in ids)
        assert told == told_of((Affinity.ADDRESS, id) for id in reversed(ids))
        assert len(told) <= MAX_VALUE_BYTES and told.isprintable() and told.isascii()
        table = AffinityTable()
        table.told("ep", "", told)
        servers = table.servers("ep")
        assert servers is not None and len(servers.agents) == MAX_AGENTS

    def test_nothing_to_tell(self) -> None:
        """Of agents that ask for none nothing is told, and beside those that do they do not count."""
        assert told_of([(Affinity.NONE, ""), (Affinity.NONE, "")]) == ""
        assert told_of([(Affinity.NONE, ""), (Affinity.ADDRESS, "aaaaaaaa")]) == "address:aaaaaaaa"
        assert told_of([(Affinity.COOKIE, "bbbbbbbb"), (Affinity.ADDRESS, "aaaaaaaa")]) == "cookie:aaaaaaaabbbbbbbb"

    @given(st.one_of(st.none(), st.integers(), st.text(max_size=60), st.text(max_size=20).map("cookie:{}".format)))
    def test_nonsense(self, value: object) -> None:
        """What is not well made is as if nothing was told, and takes back what was."""
        table = AffinityTable()
        table.told("ep", "n1", "cookie:aaaaaaaa")
        table.told("ep", "n1", value)
        servers = table.servers("ep")
        assert servers is None or all(map(is_short_id, servers.agents))
        table.told("ep", "n1", None)
        assert table.servers("ep") is None and not table.endpoints

    @given(st.lists(st.tuples(st.sampled_from("abc"), st.sampled_from(["", "n1", "n2"]), st.booleans()), max_size=20))
    def test_any_order(self, steps: list[tuple[str, str, bool]]) -> None:
        """What is known follows from what each node told last, and not from the order of that."""
        table = AffinityTable()
        last: dict[tuple[str, str], str] = {}
        for agent, node_id, serves in steps:
            last[agent, node_id] = agent if serves else ""
            told = told_of((Affinity.ADDRESS, short(last[one, node_id])) for one in "abc" if last.get((one, node_id)))
            table.told("ep", node_id, told)
            table.servers("ep")
        fresh = AffinityTable()
        for node_id in ("n2", "", "n1"):
            told = told_of((Affinity.ADDRESS, short(last[one, node_id])) for one in "abc" if last.get((one, node_id)))
            fresh.told("ep", node_id, told)
        assert table.servers("ep") == fresh.servers("ep") and table.endpoints == fresh.endpoints


class TestCluster:
    """The same, as gossip tells it."""

    @staticmethod
    def _agents(table: ClusterTable) -> tuple[str, ...]:
        servers = table.affinity.servers("ep")
        return () if servers is None else servers.agents

    def test_who_is_there(self) -> None:
        """Agents of nodes that drain count, since they are about to be elsewhere; those of nodes that cannot be reached
        count again when these can, and of a node that is forgotten nothing is left."""
        table = ClusterTable(lambda: 0.0)
        for node_id, agent in (("n1", "aaaaaaaa"), ("n2", "bbbbbbbb")):
            table.status_changed(StatusChanged(node_id, ACTIVE))
            says(table, node_id, {affinity_key("ep"): f"address:{agent}"})
        table.status_changed(StatusChanged("n2", DRAINING))
        assert self._agents(table) == ("aaaaaaaa", "bbbbbbbb")
        table.status_changed(StatusChanged("n2", "unreachable"))
        assert self._agents(table) == ("aaaaaaaa",)
        table.status_changed(StatusChanged("n2", ACTIVE))
        assert self._agents(table) == ("aaaaaaaa", "bbbbbbbb")
        says(table, "n1", {affinity_key("ep"): None})
        assert self._agents(table) == ("bbbbbbbb",)
        table.status_changed(StatusChanged("n2", None))
        assert not self._agents(table) and not table.affinity.endpoints
