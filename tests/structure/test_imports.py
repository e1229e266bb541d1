"""The rooms can be read one after the other: imports do not turn round, and few rooms know each other.

The layers are contracts of import-linter, in pyproject.toml. Here is what they do not see: circles within a room, and
circles of types.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from tests.structure.source import imports, modules

MOST_PARTS = 13
MOST_ARROWS = 38
"""Of `net`: its rooms and single files, and the imports between them, each pair counted once."""

NET = "pico_twisted.net."


def circles(graph: Mapping[str, Iterable[str]]) -> list[list[str]]:
    """The strongly connected parts of a graph that have more than one node (Tarjan's algorithm)."""
    index: dict[str, int] = {}
    low: dict[str, int] = {}
    path: list[str] = []
    found: list[list[str]] = []

    def visit(node: str) -> None:
        index[node] = low[node] = len(index)
        path.append(node)
        for other in graph.get(node, ()):
            if other not in index:
                visit(other)
                low[node] = min(low[node], low[other])
            elif other in path:
                low[node] = min(low[node], index[other])
        if low[node] == index[node]:
            start = path.index(node)
            if len(path) - start > 1:
                found.append(path[start:])
            del path[start:]

    for node in graph:
        if node not in index:
            visit(node)
    return found


def test_no_import_turns_round() -> None:
    """Whoever reads a module can have read before all that it imports, its types included: no import cycle."""
    found = [" -> ".join([*circle, circle[0]]) for circle in circles(imports())]
    assert not found, "\n".join(["imports in a circle, TYPE_CHECKING included:", *found])


def test_the_map_of_net_is_small() -> None:
    """`net` has few rooms, and few of them know each other: the map fits on a page."""
    parts = {name.removeprefix(NET).split(".")[0] for name in modules() if name.startswith(NET)}
    arrows: dict[tuple[str, str], str] = {}
    for name, imported in imports().items():
        for other in imported:
            if name.startswith(NET) and other.startswith(NET):
                left, right = name.removeprefix(NET).split(".")[0], other.removeprefix(NET).split(".")[0]
                if left != right:
                    arrows.setdefault((left, right), f"{left} -> {right} ({name} imports {other})")
    assert len(parts) <= MOST_PARTS, f"net has {len(parts)} parts, {MOST_PARTS} at most: {', '.join(sorted(parts))}"
    shown = "\n".join(sorted(arrows.values()))
    assert len(arrows) <= MOST_ARROWS, (
        f"net has {len(arrows)} arrows between its parts, {MOST_ARROWS} at most:\n{shown}"
    )


def test_a_circle_is_seen() -> None:
    """Of two and of three modules, beside others."""
    graph = {"a": ["b"], "b": ["a", "c"], "c": ["d"], "d": ["e"], "e": ["c", "f"], "f": []}
    assert sorted(sorted(circle) for circle in circles(graph)) == [["a", "b"], ["c", "d", "e"]]
