"""Affinity: the requests of a client go to the same agent, at whichever node they arrive.

What is needed. A service may keep in its memory what a client said before: socket.io's long-polling is the plainest
case. Each node has to find the same agent for a client, also after a node or an agent was started anew, and without
asking anybody.

What was chosen. Agents go by a short ID, a hash of the endpoint and of the agent's own ID, which other nodes are told
of and which a cookie may hold: it tells a client nothing. With *address*, the agent is the one that weighs most for
the client's address among all of the cluster (highest random weight; Thaler and Ravishankar, "Using name-based mappings
to increase hit rates", 1998): when an agent goes, its clients alone move, and when it comes back they do, too. With
*cookie*, a new client goes where any request would go, and a cookie names who served it.

What can go wrong. An agent that drains is told of no more, so its clients move. One whose node stops, or is stopping,
is still told of by its other nodes. Nodes that have heard different things for a moment may choose differently.
"""

from __future__ import annotations

import base64
import enum
import hashlib
import re
from collections.abc import Iterable, Mapping
from functools import lru_cache
from typing import Final

import attrs

from pico_twisted.core.text import network_of

ID_CHARACTERS: Final = 8
"""Characters of a short ID: 48 bits, so that agents of one endpoint do not meet in one."""
MAX_AGENTS: Final = 36
"""Most agents of an endpoint that a node tells of: a value of the gossip holds 300 bytes. The others serve like those
of an endpoint without affinity."""
_MAX_REMEMBERED: Final = 4096
"""Most clients whose order of agents is kept."""

_ID: Final = re.compile(r"[A-Za-z0-9_-]{8}")


class Affinity(enum.Enum):
    """What ties a client to an agent, as a listener says. Where agents do not agree, the first one of these counts."""

    COOKIE = "cookie"
    ADDRESS = "address"
    NONE = "none"


_ORDER: Final = {affinity: at for at, affinity in enumerate(Affinity)}


def affinity_of(word: str | None) -> Affinity:
    """What a peer's word for it means: nothing, if we do not know it."""
    try:
        return Affinity(word)
    except ValueError:
        return Affinity.NONE


def short_id(endpoint: str, agent_id: str) -> str:
    """The ID by which an agent goes here, in characters that cookies and fields may hold."""
    digest = hashlib.sha256(f"{endpoint}\0{agent_id}".encode()).digest()
    return base64.urlsafe_b64encode(digest[: ID_CHARACTERS * 3 // 4]).decode("ascii")


def is_short_id(text: str) -> bool:
    """Whether a text may be such an ID."""
    return _ID.fullmatch(text) is not None


def tied_by(address: bytes) -> bytes:
    """What stands for a client whose address ties it to an agent: its network, and where there is none all of it.

    Args:
        address: an IP, or what a proxy tells in its place.
    """
    return network_of(address).encode("ascii") or address


@lru_cache(_MAX_REMEMBERED)
def ranked(network: bytes, agents: tuple[str, ...]) -> tuple[str, ...]:
    """The agents in the order in which they are to serve a client: the same everywhere, and for others another one.

    Args:
        network: of the client, as `tied_by` gives it.
        agents: short IDs, in any order.
    """
    return tuple(sorted(agents, key=lambda agent: _weight(network, agent), reverse=True))


def _weight(network: bytes, agent: str) -> bytes:
    return hashlib.blake2b(network, digest_size=8, key=agent.encode()).digest()


def told_of(agents: Iterable[tuple[Affinity, str]]) -> str:
    """What other nodes are told of an endpoint's agents here.

    Args:
        agents: what ties clients to each, and its short ID. Those that nothing ties clients to are left out.
    """
    by_id = {agent: affinity for affinity, agent in agents if affinity is not Affinity.NONE}
    if not by_id:
        return ""
    mode = min(by_id.values(), key=_ORDER.__getitem__)
    return f"{mode.value}:" + "".join(sorted(by_id)[:MAX_AGENTS])


def _read(told: object) -> tuple[Affinity, tuple[str, ...]] | None:
    """What `told_of` says; None for anything else."""
    mode, colon, ids = told.partition(":") if isinstance(told, str) else ("", "", "")
    affinity = affinity_of(mode)
    agents = tuple(ids[at : at + ID_CHARACTERS] for at in range(0, len(ids), ID_CHARACTERS))
    if affinity is Affinity.NONE or not colon or not all(map(is_short_id, agents)):
        return None
    return affinity, agents


@attrs.frozen
class Servers:
    """Who serves an endpoint with affinity, as far as it is known here.

    Attributes:
        affinity: what ties clients to agents.
        nodes: those at which each agent is, by its short ID; empty for this one.
        agents: all short IDs.
    """

    affinity: Affinity
    nodes: Mapping[str, tuple[str, ...]]
    agents: tuple[str, ...]


class AffinityTable:
    """The agents of endpoints with affinity, here and at other nodes.

    Attributes:
        endpoints: those of which anybody tells, by ID, and what each node says, as it came.
    """

    def __init__(self) -> None:
        self.endpoints: dict[str, dict[str, object]] = {}
        self._away: set[str] = set()  # nodes that tell, and cannot be asked
        self._known: dict[str, Servers] = {}

    def told(self, endpoint: str, node_id: str, value: object) -> None:
        """A node says who serves an endpoint there.

        Args:
            endpoint: its ID.
            node_id: of the node; empty for this one.
            value: what `told_of` gave; empty or None for nobody. It is read when somebody asks.
        """
        nodes = self.endpoints.get(endpoint, {})
        self._known.pop(endpoint, None)
        if value:
            self.endpoints.setdefault(endpoint, {})[node_id] = value
        elif nodes.pop(node_id, None) is not None and not nodes:
            del self.endpoints[endpoint]

    def stands(self, node_id: str, there: bool) -> None:
        """A node can be asked, or it cannot."""
        if there == (node_id in self._away):
            (self._away.discard if there else self._away.add)(node_id)
            self._known.clear()

    def forget(self, node_id: str) -> None:
        """A node is gone for good, and what it told with it."""
        for endpoint in [endpoint for endpoint, nodes in self.endpoints.items() if node_id in nodes]:
            self.told(endpoint, node_id, None)
        self._away.discard(node_id)

    def servers(self, endpoint: str) -> Servers | None:
        """Who serves an endpoint; None when nothing ties its clients to anybody."""
        found = self._known.get(endpoint)
        if found is not None or endpoint not in self.endpoints:
            return found
        modes: set[Affinity] = set()
        nodes: dict[str, list[str]] = {}
        for node_id, value in self.endpoints[endpoint].items():
            read = None if node_id in self._away else _read(value)
            if read is not None:
                modes.add(read[0])
                for agent in read[1]:
                    nodes.setdefault(agent, []).append(node_id)
        found = self._known[endpoint] = Servers(
            min(modes, key=_ORDER.__getitem__, default=Affinity.NONE),
            {agent: tuple(sorted(ids)) for agent, ids in nodes.items()},
            tuple(sorted(nodes)),
        )
        return found
