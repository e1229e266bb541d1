"""Who else serves an endpoint: told to an agent that registers, and why it is refused when one of them will not share.

What is known. Of this node's registrations everything; of another node's how many it holds, and the ID of an agent that
will not share. Sessions of one agent are not others to each other. What drains is about to go, and does not count; a
service that is out may be back in a second, and does. So
two agents that register at two nodes in the same moment may both be taken: gossip has not told yet.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence

from pico_twisted.core.access.subject import Subject
from pico_twisted.core.routing.other_server import OtherServer
from pico_twisted.core.routing.table import ACTIVE, ALL_DRAIN, ClusterTable
from pico_twisted.net.routing.routes import AgentRoute


def other_servers(
    held: Sequence[AgentRoute],
    table: ClusterTable,
    endpoint: str,
    agent_id: str,
    own_nodes: Collection[str],
    subject: Subject | None,
    now: float,
) -> list[OtherServer]:
    """The other agents that serve an endpoint, those of this node first.

    Args:
        held: the registrations of this node.
        table: the other nodes.
        endpoint: its ID in lower case.
        agent_id: whose others are asked for.
        own_nodes: nodes at which it has sessions, as it says.
        subject: who it is; who shows to be somebody else hears no ID and no address of the others.
        now: of the sweep.
    """
    key = None if subject is None else subject.key
    found: dict[tuple[bool, str], OtherServer] = {}
    for route in held:
        other = route.tunnel.subject
        is_same = key is None or (other is not None and other.key == key)
        if route.resigned or (is_same and route.agent_id == agent_id):
            continue
        found[is_same, route.agent_id] = OtherServer(
            name=route.agent_id if is_same else "an agent",
            address=route.tunnel.peer.rpartition(":")[0] if is_same else "at this node",
            for_s=now - route.registered_at if is_same else None,
            alone=route.tunnel.alone,
        )
    others = list(found.values())
    for node_id, node in table.nodes.items():
        if node.status != ACTIVE or not node.said.registrations(endpoint) or node.last_choice(endpoint) == ALL_DRAIN:
            continue
        owner = node.owner(endpoint)
        if owner not in ("", agent_id):
            name = owner if key is None else "an agent"
            others.append(OtherServer(name=name, address=f"at node {node_id}", alone=True))
        elif not owner and node_id not in own_nodes:
            others.append(OtherServer(name="an agent", address=f"at node {node_id}"))
    return others
