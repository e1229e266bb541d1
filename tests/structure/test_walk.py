"""A request can be followed by a reader: few calls, and few changes of the file."""

from __future__ import annotations

import pytest

from benchmarks.walk import walk


@pytest.mark.parametrize(
    ("two_nodes", "most_calls", "most_file_changes"),
    [
        (False, 200, 110),
        (True, 290, 180),
    ],
    ids=["one node", "two nodes"],
)
def test_a_small_request_is_a_short_walk(two_nodes: bool, most_calls: int, most_file_changes: int) -> None:
    """A small GET, from the client to the service and back: `python benchmarks/walk.py --trace` shows each call."""
    found = walk(two_nodes=two_nodes)
    where = "two nodes" if two_nodes else "one node"
    assert found.calls <= most_calls, f"{where}: {found.calls} calls of ours, {most_calls} at most"
    assert found.file_changes <= most_file_changes, (
        f"{where}: {found.file_changes} changes of the file, {most_file_changes} at most"
    )
