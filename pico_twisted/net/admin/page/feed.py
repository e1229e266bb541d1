"""What the viewers of the page are told: every two seconds what has changed, put together once for all of them.

While nobody looks, nothing is asked and nothing is made. While somebody does, a step asks the other nodes for their
news, and a moment later tells what has come until then together with what this node knows; an answer that is late is
told with the next step, and a silent node keeps nobody waiting. Of many nodes only some are asked in each step, in
turn, so that what it costs does not grow with the cluster. Agents are many and change little: they are asked for when a
node's registrations have changed, and else now and then.
"""

from __future__ import annotations

import itertools
from collections import deque
from collections.abc import Callable, Iterable, Mapping
from typing import Final

from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.interfaces import IDelayedCall, IReactorTime
from twisted.logger import Logger
from twisted.python.failure import Failure

from pico_twisted.core.access.rules import Action
from pico_twisted.net.admin.asking_nodes import AskingNodes
from pico_twisted.net.admin.operators import Operator
from pico_twisted.net.admin.page.rows import at, node_rows, rate_rows, session_rows
from pico_twisted.net.admin.page.tables import Row, Table, Tables
from pico_twisted.net.admin.page.viewers import Viewer, event
from pico_twisted.net.admin.shapes.events import EventRow
from pico_twisted.net.admin.shapes.news import NEWS_PATH, NodeNews
from pico_twisted.net.admin.shapes.reading import to_json
from pico_twisted.net.admin.shapes.requests import RequestRow
from pico_twisted.net.admin.status import INodeStatus

log = Logger()

EVERY_S: Final = 2.0
"""Seconds from one step to the next."""
ANSWERS_S: Final = 0.3
"""Seconds of a step in which other nodes may answer, before it is told what there is."""
ASKED_AT_ONCE: Final = 10
"""Most other nodes that are asked in one step."""
AGENTS_EVERY: Final = 5
"""Each so many times that a node is asked, it is asked for its agents even if nothing has changed."""
KEPT: Final = 100
"""Most events, and most failures, that a new viewer is told."""

Mark = tuple[float, int]  # when the last one was, and its number
TellsNews = Callable[[float, bool], NodeNews]
"""What is new at this node since a time, in seconds since 1970; the second argument asks for the agents too."""


class _Known:
    """What is known of one node beside its place in the list of nodes."""

    def __init__(self) -> None:
        self.news: NodeNews | None = None
        self.why = ""
        self.sessions: Table = {}
        self.held: object = None
        self.asked = 0
        self.seen: dict[str, Mark] = {}

    def wants_agents(self, held: object) -> bool:
        """Whether to ask for the agents, now that the node has these registrations."""
        wanted = self.asked % AGENTS_EVERY == 0 or held != self.held
        self.held = held
        self.asked += 1
        return wanted

    @property
    def since_s(self) -> float:
        """Since when news are wanted."""
        return min((at_s for at_s, _ in self.seen.values()), default=0.0)

    def unseen(self, kind: str, rows: Iterable[EventRow | RequestRow]) -> list[Row]:
        """Those rows that have not been here before."""
        mark = self.seen.get(kind, (0.0, 0))
        new = [row for row in rows if (row.at_s, row.seq) > mark]
        if new:
            self.seen[kind] = (new[-1].at_s, new[-1].seq)
        return [to_json(row) for row in new]


class Feed:
    """Tells viewers.

    Args:
        status: of this node.
        own: tells what is new here.
        asking: asks the other nodes.
        authenticates: whether this port lets nobody look whom it does not know. Else other nodes are asked for nobody.
        clock: tells the time, and wakes.
        wall: seconds since 1970.
    """

    def __init__(
        self,
        status: INodeStatus,
        own: TellsNews,
        asking: AskingNodes,
        authenticates: Callable[[], bool],
        clock: IReactorTime,
        wall: Callable[[], float],
    ) -> None:
        self._status = status
        self._own = own
        self._asking = asking
        self._authenticates = authenticates
        self._clock = clock
        self._wall = wall
        self._viewers: dict[Viewer, None] = {}
        self._waking: IDelayedCall | None = None
        self._forget()

    def _forget(self) -> None:
        self._tables = Tables()
        self._known: dict[str, _Known] = {}
        self._questions: dict[str, Deferred[object]] = {}
        self._turn = itertools.count()
        self._events: deque[Row] = deque(maxlen=KEPT)
        self._failures: deque[Row] = deque(maxlen=KEPT)
        self._new_events: list[Row] = []
        self._new_failures: list[Row] = []
        self._held: Mapping[str, Mapping[str, int]] = {}
        self._told_at = 0.0

    def __len__(self) -> int:
        return len(self._viewers)

    def add(self, viewer: Viewer) -> None:
        """Tell one more."""
        self._viewers[viewer] = None
        if self._waking is None:
            self._ask()
        elif self._told_at:
            self._tell_whole(viewer)

    def remove(self, viewer: Viewer) -> None:
        """Tell one less. Idempotent."""
        self._viewers.pop(viewer, None)
        if not self._viewers and self._waking is not None:
            self._waking.cancel()
            self._waking = None
            questions = list(self._questions.values())
            self._forget()
            for question in questions:
                question.cancel()

    # One step

    def _ask(self) -> None:
        """Begin a step: ask other nodes."""
        self._waking = self._clock.callLater(ANSWERS_S, self._tell)
        self._held = self._status.cluster_endpoints()
        others = self._asking.others()
        self._known = {id: self._known.get(id) or _Known() for id in (self._status.node_id, *others)}
        first = next(self._turn) * ASKED_AT_ONCE if len(others) > ASKED_AT_ONCE else 0
        turns = [others[(first + at) % len(others)] for at in range(min(ASKED_AT_ONCE, len(others)))]
        for id in turns:
            if id not in self._questions:
                self._ask_one(id)

    def _ask_one(self, id: str) -> None:
        known = self._known[id]
        query = {"since": repr(known.since_s), "agents": "1" if known.wants_agents(self._held_by(id)) else ""}
        viewer = Operator(name="the live page", action=Action.ADMIN_READ if self._authenticates() else None)
        asked = Deferred.fromCoroutine(self._asking.ask([id], NEWS_PATH, query, NodeNews, viewer))
        question = self._questions[id] = asked.addCallback(lambda found: self._came(id, *found))

        def over(result: object) -> None:
            if self._questions.get(id) is question:
                del self._questions[id]
            if isinstance(result, Failure) and not result.check(CancelledError):
                log.failure("a node could not be asked for its news", result)

        question.addBoth(over)

    def _came(self, id: str, answers: Mapping[str, NodeNews], unanswered: Mapping[str, str]) -> None:
        known = self._known.get(id)
        if known is not None:
            known.why = unanswered.get(id, "")
            if known.why:
                known.news = None
            for news in answers.values():
                self._take(id, known, news)

    def _take(self, id: str, known: _Known, news: NodeNews) -> None:
        known.news = news
        if news.agents is not None:
            known.sessions = session_rows(news.agents, news.summary.at_s, known.sessions)
        self._new_events += known.unseen("events", news.events)
        self._new_failures += known.unseen("failures", news.failures)

    def _tell(self) -> None:
        """End a step: tell what is known by now."""
        self._waking = self._clock.callLater(EVERY_S - ANSWERS_S, self._ask)
        try:
            own_id = self._status.node_id
            own = self._known[own_id]
            self._take(own_id, own, self._own(own.since_s, own.wants_agents(self._held_by(own_id))))
            self._tell_all()
        except Exception:  # the page is no reason for the next step not to come
            log.failure("the live page could not be told")

    def _held_by(self, id: str) -> object:
        return {endpoint: held[id] for endpoint, held in self._held.items() if id in held}

    def _tell_all(self) -> None:
        self._told_at = self._wall()
        change = {"at_s": at(self._told_at), **self._tables.change(self._rows())}
        for name, new, kept in (
            ("events", self._new_events, self._events),
            ("failures", self._new_failures, self._failures),
        ):
            if new:
                new.sort(key=_moment)
                kept.extend(new)
                change[name] = new[-KEPT:]
        self._new_events, self._new_failures = [], []
        data = event("state", change)
        for viewer in list(self._viewers):
            if not viewer.is_admitted:
                viewer.end("you are no longer logged in")
            elif viewer.is_stuck:
                viewer.cut()
            elif not viewer.reads:
                viewer.knows = False
            elif viewer.knows:
                viewer.write(data)
            else:
                self._tell_whole(viewer)

    def _tell_whole(self, viewer: Viewer) -> None:
        kept = {"events": list(self._events), "failures": list(self._failures)}
        viewer.write(event("state", {"at_s": at(self._told_at), "whole": True, **self._tables.whole(), **kept}))
        viewer.knows = True

    def _rows(self) -> dict[str, Table]:
        summaries = {id: known.news.summary for id, known in self._known.items() if known.news is not None}
        whys = {id: known.why for id, known in self._known.items() if known.why}
        sessions: dict[str, Row] = {}
        for known in self._known.values():
            sessions.update(known.sessions)
        return {
            "nodes": node_rows(self._status.nodes(), summaries, whys),
            "rates": rate_rows(summaries),
            "held": dict(self._held),
            "sessions": sessions,
        }


def _moment(row: Row) -> tuple[float, int]:
    return row["at_s"], row["seq"]
