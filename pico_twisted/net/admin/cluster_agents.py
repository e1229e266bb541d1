"""The agents of the whole cluster, asked of the nodes when somebody looks.

Gossip tells which node holds which endpoint, and no more: who the agents are would be much to tell all nodes for
nobody's sake. So the node that is asked asks the admin ports of the others. One that gives no answer is named with the
reason, and the others' answers stand.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Final
from urllib.parse import quote

from twisted.internet import defer
from twisted.internet.defer import Deferred, DeferredList, DeferredSemaphore
from twisted.python.failure import Failure

from pico_twisted.core.routing.table import ACTIVE, DRAINING
from pico_twisted.net.admin.operators import Operator
from pico_twisted.net.admin.other_nodes import ARRIVED, OUT_OF_REACH
from pico_twisted.net.admin.passes import NodePasses
from pico_twisted.net.admin.shapes import AGENTS_PATH, Agents, ShapeError, read
from pico_twisted.net.admin.status import INodeStatus
from pico_twisted.net.tls.fetch import CANNOT_REACH, AnswerTooLargeError, Fetched, Fetcher, why_unreachable

TIMEOUT_S: Final = 3.0
"""Seconds from the question to the last byte of a node's answer: several such fit into what picoctl waits."""
MOST_SESSIONS: Final = 5000
"""Most sessions that are told of all nodes together."""
AT_ONCE: Final = 16
"""Most nodes that are asked at the same time."""


class ClusterAgents:
    """Asks the nodes for their agents.

    Args:
        status: of this node; knows the others.
        fetcher: asks them.
        passes: what they are shown.
        sockets: paths of Unix sockets of the other workers of this host, by node ID.
    """

    def __init__(self, status: INodeStatus, fetcher: Fetcher, passes: NodePasses, sockets: Mapping[str, str]) -> None:
        self._status = status
        self._fetcher = fetcher
        self._passes = passes
        self._sockets = sockets

    async def all(self, endpoint: str, operator: Operator) -> Agents:
        """The sessions of agents at all nodes that are there.

        Args:
            endpoint: only those that serve it; all of them when empty.
            operator: who wants to know.
        """
        own = self._status.agents(endpoint)
        sessions, more = list(own.sessions), own.more
        unanswered: dict[str, str] = {}
        ids = [row.id for row in self._status.nodes() if row.id != self._status.node_id and _is_there(row.status)]
        if endpoint:
            holders = self._status.cluster_endpoints().get(endpoint, {})
            ids = [id for id in ids if id in holders]
        limit = DeferredSemaphore(AT_ONCE)
        asked = await DeferredList([limit.run(self._ask, id, endpoint, operator) for id in ids], consumeErrors=True)
        for id, (success, outcome) in zip(ids, asked, strict=True):
            if success and isinstance(outcome, Agents):
                room = max(0, MOST_SESSIONS - len(sessions))
                sessions += outcome.sessions[:room]
                more += outcome.more + len(outcome.sessions[room:])
            else:
                unanswered[id] = outcome if isinstance(outcome, str) else "internal error"
        return Agents(sessions=tuple(sessions), more=more, unanswered=unanswered)

    def _ask(self, id: str, endpoint: str, operator: Operator) -> Deferred[Agents | str]:
        """One node's sessions, or why there are none. Never fails."""
        beside = self._sockets.get(id, "")
        base = "http://node" if beside else self._status.admin_url(id)
        if base is None:
            return defer.succeed(OUT_OF_REACH)
        marks = [] if beside else [f"forward={quote(id, safe='')}", ARRIVED]
        query = "&".join([*marks, *([f"endpoint={quote(endpoint, safe='')}"] if endpoint else [])])
        url = f"{base}{AGENTS_PATH}{'?' + query if query else ''}"
        shown = {} if beside else self._passes.fields(operator, id, url)
        asking = self._fetcher.fetch(url, beside, TIMEOUT_S, shown)
        return asking.addCallbacks(lambda answer: self._passes.why_refused(operator, answer) or _read(answer), _why)


def _is_there(status: str) -> bool:
    return status in (ACTIVE, DRAINING)


def _read(answer: Fetched) -> Agents | str:
    if answer.status == 404:
        return "it is of an earlier version, which does not tell its agents"
    if answer.status != 200:
        return f"it answers with {answer.status}"
    try:
        return read(json.loads(answer.body), Agents)
    except (ValueError, RecursionError, ShapeError):
        return "its answer is none"


def _why(failure: Failure) -> str:
    if failure.check(defer.TimeoutError):
        return f"no answer within {TIMEOUT_S:g} s"
    if failure.check(AnswerTooLargeError):
        return "its answer is too large"
    if failure.check(*CANNOT_REACH):
        return f"cannot be reached: {why_unreachable(failure)}"
    return "internal error"
