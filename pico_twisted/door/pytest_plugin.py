"""The fixture `pico_url` for the tests of any project: a server as its clients see it behind Pico.

Pytest loads this file in every run in whose environment the package is installed. So nothing is imported and nothing
happens here, until a test asks for the fixture.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from pico_twisted.door.local_node import LocalNodes


@pytest.fixture(scope="session")
def _pico_nodes(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LocalNodes]:
    """The nodes of the run, none before the first is needed."""
    from pico_twisted.door.local_node import LocalNodes

    nodes = LocalNodes(lambda: tmp_path_factory.mktemp("pico-node"))
    yield nodes
    nodes.stop()


@pytest.fixture
def pico_url(_pico_nodes: LocalNodes) -> Iterator[Callable[[int | str], str]]:
    """A function that puts a server behind Pico: `url = pico_url(port)`.

    It takes a port of this machine, or an address as an agent's listener has it (`host:port`, a URL, `unix:/path`), and
    returns a URL without a slash at its end, such as `http://127.0.0.1:40123`. What is sent there goes through a real
    node and a real agent, until the test is over. Each call within one test gives another URL.
    """
    used = []

    def expose(target: int | str) -> str:
        node = _pico_nodes.expose(target)
        used.append(node)
        return node.url

    yield expose
    for node in reversed(used):
        _pico_nodes.release(node)
