"""The routes by which somebody looks at what goes on: events, requests that are over, and how busy nodes are.

Each is there for one node and for all of them; the shape is the same. On a port that several workers share, the route
for one node answers for all of its host. A node that is asked for all asks the others when somebody looks; what gave no
answer is named, and stands in nobody's way.
"""

from __future__ import annotations

import json
import math
import time
from collections.abc import Callable, Collection, Mapping, Sequence
from http import HTTPStatus
from typing import Final, Generic, TypeVar

import attrs
from twisted.internet.defer import Deferred
from zope.interface import implementer

from pico_twisted.core.secret_names import hide_query_secrets
from pico_twisted.net.admin.answers import JSON, answer, fail
from pico_twisted.net.admin.asking_nodes import AskingNodes
from pico_twisted.net.admin.routes import IRouteGroup, Routes
from pico_twisted.net.admin.shapes.events import CLUSTER_EVENTS_PATH, EVENTS_PATH, EventReach, EventRow, Events
from pico_twisted.net.admin.shapes.reading import to_json
from pico_twisted.net.admin.shapes.requests import (
    CLUSTER_REQUESTS_PATH,
    REQUESTS_PATH,
    RequestReach,
    RequestRow,
    Requests,
)
from pico_twisted.net.admin.shapes.summary import CLUSTER_SUMMARY_PATH, SUMMARY_PATH, NodeSummary, Summary
from pico_twisted.net.admin.site import AdminRequest
from pico_twisted.net.observe.events import EventMemory, Happened
from pico_twisted.net.observe.requests import FinishedRequest, RequestWatch

MOST_ROWS: Final = 1000
"""Most rows of one answer."""
ROWS: Final = 200
"""Rows of one answer unless the question says how many."""

USAGE: Final = (
    "the query may have since=<seconds since 1970>, endpoint=<ID>, agent=<ID>, id=<request ID>, failed=1, "
    f"limit=<1 to {MOST_ROWS}>"
)
"""What is answered to a query that means nothing."""

T = TypeVar("T", Events, Requests)
S = TypeVar("S", Events, Requests, Summary)
Told = bytes | Deferred[bytes]


@attrs.frozen(kw_only=True)
class Question:
    """What somebody wants to see.

    Attributes:
        since_s: nothing older, in seconds since 1970.
        endpoint, agent, id: only what is about that endpoint, agent or request; empty for all.
        failed: only requests that failed, or were refused.
        limit: most rows.
    """

    since_s: float = 0.0
    endpoint: str = ""
    agent: str = ""
    id: str = ""
    failed: bool = False
    limit: int = ROWS

    @classmethod
    def read(cls, args: Mapping[bytes, Sequence[bytes]]) -> Question:
        """Read a query. What is not known is ignored. Raises ValueError: it cannot be understood."""
        given = {name.decode("latin-1"): value.decode("utf-8") for name, (value, *_) in args.items()}
        since_s, limit = float(given.get("since") or 0), int(given.get("limit") or ROWS)
        if not (math.isfinite(since_s) and 1 <= limit <= MOST_ROWS):
            raise ValueError
        return cls(
            since_s=since_s,
            endpoint=given.get("endpoint", "").lower(),
            agent=given.get("agent", ""),
            id=given.get("id", ""),
            failed=given.get("failed", "0") not in ("", "0"),
            limit=limit,
        )

    def query(self) -> dict[str, str]:
        """The same as the query of a question to another node."""
        return {
            "since": repr(self.since_s) if self.since_s else "",
            "endpoint": self.endpoint,
            "agent": self.agent,
            "id": self.id,
            "failed": "1" if self.failed else "",
            "limit": str(self.limit),
        }

    def about(self, request: FinishedRequest) -> bool:
        """Whether a request is wanted."""
        told = request.told
        return (
            request.at_s >= self.since_s
            and (not self.endpoint or told["endpoint"] == self.endpoint)
            and (not self.agent or told["upstream"] == self.agent)
            and (not self.id or told["request_id"] == self.id)
            and (not self.failed or request.failed or request.refused)
        )


@attrs.frozen(kw_only=True, eq=False)
class Memory:
    """What a process remembers, and tells.

    Attributes:
        id: of the node or the agent.
        requests: that are over.
        events: what happened.
        wall: seconds since 1970.
    """

    id: str
    requests: RequestWatch
    events: EventMemory
    wall: Callable[[], float] = time.time

    def requests_for(self, question: Question) -> Requests:
        """The requests that somebody asks for."""
        watch = self.requests
        watch.looked()
        found = [request for request in watch.remembered() if question.about(request)]
        reach = RequestReach(now_s=self.wall(), failed_since_s=watch.failed_since_s, all_since_s=watch.all_since_s)
        newest = found[-question.limit :]
        rows = tuple(self._request(request) for request in newest)
        return Requests(rows=rows, more=len(found) - len(rows), reach={self.id: reach})

    def events_for(self, question: Question) -> Events:
        """The events that somebody asks for."""
        memory = self.events
        found = [event for event in memory.remembered() if event.at_s >= question.since_s]
        rows = tuple(self._event(event) for event in found[-question.limit :])
        reach = EventReach(now_s=self.wall(), since_s=memory.since_s)
        return Events(rows=rows, more=len(found) - len(rows), reach={self.id: reach})

    def _request(self, request: FinishedRequest) -> RequestRow:
        told = request.told
        first_byte_s = told["first_byte_s"]
        return RequestRow(
            node=self.id,
            port=request.port,
            at_s=round(request.at_s, 3),
            seq=request.seq,
            request_id=told["request_id"],
            client=told["client"],
            method=told["method"].decode("ascii", "backslashreplace"),
            target=hide_query_secrets(told["target"].decode("ascii", "backslashreplace")),
            endpoint=told["endpoint"],
            upstream=told["upstream"],
            sent_to_node=request.over_link and request.port != "link",
            hop=request.hop,
            status=told["status"],
            error=told["error"],
            bytes_in=told["bytes_in"],
            bytes_out=told["bytes_out"],
            first_byte_s=None if first_byte_s is None else round(first_byte_s, 6),
            duration_s=round(told["duration_s"], 6),
            protocol=told["protocol"],
            subject=told["subject"],
        )

    def _event(self, event: Happened) -> EventRow:
        return EventRow(
            node=self.id,
            at_s=round(event.at_s, 3),
            seq=event.seq,
            level=event.level,
            subsystem=event.subsystem,
            message=event.message,
            fields=event.fields,
        )


@attrs.frozen(kw_only=True, eq=False)
class Watched:
    """What a node tells besides what it remembers.

    Attributes:
        summary: how busy it is.
        asking: asks the other nodes.
    """

    summary: Callable[[], NodeSummary]
    asking: AskingNodes


@implementer(IRouteGroup)
class WatchingRoutes:
    """See above.

    Args:
        memory: of this process.
        node: of which it is; None for an agent, which tells what it remembers and no more.
    """

    def __init__(self, memory: Memory, node: Watched | None = None) -> None:
        self._memory = memory
        self._node = node

    def routes(self) -> Routes:
        """See `IRouteGroup`."""
        own = {
            EVENTS_PATH: ("what happened lately; since=<seconds since 1970>, limit=<rows>", self._events),
            REQUESTS_PATH: (f"requests that are over; {USAGE}", self._requests),
        }
        if self._node is None:
            return own
        return {
            **own,
            CLUSTER_EVENTS_PATH: ("the same events of all nodes", self._all_events),
            CLUSTER_REQUESTS_PATH: ("the same requests of all nodes", self._all_requests),
            SUMMARY_PATH: ("how busy this node is", self._summary),
            CLUSTER_SUMMARY_PATH: ("how busy all nodes are", self._all_summaries),
        }

    def changes(self) -> Routes:
        """See `IRouteGroup`."""
        return {}

    def _events(self, request: AdminRequest) -> Told:
        return self._remembered(request, EVENTS_PATH, Events, self._memory.events_for, self._host(request))

    def _all_events(self, request: AdminRequest) -> Told:
        return self._remembered(request, EVENTS_PATH, Events, self._memory.events_for, self._others())

    def _requests(self, request: AdminRequest) -> Told:
        return self._remembered(request, REQUESTS_PATH, Requests, self._memory.requests_for, self._host(request))

    def _all_requests(self, request: AdminRequest) -> Told:
        return self._remembered(request, REQUESTS_PATH, Requests, self._memory.requests_for, self._others())

    def _summary(self, request: AdminRequest) -> Told:
        return self._busy(request, self._host(request))

    def _all_summaries(self, request: AdminRequest) -> Told:
        return self._busy(request, self._others())

    def _host(self, request: AdminRequest) -> Collection[str]:
        """Who else this port answers for: nobody, where the request names a node."""
        return () if self._node is None or b"forward" in (request.args or {}) else self._node.asking.beside()

    def _others(self) -> Collection[str]:
        """All other nodes."""
        return () if self._node is None else self._node.asking.others()

    def _remembered(
        self,
        request: AdminRequest,
        path: str,
        kind: type[T],
        own: Callable[[Question], T],
        others: Collection[str],
    ) -> Told:
        try:
            question = Question.read(request.args or {})
        except ValueError:
            return fail(request, HTTPStatus.BAD_REQUEST, USAGE)
        telling = _Telling(
            path=path,
            query=question.query(),
            kind=kind,
            own=own(question),
            merge=lambda told, unanswered: merged(told, question.limit, unanswered),
        )
        return self._tell(request, telling, others)

    def _busy(self, request: AdminRequest, others: Collection[str]) -> Told:
        assert self._node is not None  # or there was no such route
        self._memory.requests.looked()

        def all_of(told: Sequence[Summary], unanswered: Mapping[str, str]) -> Summary:
            return Summary(nodes=[node for one in told for node in one.nodes], unanswered=unanswered)

        own = Summary(nodes=(self._node.summary(),))
        return self._tell(request, _Telling(path=SUMMARY_PATH, kind=Summary, own=own, merge=all_of), others)

    def _tell(self, request: AdminRequest, telling: _Telling[S], others: Collection[str]) -> Told:
        """Answer for this node and others."""
        if self._node is None or not others:
            return _told(request, telling.own)
        asking = self._node.asking.ask(others, telling.path, telling.query, telling.kind, request.operator)

        def tell(answered: tuple[dict[str, S], dict[str, str]]) -> bytes:
            told = [telling.own]
            told += [answered[0][id] for id in sorted(answered[0])]
            return _told(request, telling.merge(told, answered[1]))

        return Deferred.fromCoroutine(asking).addCallback(tell)


@attrs.frozen(kw_only=True)
class _Telling(Generic[S]):
    """What a node tells, perhaps with others.

    Attributes:
        path, query: of the question to the others.
        kind: the shape of an answer.
        own: that of this node.
        merge: makes one of all, and of why others gave none.
    """

    path: str
    query: Mapping[str, str] = attrs.field(factory=dict)
    kind: type[S]
    own: S
    merge: Callable[[Sequence[S], Mapping[str, str]], S]


def _told(request: AdminRequest, shape: Events | Requests | Summary) -> bytes:
    """Answer in as few bytes as can be: to set a thousand rows for people takes four times as long, and they are asked
    for again and again."""
    return answer(request, json.dumps(to_json(shape)).encode("ascii") + b"\n", JSON)


def merged(told: Sequence[T], limit: int, unanswered: Mapping[str, str]) -> T:
    """What several nodes remember, as one: the newest rows of all.

    Args:
        told: by each of them; all are of one kind.
        limit: most rows.
        unanswered: why others told nothing, by node ID.
    """
    rows = sorted((row for one in told for row in one.rows), key=lambda row: (row.at_s, row.node, row.seq))
    return type(told[0])(
        rows=rows[-limit:],
        more=sum(one.more for one in told) + max(0, len(rows) - limit),
        reach={id: reach for one in told for id, reach in one.reach.items()},
        unanswered=unanswered,
    )
