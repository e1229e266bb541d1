"""The agents of the whole cluster, asked of the nodes when somebody looks."""

from __future__ import annotations

from typing import Final

from pico_twisted.net.admin.asking_nodes import AskingNodes
from pico_twisted.net.admin.operators import Operator
from pico_twisted.net.admin.shapes.agents import Agents
from pico_twisted.net.admin.shapes.paths import AGENTS_PATH
from pico_twisted.net.admin.status import INodeStatus

MOST_SESSIONS: Final = 5000
"""Most sessions that are told of all nodes together."""


async def cluster_agents(status: INodeStatus, asking: AskingNodes, endpoint: str, operator: Operator) -> Agents:
    """The sessions of agents at all nodes that are there.

    Args:
        status: of this node.
        asking: asks the others.
        endpoint: only those that serve it; all of them when empty.
        operator: who wants to know.
    """
    own = status.agents(endpoint)
    sessions, more = list(own.sessions), own.more
    ids = asking.others()
    if endpoint:
        holders = status.holders(endpoint)
        ids = [id for id in ids if id in holders]
    found, unanswered = await asking.ask(ids, AGENTS_PATH, {"endpoint": endpoint}, Agents, operator)
    for agents in found.values():
        room = max(0, MOST_SESSIONS - len(sessions))
        sessions += agents.sessions[:room]
        more += agents.more + len(agents.sessions[room:])
    return Agents(sessions=tuple(sessions), more=more, unanswered=unanswered)
