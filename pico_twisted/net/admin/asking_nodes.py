"""One question to many nodes: what only each node itself knows, asked of their admin ports when somebody looks.

Gossip tells which node holds which endpoint, and no more: the rest would be much to tell all nodes for nobody's sake.
So the node that is asked asks the admin ports of the others. One that gives no answer is named with the reason, and the
others' answers stand.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from typing import Final, TypeVar
from urllib.parse import quote

from twisted.internet import defer
from twisted.internet.defer import Deferred, DeferredList, DeferredSemaphore
from twisted.python.failure import Failure

from pico_twisted.net.admin.operators import Operator
from pico_twisted.net.admin.other_nodes import ARRIVED, OUT_OF_REACH
from pico_twisted.net.admin.passes import NodePasses
from pico_twisted.net.admin.shapes.reading import ShapeError, read
from pico_twisted.net.admin.status import INodeStatus
from pico_twisted.net.tls.fetch import CANNOT_REACH, AnswerTooLargeError, Fetched, Fetcher, why_unreachable

TIMEOUT_S: Final = 3.0
"""Seconds from the question to the last byte of a node's answer: several such fit into what picoctl waits."""
AT_ONCE: Final = 16
"""Most nodes that are asked at the same time."""

T = TypeVar("T")


class AskingNodes:
    """Asks other nodes.

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

    def others(self) -> Sequence[str]:
        """The IDs of the other nodes that are there."""
        return self._status.nodes_there()

    def beside(self) -> list[str]:
        """The IDs of the other workers of this host."""
        return list(self._sockets)

    async def ask(
        self, ids: Iterable[str], path: str, query: Mapping[str, str], kind: type[T], operator: Operator
    ) -> tuple[dict[str, T], dict[str, str]]:
        """Ask each of these nodes for the same.

        Args:
            ids: of the nodes, none of which is this one.
            path: of a route for GET.
            query: of the question; what is empty is left out.
            kind: the shape of an answer.
            operator: who wants to know.

        Returns:
            The answers, and in words why others gave none; both by node ID.
        """
        ids = list(ids)
        limit = DeferredSemaphore(AT_ONCE)
        pairs = [f"{name}={quote(value, safe='')}" for name, value in query.items() if value]
        asking = [limit.run(self._ask, id, path, pairs, kind, operator) for id in ids]
        answers: dict[str, T] = {}
        unanswered: dict[str, str] = {}
        for id, (success, outcome) in zip(ids, await DeferredList(asking, consumeErrors=True), strict=True):
            if success and not isinstance(outcome, str):
                answers[id] = outcome
            else:
                unanswered[id] = outcome if isinstance(outcome, str) else "internal error"
        return answers, unanswered

    def _ask(self, id: str, path: str, pairs: list[str], kind: type[T], operator: Operator) -> Deferred[T | str]:
        """What one node says, or why it says nothing. Never fails."""
        beside = self._sockets.get(id, "")
        base = "http://node" if beside else self._status.admin_url(id)
        if base is None:
            return defer.succeed(OUT_OF_REACH)
        marks = [] if beside else [f"forward={quote(id, safe='')}", ARRIVED]
        query = "&".join([*marks, *pairs])
        url = f"{base}{path}{'?' + query if query else ''}"
        shown = {} if beside else self._passes.fields(operator, id, url)

        def readable(answer: Fetched) -> T | str:
            return self._passes.why_refused(operator, answer) or _read(answer, kind)

        return self._fetcher.fetch(url, beside, TIMEOUT_S, shown).addCallbacks(readable, _why)


def _read(answer: Fetched, kind: type[T]) -> T | str:
    if answer.status == 404:
        return "it is of an earlier version, which does not tell that"
    if answer.status != 200:
        return f"it answers with {answer.status}"
    try:
        return read(json.loads(answer.body), kind)
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
