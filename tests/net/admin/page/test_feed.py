"""What viewers of the live page are told, and what it costs to tell them."""

from __future__ import annotations

import math
from typing import Any

import attrs
import pytest
from twisted.internet.defer import Deferred
from twisted.internet.task import Clock

from pico_twisted.core.access.rules import Action
from pico_twisted.net.admin.page.feed import AGENTS_EVERY, ANSWERS_S, ASKED_AT_ONCE, EVERY_S, KEPT, Feed
from pico_twisted.net.admin.page.viewers import SLOW_S, Viewer
from pico_twisted.net.admin.shapes.agents import Agents
from pico_twisted.net.admin.shapes.news import NodeNews
from pico_twisted.net.admin.shapes.summary import EndpointSummary
from tests.conftest import LoggedFailures
from tests.net.admin.admin_fakes import Status, session
from tests.net.admin.page.page_fakes import AT_S, Asked, Nodes, Own, event_row, request_row, summary, viewer

TICK_S = 0.125


class Scene:
    """A feed of a node, n1, beside others."""

    def __init__(self, *others: str) -> None:
        self.clock = Clock()
        self.status = Status()
        self.own = Own()
        self.nodes = Nodes(others)
        self.authenticates = True
        self.feed = Feed(
            self.status,
            self.own,
            self.nodes,  # type: ignore[arg-type]
            lambda: self.authenticates,
            self.clock,
            lambda: AT_S + self.clock.seconds(),
        )

    def comes(self) -> tuple[Viewer, Asked]:
        """Another viewer."""
        one, asked = viewer(self.clock.seconds)
        self.feed.add(one)
        return one, asked

    def step(self) -> None:
        """The time until viewers are told again."""
        until_next = EVERY_S if self.clock.seconds() else ANSWERS_S
        self.clock.pump([TICK_S] * (math.ceil(until_next / TICK_S) + bool(self.clock.seconds())))


@pytest.fixture
def scene() -> Scene:
    return Scene("n2")


def test_nothing_is_done_while_nobody_looks(scene: Scene) -> None:
    """Without viewers nothing is asked and no timer runs, also behind the last one."""
    assert not scene.clock.getDelayedCalls()
    one, _ = scene.comes()
    scene.step()
    scene.feed.remove(one)
    scene.feed.remove(one)
    assert not scene.clock.getDelayedCalls()
    asked = len(scene.own.asked), len(scene.nodes.asked)
    scene.clock.advance(60)
    assert (len(scene.own.asked), len(scene.nodes.asked)) == asked


def test_all_viewers_are_told_from_one_account(scene: Scene) -> None:
    """However many look, nodes are asked once in each step; who comes later is told the whole at once."""
    _, first = scene.comes()
    _, second = scene.comes()
    scene.clock.advance(ANSWERS_S)
    ((name, whole),) = first.told()
    assert (name, whole["whole"]) == ("state", True)
    assert second.told() == [(name, whole)]
    assert set(whole["nodes"]) == {"n1"}  # the status of this test knows no other
    assert whole["nodes"]["n1"]["requests_per_s"] == 20.0
    assert whole["rates"]["n1 web"]["p99_s"] == 0.043
    assert whole["rates"]["n2 web"]["p99_s"] == 0.043
    assert whole["held"] == {"web": {"n1": 2}, "api": {"n1": 1}}
    _, third = scene.comes()
    assert third.told() == [(name, whole)]
    assert len(scene.own.asked) == len(scene.nodes.asked) == 1


def test_only_what_changes_is_told(scene: Scene) -> None:
    """Rows that are as before are not told again, those that left are named, and new ones come."""
    scene.own.agents = Agents(sessions=(session("n1", "agent-1", "web"), session("n1", "agent-2", "web")))
    _, asked = scene.comes()
    scene.step()
    assert set(asked.told()[0][1]["sessions"]) == {"agent-1 n1 web", "agent-2 n1 web"}
    scene.step()
    ((_, told),) = asked.told()
    assert set(told) == {"at_s"}
    scene.own.agents = Agents(sessions=(session("n1", "agent-2", "web"),))
    scene.status.detail = attrs.evolve(scene.status.detail, endpoints={"web": 1})
    scene.own.news = NodeNews(
        summary=summary(
            endpoints={"web": EndpointSummary(requests_per_s=21.0, failed_per_s=0.0, p99_s=None, in_flight=0)}
        )
    )
    scene.step()
    ((_, told),) = asked.told()
    assert told["gone"] == {"held": ["api"], "sessions": ["agent-1 n1 web"]}
    assert told["held"] == {"web": {"n1": 1}}
    assert set(told["rates"]) == {"n1 web"}
    assert "sessions" not in told


def test_events_and_failures_are_told_once(scene: Scene) -> None:
    """What happened is told in its order, once, whoever told it; a late viewer is told the last of it."""
    scene.own.news = NodeNews(summary=summary(), events=(event_row("n1", 1), event_row("n1", 3)))
    scene.nodes.news["n2"] = NodeNews(
        summary=summary("n2"), events=(event_row("n2", 2),), failures=(request_row("n2", 1),)
    )
    _, asked = scene.comes()
    scene.step()
    ((_, told),) = asked.told()
    assert [row["seq"] for row in told["events"]] == [1, 2, 3]
    assert [row["request_id"] for row in told["failures"]] == ["request-1"]
    assert told["failures"][0]["hop"] == "service"
    scene.step()
    ((_, told),) = asked.told()
    assert "events" not in told and "failures" not in told
    assert scene.own.asked[1][0] == AT_S + 3
    scene.own.news = NodeNews(summary=summary(), events=tuple(event_row("n1", seq) for seq in range(3, 3 + 2 * KEPT)))
    scene.step()
    ((_, told),) = asked.told()
    assert [row["seq"] for row in told["events"]] == list(range(3 + KEPT, 3 + 2 * KEPT))
    _, late = scene.comes()
    ((_, told),) = late.told()
    assert [row["seq"] for row in told["events"]] == list(range(3 + KEPT, 3 + 2 * KEPT))
    assert len(told["failures"]) == 1


def test_a_silent_node_keeps_nobody_waiting(scene: Scene) -> None:
    """What is known is told in time; the silent node is asked no second time meanwhile, and its late answer is told."""
    scene.nodes.news["n2"] = None
    _, asked = scene.comes()
    scene.step()
    assert "n2 web" not in asked.told()[0][1]["rates"]
    scene.step()
    assert len(scene.nodes.asked) == 1
    scene.nodes.news["n2"] = NodeNews(summary=summary("n2"))
    scene.nodes.waiting.pop().callback(None)
    asked.told()
    scene.step()
    assert "n2 web" in asked.told()[0][1]["rates"]


def test_a_question_that_waits_is_dropped_with_the_last_viewer(scene: Scene) -> None:
    """Whoever leaves last leaves nothing behind."""
    scene.nodes.news["n2"] = None
    one, _ = scene.comes()
    assert not scene.nodes.waiting[0].called
    scene.feed.remove(one)
    assert scene.nodes.waiting[0].called


def test_why_a_node_tells_nothing_is_told() -> None:
    """Its figures are gone, and the reason stands in its row."""
    scene = Scene("n2")
    scene.status.nodes = lambda: [attrs.evolve(Status("n2").detail.row(), link="open"), Status().detail.row()]  # type: ignore[method-assign]
    _, asked = scene.comes()
    scene.step()
    assert asked.told()[0][1]["nodes"]["n2"]["cpu"] == 0.125
    scene.nodes.news["n2"] = "no answer within 3 s"
    scene.step()
    ((_, told),) = asked.told()
    assert told["nodes"]["n2"]["why"] == "no answer within 3 s"
    assert "cpu" not in told["nodes"]["n2"]
    assert told["gone"] == {"rates": ["n2 web"]}


def test_other_nodes_are_asked_as_somebody_who_may_look(scene: Scene) -> None:
    """The question to others allows no more than each viewer may; of a port that knows nobody it allows nothing."""
    scene.comes()
    scene.step()
    scene.authenticates = False
    scene.step()
    assert [operator.action for operator in scene.nodes.operators] == [Action.ADMIN_READ, None]


def test_many_nodes_are_asked_in_turn() -> None:
    """In one step no more than some are asked, and all of them over several steps."""
    ids = [f"n{number}" for number in range(2, 27)]
    scene = Scene(*ids)
    scene.comes()
    assert len(scene.nodes.asked) == ASKED_AT_ONCE
    for _ in range(3):
        scene.step()
    assert len(scene.nodes.asked) == 3 * ASKED_AT_ONCE
    assert {id for id, _ in scene.nodes.asked} == set(ids)


def test_agents_are_asked_for_when_registrations_change(scene: Scene) -> None:
    """And now and then without that."""
    scene.comes()
    for _ in range(AGENTS_EVERY):
        scene.step()
    assert [agents for _, agents in scene.own.asked] == [True, *[False] * (AGENTS_EVERY - 1)]
    scene.step()
    assert scene.own.asked[-1][1]
    scene.status.detail = attrs.evolve(scene.status.detail, endpoints={"web": 3})
    scene.step()
    assert scene.own.asked[-1][1]


def test_a_viewer_who_does_not_read_is_not_written_to(scene: Scene) -> None:
    """What they have not read is not added to; when they read again they are told the whole, else cut."""
    one, asked = scene.comes()
    scene.step()
    asked.told()
    one.pauseProducing()
    scene.step()
    assert not asked.written
    one.resumeProducing()
    scene.step()
    assert asked.told()[0][1]["whole"]
    one.pauseProducing()
    scene.clock.pump([EVERY_S] * int(SLOW_S / EVERY_S + 1))
    assert not asked.written and asked.channel.transport.aborted


def test_who_may_no_longer_look_is_told_nothing_more(scene: Scene) -> None:
    """With the end of a login, a token or a right the stream ends at the next step, with a word about it."""
    one, asked = scene.comes()
    _, other = scene.comes()
    scene.step()
    asked.told()
    ended: list[Any] = []
    one.ended.addCallback(ended.append)
    one.ended.addCallback(lambda _: scene.feed.remove(one))
    asked.admitted = False
    scene.step()
    assert asked.told() == [("end", {"why": "you are no longer logged in"})]
    assert ended == [b""] and asked.producer is None
    other.told()
    scene.step()
    assert other.told() and not asked.written


def test_a_fault_is_logged_and_ends_nothing(scene: Scene, logged_failures: LoggedFailures) -> None:
    """The next step comes, whatever broke in this one."""
    _, asked = scene.comes()
    own, scene.feed._own = scene.feed._own, lambda since_s, agents: 1 / 0  # type: ignore[assignment, return-value]
    scene.step()
    assert not asked.written
    assert logged_failures.flush(ZeroDivisionError)
    scene.feed._own = own
    scene.step()
    assert asked.told()[0][1]["whole"]


def test_a_node_that_cannot_be_asked(scene: Scene, logged_failures: LoggedFailures) -> None:
    """Nor does a question that breaks."""
    scene.nodes.news["n2"] = None
    _, asked = scene.comes()
    waiting: Deferred[None] = scene.nodes.waiting.pop()
    waiting.errback(ZeroDivisionError())
    assert logged_failures.flush(ZeroDivisionError)
    scene.step()
    assert asked.told()
    scene.step()
    assert len(scene.nodes.asked) == 2
