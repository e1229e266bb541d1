"""Who holds an endpoint elsewhere, and which of them gets the next call."""

from __future__ import annotations

import random
import tracemalloc
from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pico_twisted.core.gossip.events import KeysChanged, StatusChanged
from pico_twisted.core.gossip.state import VersionedMap
from pico_twisted.core.routing.table import ACTIVE, DRAINING, SLICE, ClusterTable, endpoint_key, last_choice_key
from tests.doubles.said import said_of, says


class Nodes:
    """A table, fed as gossip does.

    Attributes:
        rng: where its chance comes from.
        load: calls in flight by node ID; None where no call gets to.
        level: how slow nodes are, by their ID.
    """

    def __init__(self, chance: float | None = None) -> None:
        self.rng = random.Random(7)
        self.table = ClusterTable(self.rng.random if chance is None else lambda: chance)
        self.load: dict[str, int | None] = {}
        self.level: dict[str, int] = {}

    def status(self, node_id: str, status: str | None) -> None:
        """A node stands differently."""
        self.table.status_changed(StatusChanged(node_id, status))
        self.table._check_invariants()

    def keys(self, node_id: str, **changes: str | int | None) -> None:
        """A node says something of itself."""
        says(self.table, node_id, changes)
        self.table._check_invariants()

    def holds(self, node_id: str, registrations: int | str | None, endpoint: str = "ep") -> None:
        """A node says how many registrations it holds."""
        self.keys(node_id, **{endpoint_key(endpoint): registrations})

    def there(self, node_id: str, registrations: int) -> None:
        """An active node that holds the endpoint."""
        self.status(node_id, ACTIVE)
        self.holds(node_id, registrations)

    def choose(self, *excluded: str, status: str = ACTIVE, endpoint: str = "ep") -> str | None:
        """The node for the next call."""
        return self.table.choose(
            endpoint, status, excluded, self._in_flight, lambda _, node_id: self.level.get(node_id, 0)
        )

    def has_other(self, *excluded: str) -> bool:
        """Whether there is one that is not excluded."""
        return self.table.has_other("ep", excluded, self._in_flight)

    def _in_flight(self, node_id: str) -> int | None:
        return self.load.get(node_id, 0)

    def shares(self, calls: int = 4000) -> dict[str | None, float]:
        """What share of the calls each node gets."""
        counts = Counter(self.choose() for _ in range(calls))
        return {node_id: count / calls for node_id, count in counts.items()}


@pytest.fixture
def nodes() -> Nodes:
    """No node yet."""
    return Nodes()


def test_nobody(nodes: Nodes) -> None:
    """Where nobody holds the endpoint nobody is chosen."""
    nodes.status("a", ACTIVE)
    assert nodes.choose() is None
    nodes.holds("a", 1)
    assert nodes.choose(endpoint="other") is None


@pytest.mark.parametrize("others", [0, 1], ids=["alone", "of two"])
@pytest.mark.parametrize("status", ["draining", "unreachable", "left", None])
def test_only_who_is_there(nodes: Nodes, status: str | None, others: int) -> None:
    """A node that is not active any more gets no call as an active one, and one that is forgotten leaves no trace."""
    if others:
        nodes.there("b", 1)
    nodes.there("a", 1)
    nodes.status("a", status)
    assert {nodes.choose() for _ in range(20)} == ({"b"} if others else {None})
    assert nodes.choose(status=DRAINING) == ("a" if status == DRAINING else None)
    assert ("a" in nodes.table.nodes) == (status is not None)


def test_back_again(nodes: Nodes) -> None:
    """A node that comes back from being unreachable holds what it held."""
    nodes.there("a", 2)
    nodes.status("a", "unreachable")
    nodes.status("a", ACTIVE)
    assert nodes.choose() == "a"


def test_by_registrations(nodes: Nodes) -> None:
    """Nodes get calls by how many registrations they hold."""
    nodes.there("a", 1)
    nodes.there("b", 3)
    shares = nodes.shares()
    assert shares["a"] == pytest.approx(0.25, abs=0.03)
    assert shares["b"] == pytest.approx(0.75, abs=0.03)


def test_by_calls_in_flight(nodes: Nodes) -> None:
    """A node that has our calls in flight gets fewer, a loaded registration half of an idle one."""
    nodes.there("a", 2)
    nodes.there("b", 2)
    nodes.load["a"] = 2
    shares = nodes.shares()
    assert shares["a"] == pytest.approx(1 / 3, abs=0.03)
    assert shares["b"] == pytest.approx(2 / 3, abs=0.03)


def test_by_how_fast_they_answer(nodes: Nodes) -> None:
    """A node gets a quarter for each level that it is slower than the best one, and nothing from six on."""
    for node_id in "abc":
        nodes.there(node_id, 1)
    nodes.level = {"a": 2, "b": 3, "c": 8}
    shares = nodes.shares()
    assert shares["a"] == pytest.approx(0.8, abs=0.03) and shares["b"] == pytest.approx(0.2, abs=0.03)
    assert "c" not in shares
    nodes.level = {"a": 9, "b": 9, "c": 9}
    assert all(share == pytest.approx(1 / 3, abs=0.03) for share in nodes.shares().values())
    assert {nodes.choose("a", "b") for _ in range(5)} == {"c"}


@pytest.mark.parametrize("others", [0, 1], ids=["alone", "of two"])
def test_who_cannot_be_called(nodes: Nodes, others: int) -> None:
    """A node that was tried, or that no link gets to, is passed over."""
    if others:
        nodes.there("b", 1)
    nodes.there("a", 1)
    rest = {"b"} if others else {None}
    assert {nodes.choose("a", "") for _ in range(20)} == rest
    nodes.load["a"] = None
    assert {nodes.choose() for _ in range(20)} == rest


def test_whether_there_is_another(nodes: Nodes) -> None:
    """Nodes that are active or drain, hold the endpoint and can be called are there; the question draws no chance."""
    assert not nodes.has_other()
    nodes.there("a", 1)
    nodes.there("b", 1)
    nodes.status("b", DRAINING)
    before = nodes.rng.getstate()
    assert nodes.has_other() and nodes.has_other("a") and not nodes.has_other("a", "b")
    assert nodes.rng.getstate() == before
    nodes.load["b"] = None
    assert nodes.has_other() and not nodes.has_other("a")
    nodes.status("a", "unreachable")
    assert not nodes.has_other()


def test_the_ends_of_chance() -> None:
    """Whatever number chance gives, somebody is chosen."""
    for chance in (0.0, 0.5, 1.0 - 2**-53):
        nodes = Nodes(chance)
        nodes.there("a", 1)
        nodes.there("b", 3)
        assert nodes.choose() in ("a", "b")


@pytest.mark.parametrize("others", [0, 1])
def test_the_last_choice(nodes: Nodes, others: int) -> None:
    """A node with none but agents that drain is chosen like one that drains itself, until it says otherwise."""
    nodes.there("n1", 1)
    for number in range(others):
        nodes.there(f"other-{number}", 1)
        nodes.status(f"other-{number}", "unreachable")
    nodes.keys("n1", **{last_choice_key("ep"): 1})
    assert (nodes.choose(), nodes.choose(status=DRAINING)) == (None, "n1")
    assert nodes.has_other() and nodes.choose(endpoint="of-nobody", status=DRAINING) is None
    nodes.status("n1", "unreachable")
    assert nodes.choose(status=DRAINING) is None
    nodes.status("n1", ACTIVE)
    nodes.keys("n1", **{last_choice_key("ep"): None})
    assert (nodes.choose(), nodes.choose(status=DRAINING)) == ("n1", None)


def test_not_here(nodes: Nodes) -> None:
    """A node that says that it does not hold the endpoint is believed, until it says that it does."""
    nodes.there("a", 1)
    nodes.table.not_here("ep", "a")
    nodes.table.not_here("ep", "a")
    nodes.table.not_here("ep", "stranger")
    assert nodes.choose() is None
    nodes.keys("a", version="1")
    nodes.status("a", DRAINING)
    nodes.status("a", ACTIVE)
    assert nodes.choose() is None
    nodes.holds("a", 1)
    assert nodes.choose() == "a"


@pytest.mark.parametrize("nonsense", [0, -1, None, "3", ""])
def test_no_count(nodes: Nodes, nonsense: int | str | None) -> None:
    """What is not a count of registrations counts for nothing, whichever node says it."""
    nodes.there("a", 1)
    nodes.holds("a", nonsense)
    assert nodes.choose() is None
    assert nodes.table.holders("ep") == {} and not nodes.table.count_endpoints()


def test_what_else_is_said(nodes: Nodes) -> None:
    """Other keys are kept as they are, and gone when they are taken back."""
    nodes.status("a", ACTIVE)
    nodes.keys("a", proxy_addr="10.0.0.1:8000", number=7)
    a = nodes.table.nodes["a"]
    assert (a.text("proxy_addr"), a.text("number"), a.text("none")) == ("10.0.0.1:8000", "", "")
    nodes.keys("a", proxy_addr=None, none=None)
    assert a.said.get("number") == 7 and a.said.get("proxy_addr") is None


def test_keys_of_a_stranger(nodes: Nodes) -> None:
    """Who was not told as a node holds nothing."""
    nodes.holds("stranger", 5)
    assert nodes.choose() is None
    assert nodes.table.nodes == {}


def test_counts(nodes: Nodes) -> None:
    """Nodes are counted by status."""
    for node_id, status in (("a", ACTIVE), ("b", ACTIVE), ("c", "left")):
        nodes.status(node_id, status)
    assert nodes.table.count_by_status() == {ACTIVE: 2, "left": 1}


def many(nodes: Nodes, node_id: str, *names: str) -> VersionedMap:
    """A node says that it has very many endpoints of these names, and nothing else."""
    said = said_of({endpoint_key(f"{name}-{number}"): 1 for name in names for number in range(2 * SLICE)})
    had = nodes.table.nodes[node_id].said.endpoints()
    nodes.table.keys_changed(KeysChanged(node_id, said, [], [*had, *said.endpoints()]))
    return said


def finish(table: ClusterTable) -> int:
    """Let a table take all slices. Returns how many those were."""
    slices = 0
    while table.behind:
        table.work()
        table._check_invariants()
        slices += 1
    return slices


def test_very_many_endpoints_come_in_slices(nodes: Nodes) -> None:
    """What a node says at once of very many endpoints is taken bit by bit, and found by and by."""
    nodes.status("a", ACTIVE)
    many(nodes, "a", "x")
    assert not nodes.table.count_endpoints(), "nothing in the turn in which it came"
    nodes.table.work()
    assert nodes.table.count_endpoints() == SLICE
    assert finish(nodes.table) > 0
    assert all(nodes.choose(endpoint=f"x-{number}") == "a" for number in range(2 * SLICE))
    assert nodes.table.count_endpoints() == 2 * SLICE


def test_what_a_node_says_counts_before_the_slices_do(nodes: Nodes) -> None:
    """A map that replaces another counts at once for what both have and for what is gone, not endpoint by endpoint."""
    nodes.status("a", ACTIVE)
    many(nodes, "a", "x", "y")
    finish(nodes.table)
    many(nodes, "a", "y", "z")
    assert nodes.choose(endpoint=f"x-{SLICE}") is None and nodes.choose(endpoint=f"y-{SLICE}") == "a"
    assert not nodes.has_other() and not nodes.table.holders("x-0")
    finish(nodes.table)
    assert nodes.choose(endpoint=f"z-{SLICE}") == "a" and nodes.table.count_endpoints() == 4 * SLICE


@pytest.mark.parametrize("status", ["unreachable", "left", None])
def test_a_node_that_dies_with_very_many(nodes: Nodes, status: str | None) -> None:
    """A dead node is not chosen from the moment on at which its status says so, though the index still names it; in the
    end that is empty, and full again when the node comes back meanwhile or later."""
    nodes.status("a", ACTIVE)
    said = many(nodes, "a", "x")
    finish(nodes.table)
    nodes.status("a", status)
    assert nodes.choose(endpoint="x-0") is None and not nodes.table.served("x-0") and not nodes.table.holders("x-0")
    nodes.table.work()
    nodes.status("a", ACTIVE)
    nodes.table.keys_changed(KeysChanged("a", said, [], said.endpoints()))
    finish(nodes.table)
    assert nodes.table.count_endpoints() == 2 * SLICE and nodes.choose(endpoint="x-0") == "a"
    nodes.status("a", status)
    finish(nodes.table)
    assert not nodes.table.count_endpoints()


def test_news_between_two_slices(nodes: Nodes) -> None:
    """What a node says while an earlier map of it is still being taken is not undone by that."""
    nodes.status("a", ACTIVE)
    said = many(nodes, "a", "x")
    nodes.table.work()
    for number in (0, 2 * SLICE - 1):
        said.write(endpoint_key(f"x-{number}"), None, said.version + 1)
    said.write(endpoint_key("new"), 1, said.version + 1)
    nodes.table.keys_changed(KeysChanged("a", said, [], ["x-0", f"x-{2 * SLICE - 1}", "new"]))
    assert nodes.choose(endpoint="new") == "a"
    finish(nodes.table)
    assert nodes.choose(endpoint="x-0") is None and nodes.choose(endpoint=f"x-{2 * SLICE - 1}") is None
    assert nodes.table.count_endpoints() == 2 * SLICE - 1


ids = st.sampled_from(["a", "b", "c"])
endpoints = st.sampled_from(["x", "y"])
steps = st.one_of(
    st.tuples(st.just("status"), ids, st.sampled_from([ACTIVE, DRAINING, "unreachable", "left", None])),
    st.tuples(st.just("holds"), ids, endpoints, st.none() | st.integers(-1, 3)),
    st.tuples(st.just("not here"), ids, endpoints),
)


@given(st.lists(steps, max_size=40))
def test_any_order(happened: list[tuple[str, ...]]) -> None:
    """Whatever happens in whatever order, who is chosen is who is there and said so last."""
    nodes = Nodes()
    status: dict[str, str] = {}
    held: dict[tuple[str, str], int] = {}
    for what, node_id, *rest in happened:
        if what == "status":
            (new,) = rest
            nodes.status(node_id, new)
            if new is not None:
                status[node_id] = new
            else:
                status.pop(node_id, None)
                held = {key: count for key, count in held.items() if key[0] != node_id}
        elif what == "holds":
            endpoint, count = rest
            nodes.holds(node_id, count, endpoint)
            if node_id in status:
                held[node_id, endpoint] = count or 0  # type: ignore[assignment]
        else:
            nodes.table.not_here(rest[0], node_id)
            held.pop((node_id, rest[0]), None)
        nodes.table._check_invariants()
    for endpoint in ("x", "y"):
        there = {one for (one, held_endpoint), count in held.items() if held_endpoint == endpoint and count > 0} & {
            one for one, standing in status.items() if standing == ACTIVE
        }
        chosen = {nodes.choose(endpoint=endpoint) for _ in range(200)}
        assert chosen == (set[str | None](there) or {None})


def test_an_endpoint_of_very_many_takes_few_bytes(nodes: Nodes) -> None:
    """A cluster may hold a million endpoints: one of another node takes no more than 60 bytes, its ID, the node's map
    and the index included, also after many have come and gone."""
    table, said, most = nodes.table, VersionedMap(), 10_000
    nodes.status("a", ACTIVE)
    tracemalloc.start()
    try:
        for at in range(most + 2000):
            changes: list[tuple[str, int | None]] = [(f"customer-{at:07d}", 1)]
            changes += [(f"customer-{at - most:07d}", None)] if at >= most else []
            for endpoint, registrations in changes:
                said.write(endpoint_key(endpoint), registrations, said.version + 3)
                said.raise_floor(said.version)
                table.keys_changed(KeysChanged("a", said, [], [endpoint]))
        held, _ = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert table.count_endpoints() == most and held / most < 60
