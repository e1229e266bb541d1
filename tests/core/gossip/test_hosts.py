"""Workers of one host: news cross the network once for all of them, and nobody lacks any, whatever a node says of its
host."""

from __future__ import annotations

import random
from collections import Counter

from hypothesis import given
from hypothesis import strategies as st

from pico_twisted.core.gossip.members import HOST, Member, Standing
from pico_twisted.core.gossip.news import APART_S, GATHER_S
from pico_twisted.core.gossip.own import OwnNode
from pico_twisted.core.gossip.packets import SYN
from pico_twisted.core.gossip.partners import MOST_SIBLINGS, PUSH_TO, Partners
from pico_twisted.core.gossip.view import View
from tests.core.gossip.gossips import DELAY_S, Core, Wire, arrives, views_are_equal
from tests.core.gossip.test_challenge import body_of

NEWS = "endpoint:news"


def hosts(wire: Wire, count: int, workers: int) -> list[Core]:
    """The workers of so many hosts, which all know each other."""
    names = [(f"h{host}", f"h{host}-w{worker}") for host in range(count) for worker in range(workers)]
    cores = [wire.add(node_id, seeds=("h0-w0:1",), host=host) for host, node_id in names]
    wire.until(lambda: views_are_equal(cores))
    wire.run(1.0)
    return cores


def pushed(cores: list[Core], since: float) -> Counter[tuple[str, str]]:
    """How often the news were sent since a time, by the hosts of sender and receiver."""
    by_address = {core.address: core for core in cores}
    return Counter(
        (core.node_id.split("-")[0], by_address[address].node_id.split("-")[0])
        for core in cores
        for at, packet, address in core.sent
        if at >= since and any(NEWS in str(delta.entries) for delta in body_of(packet).deltas)
    )


def test_every_worker_says_its_host(wire: Wire) -> None:
    """What a worker says of its host is a key of its map from its start on; a node on its own says nothing."""
    worker, single = wire.add("h1-w0", host="h1"), wire.add("n", seeds=("h1-w0:1",))
    wire.until(lambda: views_are_equal([worker, single]))
    assert single.keys("h1-w0")[HOST] == "h1" and HOST not in worker.keys("n")
    assert single.gossip.view.members["h1-w0"].host == "h1" and worker.gossip.view.members["n"].host == ""


def test_news_cross_the_network_once_for_a_host(wire: Wire) -> None:
    """With four hosts of four, a change goes to one worker of each other host, is passed on once among hosts, and is
    told to each other worker over loopback: all have it within moments."""
    cores = hosts(wire, 4, 4)
    began = wire.now
    cores[1].gossip.set(NEWS, 1, began)
    wire.until(lambda: all(NEWS in one.keys("h0-w1") for one in cores if one is not cores[1]))
    assert wire.now - began <= 2 * GATHER_S + APART_S + 4 * DELAY_S
    wire.run(2 * APART_S)
    sent = pushed(cores, began)
    for host in ("h1", "h2", "h3"):
        to_host = sum(count for (sender, receiver), count in sent.items() if receiver == host != sender)
        assert 1 <= to_host <= 4 and sent[host, host] <= 2 * 3
    assert sent["h0", "h0"] == 3


def test_in_a_small_cluster_all_are_told_directly(wire: Wire) -> None:
    """Where there are no more nodes than are told at once, each hears of news from who has them, and from nobody
    else."""
    cores = hosts(wire, 2, 3)
    began = wire.now
    cores[0].gossip.set(NEWS, 1, began)
    wire.run(2 * APART_S)
    assert pushed(cores, began) == {("h0", "h0"): 2, ("h0", "h1"): 3}


def test_a_gap_is_filled_for_all_workers(wire: Wire) -> None:
    """Where the first of a host missed a change, what it gets when the next shows that is told to the others, though
    no round brings it."""
    cores = hosts(wire, 4, 4)
    wire.fate = lambda packet, source, address: []
    cores[0].gossip.set("endpoint:missed", 1, wire.now)
    wire.run(1.2)  # from now on it is not sent again with other news
    wire.fate = lambda packet, source, address: [] if body_of(packet).kind == SYN else arrives(packet, source, address)
    began = wire.now
    cores[0].gossip.set(NEWS, 1, began)
    wire.until(lambda: all({"endpoint:missed", NEWS} <= one.keys("h0-w0").keys() for one in cores[1:]), 1.0)
    assert wire.now - began <= 2 * (GATHER_S + APART_S) + 8 * DELAY_S


def test_a_host_whose_first_worker_ends_hears_on(wire: Wire) -> None:
    """Before anybody has noticed that the worker is dead which is told first, the others of its host hear of news by
    the regular rounds; afterwards another one is told."""
    cores = hosts(wire, 4, 4)
    wire.end(cores[4])
    left = [core for core in cores if core is not cores[4]]
    cores[0].gossip.set(NEWS, 1, wire.now)
    wire.until(lambda: all(NEWS in one.keys("h0-w0") for one in left[1:]), 2.0)
    wire.until(lambda: all(one.status("h1-w0") == "unreachable" for one in left), 4.0)
    began = wire.now
    cores[0].gossip.set(NEWS, 2, began)
    wire.until(lambda: all(one.keys("h0-w0").get(NEWS) == 2 for one in left[1:]))
    assert wire.now - began <= 2 * GATHER_S + APART_S + 4 * DELAY_S


def test_who_lies_about_its_host_starves_nobody(wire: Wire) -> None:
    """A node that says to be a worker of another host, and passes nothing on, delays news of that host by rounds."""
    cores = hosts(wire, 4, 4)
    liar = wire.add("a-liar", seeds=("h0-w0:1",), host="h1")
    wire.until(lambda: all(one.status("a-liar") == "active" for one in cores))
    liar.gossip._news.push = lambda now: None  # type: ignore[method-assign]
    wire.run(1.0)
    cores[0].gossip.set(NEWS, 1, wire.now)
    wire.until(lambda: all(NEWS in one.keys("h0-w0") for one in cores[1:]), 2.0)


# Who is chosen


def members(said: list[tuple[str, str]]) -> list[Member]:
    """Live nodes with these IDs, which say to be of these hosts."""
    found = []
    for node_id, host in said:
        member = Member(node_id, 1, 0.5, 0.0)
        member.standing, member.host = Standing.LIVE, host
        found.append(member)
    return found


def partners(host: str) -> Partners:
    """What a worker of a host chooses with."""
    return Partners(View(OwnNode("own", 1, 0.0), 0.5, 300.0), random.Random(1), host)


SAID = st.dictionaries(st.text("abc", min_size=1, max_size=3), st.sampled_from(["", "h", "g", "own"]), max_size=30)


@given(SAID, st.sampled_from(["", "h", "own"]))
def test_one_of_each_host(said: dict[str, str], own: str) -> None:
    """Whatever nodes say: each that is on its own is chosen among, and of each other host exactly one; of our own host
    all are siblings, and nobody is both."""
    live = members(list(said.items()))
    chosen, siblings = partners(own).hosts(live, 0.0), partners(own).siblings(live)
    assert {one.node_id for one in live if not one.host} <= {one.node_id for one in chosen}
    named = [one.host for one in chosen if one.host]
    assert sorted(named) == sorted({one.host for one in live if one.host and one.host != own})
    assert siblings == [one for one in live if own and one.host == own]
    assert not {id(one) for one in chosen} & {id(one) for one in siblings}
    assert len(partners(own).some(chosen)) <= PUSH_TO


def test_all_choose_the_same_worker_unless_it_is_silent() -> None:
    """The first worker of a host by its ID is told, or the next one while it has been silent for long."""
    live = members([("b", "h"), ("a", "h"), ("c", "h")])
    assert [one.node_id for one in partners("").hosts(live, 0.1)] == ["a"]
    for one in live:
        one.alive_at = 0.0 if one.node_id == "a" else 4.0
    assert [one.node_id for one in partners("").hosts(live, 4.0)] == ["b"]


def test_many_that_say_to_be_siblings_are_not_all_told() -> None:
    """A crowd that claims our host costs us no more packets than a large host would."""
    live = members([(f"n{number}", "h") for number in range(500)])
    assert len(partners("h").siblings(live)) == MOST_SIBLINGS
