"""Revocations reach every node: at once where they can, and soon in any case, without endless talk."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from twisted.internet.defer import Deferred
from twisted.internet.task import Clock, deferLater

from pico_twisted.core.access.revocations import BadRevocations, Meant, Revocations
from pico_twisted.net.access.shared import (
    EARLIER,
    MOST_AT_ONCE,
    MOST_WAIT_S,
    TELL_S,
    UNREACHED,
    SharedParts,
    SharedRevocations,
    Told,
)
from pico_twisted.net.observe.metrics import Metrics
from pico_twisted.net.sweep import ReactorSweep
from tests.doubles.node import pass_time

NOW = 1_800_000_000.0
FLIGHT_S = 0.01


class Cluster:
    """Nodes whose digests all know at once, and whose links can be cut in one direction."""

    def __init__(self, *names: str) -> None:
        self.clock = Clock()
        self.sweep = ReactorSweep(self.clock, 0.05)
        self.sweep.start()
        self.digests: dict[str, str] = {}
        self.cut: set[tuple[str, str]] = set()
        self.old: set[str] = set()
        self.away: set[str] = set()
        self.ends = 0
        self.told: list[tuple[str, str, int]] = []
        self.changes: dict[str, int] = {}
        self.nodes: dict[str, SharedRevocations] = {}
        for name in names:
            self.add(name)

    def add(self, name: str) -> SharedRevocations:
        """One more node, or the same one started again with nothing."""

        def tell(node_id: str, data: bytes) -> Deferred[bytes | None]:
            return deferLater(self.clock, FLIGHT_S, self._told, name, node_id, data)

        node = self.nodes[name] = SharedRevocations(
            Revocations(),
            SharedParts(
                clock=self.clock,
                sweep=self.sweep,
                wall=lambda: NOW + self.clock.seconds(),
                metrics=Metrics("node"),
                others=lambda: {
                    id: None if id in self.away else self.digests.get(id, "")
                    for id in (*self.nodes, *self.old)
                    if id != name
                },
                tell=tell,
                announce=lambda digest: self.digests.__setitem__(name, digest),
                chance=lambda: 0.0,
            ),
        )

        def changed() -> int:
            self.changes[name] = self.changes.get(name, 0) + 1
            return self.ends

        node.changed.append(changed)
        return node

    def _told(self, sender: str, receiver: str, data: bytes) -> bytes | None:
        if (sender, receiver) in self.cut:
            raise ConnectionError("cut")
        self.told.append((sender, receiver, len(data)))
        return self.nodes[receiver].take(sender, data)

    def part(self, one: str, other: str) -> None:
        """Cut the links between two nodes, both ways."""
        self.cut |= {(one, other), (other, one)}

    def pass_time(self, seconds: float) -> None:
        """Let time pass."""
        pass_time(self.clock, seconds)

    def agree(self) -> bool:
        """Whether all nodes have the same list."""
        return len({node.revocations.digest for node in self.nodes.values()}) == 1

    def knows(self, name: str, who: str = "ci") -> bool:
        """Whether somebody is revoked at a node."""
        return any(word.name == who and word.revoked for word in self.nodes[name].revocations)


@pytest.fixture
def cluster() -> Iterator[Cluster]:
    """Three nodes."""
    three = Cluster("n1", "n2", "n3")
    three.pass_time(1)
    yield three
    three.pass_time(TELL_S + 1)
    three.sweep.stop()
    assert three.clock.getDelayedCalls() == []


def revoke(cluster: Cluster, name: str = "n1", who: str = "ci") -> list[dict[str, str]]:
    """Revoke somebody at a node; what is said of the others once that is known."""
    known: list[dict[str, str]] = []
    _, telling = cluster.nodes[name].revoke(Meant.NAME, who, "op")
    telling.addCallback(lambda told: known.append(dict(told.nodes)))
    return known


def test_told_at_once(cluster: Cluster) -> None:
    """All nodes know in the time that a call takes, and it is said that they do; then nothing more is exchanged."""
    known = revoke(cluster)
    cluster.clock.advance(FLIGHT_S)
    assert all(cluster.knows(name) for name in cluster.nodes)
    assert known == [{"n2": "", "n3": ""}]
    cluster.pass_time(120)
    assert len(cluster.told) == 2
    assert cluster.changes == {"n1": 1, "n2": 1, "n3": 1}


@pytest.mark.parametrize(("lie", "ended"), [(None, 6), (b"", 4), (b"many", 4), (b"-1", 4), (b"9" * 99, 4)])
def test_how_much_it_ends(cluster: Cluster, lie: bytes | None, ended: int) -> None:
    """What all nodes end is told together; what a node says that is no number counts for nothing."""
    cluster.ends = 2
    if lie is not None:
        cluster.nodes["n3"].take = lambda node_id, data: lie  # type: ignore[method-assign]
    told: list[Told] = []
    cluster.nodes["n1"].revoke(Meant.NAME, "ci", "op")[1].addCallback(told.append)
    cluster.pass_time(1)
    assert [one.ended for one in told] == [ended]


def test_taken_back_at_another_node(cluster: Cluster) -> None:
    """What one node revoked, another one takes back for all; what nobody revoked cannot be taken back."""
    revoke(cluster)
    cluster.pass_time(1)
    assert cluster.nodes["n2"].undo(Meant.NAME, "ci", "other") is not None
    cluster.pass_time(1)
    assert not any(cluster.knows(name) for name in cluster.nodes) and cluster.agree()
    assert cluster.nodes["n3"].undo(Meant.NAME, "ci", "other") is None
    assert cluster.nodes["n3"].undo(Meant.AGENT, "ci", "other") is None


def test_nodes_that_were_parted(cluster: Cluster) -> None:
    """Both sides of a partition revoke; the operator is told who may not know; when it heals all know all, soon."""
    cluster.part("n1", "n2")
    cluster.part("n3", "n2")
    known = revoke(cluster, "n1", "a")
    revoke(cluster, "n2", "b")
    cluster.pass_time(100)
    assert known == [{"n2": UNREACHED, "n3": ""}]
    assert cluster.knows("n3", "a") and not cluster.knows("n2", "a") and not cluster.knows("n3", "b")
    cluster.cut.clear()
    cluster.pass_time(MOST_WAIT_S + 2)
    assert cluster.agree() and cluster.knows("n2", "a") and cluster.knows("n1", "b")


def test_a_list_that_changes_all_the_time(cluster: Cluster) -> None:
    """While somebody is revoked every moment, a node that missed one before knows of it soon all the same."""
    revoke(cluster, "n1", "known")
    cluster.pass_time(1)
    cluster.part("n1", "n3")
    cluster.part("n2", "n3")
    revoke(cluster, "n1", "missed")
    cluster.pass_time(1)
    cluster.cut.clear()
    for number in range(100):
        revoke(cluster, "n1", f"name-{number}")
        cluster.pass_time(0.3)
        if cluster.knows("n3", "missed"):
            break
    assert number < 20


def test_reached_from_one_side(cluster: Cluster) -> None:
    """A node that can reach nobody is brought to the same list by those who reach it, and learns from it."""
    cluster.cut |= {("n3", "n1"), ("n3", "n2"), ("n1", "n3")}
    revoke(cluster, "n1", "a")
    revoke(cluster, "n3", "b")
    cluster.pass_time(10)
    assert cluster.agree() and cluster.knows("n3", "a") and cluster.knows("n1", "b")


def test_nodes_that_start(cluster: Cluster) -> None:
    """A node that starts with nothing, again or for the first time, knows within a second."""
    revoke(cluster)
    cluster.pass_time(1)
    for name in ("n2", "n4"):
        cluster.digests.pop(name, None)
        cluster.add(name)
    cluster.pass_time(1)
    assert cluster.knows("n2") and cluster.knows("n4")


def test_what_a_node_kept(cluster: Cluster) -> None:
    """A node that starts with its list tells it to those who have lost theirs; a list that is none is refused."""
    kept = Revocations()
    kept.revoke(Meant.AGENT, "agent-1", now_s=NOW, by="op")
    cluster.nodes["n1"].load(kept.written())
    assert cluster.digests["n1"] == kept.digest
    cluster.pass_time(3)
    assert all(node.revocations.is_revoked(None, "agent-1") for node in cluster.nodes.values())
    with pytest.raises(BadRevocations):
        cluster.nodes["n1"].load(b"nonsense")


def test_a_node_of_an_earlier_version(cluster: Cluster) -> None:
    """It is named to the operator, and nobody asks it again and again."""
    cluster.old.add("n0")
    known = revoke(cluster)
    cluster.pass_time(100)
    assert known == [{"n0": EARLIER, "n2": "", "n3": ""}]
    assert [told[:2] for told in cluster.told] == [("n1", "n2"), ("n1", "n3")]


def test_a_node_that_is_away(cluster: Cluster) -> None:
    """It is named to the operator, and knows when it is back."""
    cluster.away.add("n2")
    cluster.part("n1", "n2")
    cluster.part("n3", "n2")
    known = revoke(cluster)
    cluster.pass_time(10)
    assert known == [{"n2": UNREACHED, "n3": ""}] and not cluster.knows("n2")
    cluster.away.clear()
    cluster.cut.clear()
    cluster.pass_time(MOST_WAIT_S + 3)
    assert cluster.knows("n2")


def test_a_node_that_hangs(cluster: Cluster) -> None:
    """A node that never answers is named when the time is over."""
    hanging: list[Deferred[bytes | None]] = []

    def tell(node_id: str, data: bytes) -> Deferred[bytes | None]:
        hanging.append(Deferred())
        return hanging[-1]

    cluster.nodes["n1"]._parts = SharedParts(  # as it is, but that nobody answers
        **{name: getattr(cluster.nodes["n1"]._parts, name) for name in ("clock", "sweep", "wall", "metrics", "others")},
        tell=tell,
        announce=lambda digest: None,
    )
    known = revoke(cluster)
    cluster.pass_time(TELL_S + 0.5)
    assert known == [{"n2": UNREACHED, "n3": UNREACHED}]


def test_talk_has_an_end(cluster: Cluster) -> None:
    """While a node tells another digest for ever, whatever it is given, it is asked more and more rarely."""
    revoke(cluster)
    cluster.pass_time(1)
    cluster.told.clear()
    cluster.nodes["n2"].take = lambda node_id, data: b""  # type: ignore[method-assign]
    cluster.digests["n2"] = "a lie"
    cluster.pass_time(300)
    assert len([one for one in cluster.told if one[:2] == ("n1", "n2")]) < 2 * (300 / MOST_WAIT_S + 7)


def test_an_answer_that_is_none(cluster: Cluster, caplog: pytest.LogCaptureFixture) -> None:
    """Nonsense of another node changes nothing, in a question and in an answer."""
    revoke(cluster)
    cluster.pass_time(1)
    before = cluster.nodes["n1"].revocations.written()
    with pytest.raises(BadRevocations):
        cluster.nodes["n1"].take("n2", b"nonsense")
    cluster.nodes["n2"].take = lambda node_id, data: b"nonsense"  # type: ignore[method-assign]
    cluster.digests["n2"] = "a lie"
    cluster.pass_time(5)
    assert cluster.nodes["n1"].revocations.written() == before


def test_long_lists(cluster: Cluster) -> None:
    """Lists that do not fit one request arrive piece by piece."""
    many = Revocations()
    for number in range(MOST_AT_ONCE + 10):
        many.revoke(Meant.NAME, f"name-{number}", now_s=NOW, by="op")
    cluster.cut |= {("n2", "n1"), ("n3", "n1")}
    cluster.nodes["n1"].load(many.written())
    cluster.pass_time(30)
    assert cluster.agree() and len(cluster.nodes["n3"].revocations) == MOST_AT_ONCE + 10


def test_words_that_end(cluster: Cluster) -> None:
    """They are forgotten by all nodes, and nobody tells them again."""
    word, _ = cluster.nodes["n1"].revoke(Meant.NAME, "ci", "op", until_s=NOW + 10)
    cluster.pass_time(word.until_s - NOW - 1)
    assert all(cluster.knows(name) for name in cluster.nodes)
    told = len(cluster.told)
    cluster.pass_time(120)
    assert cluster.digests == dict.fromkeys(cluster.nodes, Revocations().digest) and len(cluster.told) == told
