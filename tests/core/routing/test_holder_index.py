"""Which nodes hold an endpoint, in few bytes: the same as a dictionary of sets."""

from __future__ import annotations

import random

from hypothesis import given, settings
from hypothesis import strategies as st

from pico_twisted.core.routing.holder_index import MOST_NODES, HolderIndex
from tests.examples import examples

ENDPOINTS = st.sampled_from(["", "a", "b", *(f"id-{at}" for at in range(50))])
NODES = st.sampled_from([0, 1, 7, MOST_NODES - 1])


@given(st.lists(st.tuples(ENDPOINTS, NODES, st.booleans()), max_size=200))
@settings(max_examples=examples(100))
def test_as_sets(steps: list[tuple[str, int, bool]]) -> None:
    """Whatever is said in whatever order and however often, an endpoint has the nodes that were added and not taken
    away since, and those that have some are counted."""
    index, model = HolderIndex(), dict[str, set[int]]()
    for endpoint, node, holds in steps:
        if holds:
            index.add(endpoint, node)
            model.setdefault(endpoint, set()).add(node)
        else:
            index.discard(endpoint, node)
            model.get(endpoint, set()).discard(node)
    index._check_invariants()
    assert all(index.find(endpoint) == sorted(nodes) for endpoint, nodes in model.items())
    assert len(index) == sum(map(bool, model.values())) and not index.find("nobody's")


def test_very_many() -> None:
    """It stays right while it grows to many parts, and while all of it goes again."""
    rng = random.Random(3)
    index = HolderIndex()
    pairs = [(f"customer-{at}", rng.randrange(MOST_NODES)) for at in range(10_000) for _ in range(rng.randrange(4))]
    for endpoint, node in pairs:
        index.add(endpoint, node)
    index._check_invariants()
    for endpoint in {endpoint for endpoint, _ in pairs[:500]}:
        assert index.find(endpoint) == sorted({node for held, node in pairs if held == endpoint})
    for endpoint, node in pairs:
        index.discard(endpoint, node)
    index._check_invariants()
    assert not len(index)
