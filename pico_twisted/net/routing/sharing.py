"""Who else serves an endpoint: told to an agent that registers, and why it is refused when one of them will not share.

What is known. Of this node's registrations everything; of another node's how many it holds, and the ID of an agent that
will not share. Sessions of one agent are not others to each other. What drains is about to go, and does not count. So
two agents that register at two nodes in the same moment may both be taken: gossip has not told yet.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence

from pico_twisted.core.routing.table import ACTIVE, ClusterTable
from pico_twisted.net.interfaces import OtherServer
from pico_twisted.net.routing.routes import AgentRoute


def other_servers(
    held: Sequence[AgentRoute],
    table: ClusterTable,
    endpoint: str,
    agent_id: str,
    own_nodes: Collection[str],
    now: float,
) -> list[OtherServer]:
    """The other agents that serve an endpoint, those of this node first.

    Args:
        held: the registrations of this node.
        table: the other nodes.
        endpoint: its ID in lower case.
        agent_id: whose others are asked for.
        own_nodes: nodes at which it has sessions, as it says.
        now: of the sweep.
    """
    found = {
        route.agent_id: OtherServer(
            name=route.agent_id,
            address=route.tunnel.peer.rpartition(":")[0],
            for_s=now - route.registered_at,
            alone=route.tunnel.alone,
        )
        for route in held
        if route.agent_id != agent_id and not route.resigned
    }
    others = list(found.values())
    for node_id, node in table.nodes.items():
        if node.status != ACTIVE or endpoint not in node.endpoints or endpoint in node.last_choice:
            continue
        owner = node.owners.get(endpoint, "")
        if owner not in ("", agent_id):
            others.append(OtherServer(name=owner, address=f"at node {node_id}", alone=True))
        elif not owner and node_id not in own_nodes:
            others.append(OtherServer(name="an agent", address=f"at node {node_id}"))
    return others
