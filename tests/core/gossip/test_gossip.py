"""Two, three and more cores that talk: what they tell each other, how soon, and what a bad network does to that."""

from __future__ import annotations

import random

import pytest

from pico_twisted.core.gossip import REASONS, Gossip, GossipSettings, StatusChanged
from pico_twisted.core.gossip.gossip import MAX_TOMBSTONES
from pico_twisted.core.gossip.news import APART_S, GATHER_S
from pico_twisted.core.gossip.packets import DELTA, SYN
from pico_twisted.core.gossip.partners import PUSH_TO
from pico_twisted.core.gossip.suspicion import MOST_PATIENT
from tests.core.gossip.gossips import DELAY_S, WALL_MS, Core, Wire, arrives, views_are_equal
from tests.core.gossip.test_challenge import body_of
from tests.doubles.said import Changed

# Joining


def test_two_nodes_find_each_other(wire: Wire) -> None:
    """A node that is given a seed is known to it, and knows it, within moments, with all that both say."""
    a, b = wire.add("a"), wire.add("b", seeds=("a:1",))
    a.gossip.set("endpoint:e", 2, wire.now)
    assert wire.until(lambda: views_are_equal([a, b])) < 0.2
    assert a.statuses("b") == b.statuses("a") == ["active"]
    wire.until(lambda: a.gossip.joined and b.gossip.joined, 0.1)


def test_behind_a_cut_those_who_are_left_find_each_other(wire: Wire) -> None:
    """Of 40 nodes four are cut off. Each of them asks whom it has heard of lately, more than those who may be gone: so
    nobody takes one for dead that is on its side."""
    cores = wire.some(40)
    small = {core.address for core in cores[:4]}
    wire.fate = lambda packet, source, address: (
        arrives(packet, source, address) if (source in small) == (address in small) else []
    )
    near: list[tuple[Core, str]] = []
    far: list[tuple[Core, str]] = []
    for one in cores:
        for other in cores:
            if one is not other:
                (near if (one.address in small) == (other.address in small) else far).append((one, other.node_id))
    wire.until(lambda: all(one.status(name) == "unreachable" for one, name in far), MOST_PATIENT * 0.5 + 1.0)
    assert not [name for one, name in near if "unreachable" in one.statuses(name)]


def test_who_has_no_whole_maps_has_not_joined() -> None:
    """Where no link can be opened, they are asked for again and again, and the node does not take itself for joined,
    nor its ID for free: nobody shows it."""
    wire = Wire(links=False)
    a, b = wire.add("a"), wire.add("b", seeds=("a:1",))
    wire.run(6.0)
    assert b.status("a") == "active" and a.status("b") is None
    assert not b.gossip.joined and 2 <= len(b.syncs()) <= 4


def test_a_status_is_told_before_keys(wire: Wire) -> None:
    """Whoever keeps a table hears of a node first, and then of what it says."""
    cores = wire.some(3)
    for core in cores:
        seen: set[str] = set()
        for event in core.events:
            if isinstance(event, StatusChanged):
                seen.add(event.node_id)
            elif isinstance(event, Changed):
                assert event.node_id in seen


def test_seeds_are_tried_for_ever(wire: Wire) -> None:
    """A node whose seed comes an hour later finds it within moments, and so does one that lost everybody."""
    b = wire.add("b", seeds=("a:1",))
    wire.run(3600.0)
    a = wire.add("a")
    assert wire.until(lambda: views_are_equal([a, b])) < 2.0
    wire.end(a)
    wire.run(1000.0)
    assert b.status("a") is None
    a = wire.add("a", wall_ms=WALL_MS + 9)
    assert wire.until(lambda: views_are_equal([a, b])) < 2.0


# News


def test_news_are_pushed_at_once(wire: Wire) -> None:
    """A change is at every other node of a small cluster as soon as it was gathered, in one packet for each."""
    cores = wire.some(PUSH_TO + 1)
    before = wire.now
    for number in range(5):
        cores[0].gossip.set(f"endpoint:e{number}", 1, wire.now)
    wire.until(lambda: all("endpoint:e4" in one.keys("n0") for one in cores[1:]))
    assert wire.now - before <= GATHER_S + 2 * DELAY_S
    pushes = [
        address
        for at, packet, address in cores[0].sent
        if at > before and body_of(packet).kind == DELTA and body_of(packet).deltas
    ]
    assert sorted(pushes) == sorted(core.address for core in cores[1:])


def test_news_are_passed_on_once(wire: Wire) -> None:
    """In a larger cluster news go to a few, who pass them on once; all have them soon, and it is no storm."""
    cores = wire.some(20)
    before = wire.now
    cores[0].gossip.set("endpoint:e", 1, wire.now)
    wire.run(0.2)
    pushed: dict[str, int] = {}
    for core in cores:
        for at, packet, _ in core.sent:
            body = body_of(packet)
            if at > before and body.kind == DELTA and any("endpoint:e" in str(one.entries) for one in body.deltas):
                pushed[core.node_id] = pushed.get(core.node_id, 0) + 1
    assert pushed["n0"] <= PUSH_TO + 4  # the further ones are answers
    assert sum(pushed.values()) <= PUSH_TO + PUSH_TO * PUSH_TO + 20
    wire.until(lambda: all("endpoint:e" in one.keys("n0") for one in cores[1:]), 3.0)


def test_news_of_many_share_packets(wire: Wire) -> None:
    """Where all have news at the same time, what is passed on of several goes in one packet, and all of it arrives."""
    cores = wire.some(2 * PUSH_TO)
    sent = {core.node_id: len(core.sent) for core in cores}
    for core in cores:
        core.gossip.set(f"endpoint:of-{core.node_id}", 1, wire.now)
    wire.run(GATHER_S + APART_S + 10 * DELAY_S)
    known = sum(
        f"endpoint:of-{other.node_id}" in core.keys(other.node_id)
        for core in cores
        for other in cores
        if core is not other
    )
    assert known > 0.9 * len(cores) * (len(cores) - 1), "each is missed by a few, who hear of it in the next round"
    for core in cores:
        assert len(core.sent) - sent[core.node_id] < 5 * PUSH_TO
    wire.until(lambda: views_are_equal(cores), 2.0)


def test_who_leaves_with_news_is_not_woken_for_them(wire: Wire) -> None:
    """A node that leaves says nothing else any more, and asks for no tick that would bring nothing."""
    a, b = wire.some(2)
    a.gossip.leave(wire.now)
    a.gossip.set("endpoint:late", 1, wire.now)
    wire.run(1.0)
    a.gossip.tick(wire.now)
    assert a.gossip.next_tick() > wire.now
    assert b.status("n0") == "left"


def test_a_lost_push_is_made_good_by_the_next_one(wire: Wire) -> None:
    """News of the last second go again with newer ones, so that one lost packet costs no round."""
    a, b = wire.some(2)
    wire.fate = lambda packet, source, address: []
    a.gossip.set("endpoint:one", 1, wire.now)
    wire.run(0.03)
    wire.fate = lambda packet, source, address: [(DELAY_S, packet)]
    a.gossip.set("endpoint:two", 1, wire.now)
    wire.run(GATHER_S + 2 * DELAY_S)
    assert {"endpoint:one", "endpoint:two"} <= b.keys("n0").keys()


def test_many_changes_at_once(wire: Wire) -> None:
    """A node that registers thousands of endpoints at once is known whole within a second, by packets and a sync."""
    cores = wire.some(3)
    for number in range(3000):
        cores[0].gossip.set(f"endpoint:service-number-{number}", 1, wire.now)
    assert wire.until(lambda: views_are_equal(cores)) < 2.0
    assert {"n0"} <= set(cores[1].syncs())


# Packets


def test_packets_never_exceed_the_limit(wire: Wire) -> None:
    """With the longest IDs, keys and values, and a secret, no packet is larger than allowed, and all arrives."""
    names = [f"{number}".rjust(64, "n") for number in range(12)]
    cores = [
        wire.add(name, address=f"{number}:1", seeds=("0:1",), secrets=("s",), max_packet_bytes=1200, say=False)
        for number, name in enumerate(names)
    ]
    for number, core in enumerate(cores):
        core.gossip.set("gossip_addr", core.address, wire.now)
        core.gossip.set("proxy_addr", f"{number}".rjust(255, "a"), wire.now)
        for endpoint in range(20):
            core.gossip.set(f"endpoint:{endpoint}".ljust(137, "e"), 1, wire.now)
    wire.until(lambda: views_are_equal(cores), 20.0)
    sizes = [len(packet) for core in cores for _, packet, _ in core.sent]
    assert max(sizes) <= 1200


def test_what_is_too_large_to_be_said() -> None:
    """A key or value that no packet could carry is refused to the owner, and changes nothing."""
    gossip = Gossip(GossipSettings(node_id="a"), rng=random.Random(1), now=0.0, wall_ms=1)
    small = Gossip(GossipSettings(node_id="a", max_packet_bytes=300), rng=random.Random(1), now=0.0, wall_ms=1)
    for one, key, value in (
        (gossip, "k" * 161, 1),
        (gossip, "k", "v" * 301),
        (gossip, "k", "ü" * 151),
        (small, "k", "v" * 200),
    ):
        with pytest.raises(ValueError, match="too large"):
            one.set(key, value, 1.0)
        assert one.view.own.map.version == 0
    for number in range(300):
        gossip.set(f"{number}".ljust(160, "k"), "v" * 300, 1.0)
    assert gossip.view.own.map.keys == 300


def test_digests_that_do_not_fit_take_turns(wire: Wire) -> None:
    """In a cluster whose digest is many packets long each node is spoken of again and again."""
    cores = [
        wire.add(f"n{number}".ljust(60, "x"), address=f"{number}:1", seeds=("0:1",), max_packet_bytes=600)
        for number in range(25)
    ]
    wire.until(lambda: views_are_equal(cores), 30.0)
    before = wire.now
    wire.run(10.0)
    spoken = {
        item[0]
        for at, packet, _ in cores[3].sent
        if at > before and body_of(packet).kind == SYN
        for item in body_of(packet).digest
    }
    assert len(spoken) == 25
    assert not [
        one for core in cores for one in core.events if isinstance(one, StatusChanged) and one.status == "unreachable"
    ]


# Deletes and floors


def test_deletes_are_told_and_remembered(wire: Wire) -> None:
    """A deleted endpoint goes everywhere, also at a node that was cut off meanwhile."""
    cores = wire.some(3)
    cores[0].gossip.set("endpoint:e", 1, wire.now)
    wire.until(lambda: views_are_equal(cores))
    cores[2].paused = True
    cores[0].gossip.delete("endpoint:e", wire.now)
    wire.until(lambda: views_are_equal(cores[:2]))
    wire.run(100.0)
    cores[2].paused = False
    wire.until(lambda: views_are_equal(cores), 5.0)
    assert {"endpoint:e": None} in cores[1].changes("n0") and "endpoint:e" not in cores[2].told("n0")


def test_a_delete_that_nobody_remembers(wire: Wire) -> None:
    """A node that was away for so long that the tombstone is gone takes the whole map as one change: the deleted key
    goes, what stayed is not touched."""
    a, b = (wire.add(name, seeds=("a:1",), forget_s=20.0) for name in "ab")
    for name in ("stays", "goes"):
        a.gossip.set(f"endpoint:{name}", 1, wire.now)
    wire.until(lambda: views_are_equal([a, b]))
    wire.run(3.0)
    b.paused = True
    a.gossip.delete("endpoint:goes", wire.now)
    wire.run(60.0)
    assert a.gossip.view.own.map.tombstones == 0 and a.gossip.view.own.map.floor > 0
    b.paused, told = False, len(b.events)
    wire.until(lambda: views_are_equal([a, b]), 10.0)
    later = [one for one in b.events[told:] if isinstance(one, Changed)]
    assert [dict(one.changes) for one in later] == [{"endpoint:goes": None}]
    assert b.syncs()[-1] == "a"


def test_bounded_tombstones(wire: Wire) -> None:
    """A node that deletes without end keeps a bounded number of tombstones, and others still end with what it says."""
    a, b = wire.some(2)
    for number in range(MAX_TOMBSTONES + 500):
        a.gossip.set(f"endpoint:{number}", 1, wire.now)
        a.gossip.delete(f"endpoint:{number}", wire.now)
    a.gossip.set("endpoint:last", 1, wire.now)
    wire.until(lambda: views_are_equal([a, b]), 5.0)
    wire.run(2.0)
    assert a.gossip.view.own.map.tombstones <= MAX_TOMBSTONES
    assert b.gossip.view.members["n0"].map.tombstones <= MAX_TOMBSTONES


# Ends


@pytest.mark.parametrize("lived_s", [0.0, 0.7, 2.0, 30.0])
def test_a_crash_is_seen_soon(lived_s: float) -> None:
    """In a calm cluster of five a node that dies is unreachable for all within 2.4 s, also when it and they have only
    just started."""
    wire = Wire(seed=int(lived_s * 10))
    cores = [wire.add(f"n{number}", seeds=("n0:1",)) for number in range(5)]
    wire.until(lambda: views_are_equal(cores))
    wire.run(lived_s)
    wire.end(cores[4])
    assert wire.until(lambda: all(one.status("n4") == "unreachable" for one in cores[:4])) <= 2.4


def test_leaving_is_told_to_all_and_is_final(wire: Wire) -> None:
    """A node that leaves is `left` everywhere within moments, though packets are lost, and knows it; whatever is said
    of it later changes nothing."""
    rng = random.Random(5)
    cores = wire.some(6)
    wire.fate = lambda packet, source, address: [] if rng.random() < 0.3 else [(DELAY_S, packet)]
    assert not cores[5].gossip.told
    cores[5].gossip.leave(wire.now)
    assert wire.until(lambda: cores[5].gossip.told) < 2.0
    assert all(one.status("n5") == "left" for one in cores[:5])
    wire.run(10.0)  # it is still there, and answers
    assert all(one.statuses("n5")[-1] == "left" for one in cores[:5])
    wire.end(cores[5])
    wire.run(400.0)
    assert all(one.status("n5") is None for one in cores[:5])
    assert all("unreachable" not in one.statuses("n5") for one in cores[:5])


def test_a_forgotten_node_stays_forgotten(wire: Wire) -> None:
    """A dead node that all have forgotten is not learnt again from anybody, nor by who joins."""
    cores = wire.some(6)
    wire.end(cores[5])
    cores[4].paused = True
    wire.run(140.0)
    late = wire.add("late", seeds=("n0:1",))
    wire.run(30.0)
    cores[4].paused = False  # it remembers the dead as alive
    wire.run(400.0)
    assert late.statuses("n5") == []
    for core in cores[:4]:
        assert core.statuses("n5") == ["active", "unreachable", None]
        assert not core.gossip.view.unconfirmed
    assert cores[4].statuses("n5") == ["active", "unreachable", None]


def test_our_pause_makes_nobody_unreachable(wire: Wire) -> None:
    """A process that was stopped for a second or for minutes finds nobody dead when it goes on, and the others find it
    alive again."""
    cores = wire.some(4)
    for pause_s in (0.9, 1.4, 5.0, 100.0, 250.0):
        cores[3].paused = True
        wire.run(pause_s)
        cores[3].paused = False
        wire.run(5.0)
        assert [cores[3].status(f"n{number}") for number in range(3)] == ["active"] * 3
        assert [one.status("n3") for one in cores[:3]] == ["active"] * 3
        assert all("unreachable" not in cores[3].statuses(f"n{number}") for number in range(3))


def test_what_waited_while_we_were_stopped(wire: Wire) -> None:
    """Packets that waited in the socket while we were stopped are read late, and are no younger for that: who died
    meanwhile is found within the usual time."""
    cores = wire.some(4)
    waiting: list[tuple[bytes, str]] = []

    def wait(packet: bytes, source: str, address: str) -> list[tuple[float, bytes]]:
        if address == "n3:1" and cores[3].paused and len(waiting) < 100:
            waiting.append((packet, source))
            return []
        return [(DELAY_S, packet)]

    wire.fate = wait
    cores[3].paused = True
    wire.run(10.0)
    wire.end(cores[2])
    wire.run(20.0)
    for packet, source in waiting:
        wire.inject(packet, source, "n3:1")
    cores[3].paused = False
    assert wire.until(lambda: cores[3].status("n2") == "unreachable") < 3.0
    wire.run(5.0)
    assert cores[3].status("n0") == cores[3].status("n1") == "active"


# Secrets


def test_rotation_while_running(wire: Wire) -> None:
    """A secret is changed in a running cluster, node by node, and nobody is ever unreachable."""
    cores = wire.some(4, secrets=("old",))
    for step in (("old", "new"), ("new", "old"), ("new",)):
        for core in cores:
            core.gossip.set_secrets(step)
            wire.run(1.0)
    wire.run(5.0)
    assert all(
        one.statuses(f"n{number}") == ["active"] for one in cores for number in range(4) if one.node_id != f"n{number}"
    )


def test_another_cluster_and_wrong_secrets_stay_out(wire: Wire) -> None:
    """A node with another secret, none, or another cluster's name is never known, and what it sends is counted."""
    cores = wire.some(2, secrets=("s",))
    strangers = [
        wire.add("x", seeds=("n0:1",), secrets=("wrong",)),
        wire.add("y", seeds=("n0:1",)),
        wire.add("z", seeds=("n0:1",), secrets=("s",), cluster="other"),
    ]
    wire.run(20.0)
    assert all(not one.gossip.view.members for one in strangers)
    assert all(set(one.gossip.view.members) == {"n0", "n1"} - {one.node_id} for one in cores)
    counts = cores[0].gossip.counts
    assert counts["dropped secret"] > 10 and counts["dropped cluster"] > 10
    assert {name.removeprefix("dropped ") for name in counts if name.startswith("dropped ")} <= set(REASONS)
