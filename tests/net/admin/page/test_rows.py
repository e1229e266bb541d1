"""The rows of the page's tables, and what a node tells others of itself for theirs."""

from __future__ import annotations

import attrs

from pico_twisted.net.admin.page.own_news import OwnNews
from pico_twisted.net.admin.page.rows import node_rows, rate_rows, session_rows
from pico_twisted.net.admin.shapes.agents import Agents
from pico_twisted.net.admin.shapes.reading import read, to_json
from pico_twisted.net.admin.shapes.summary import EndpointSummary, LimitUse, NodeSummary
from pico_twisted.net.admin.watching import Memory
from pico_twisted.net.observe.access_log import LoggedRequest
from pico_twisted.net.observe.events import EventMemory
from pico_twisted.net.observe.requests import RequestWatch
from tests.net.admin.admin_fakes import Status, session
from tests.net.admin.page.page_fakes import AT_S, summary


def test_a_node_that_an_operator_took_out_says_how() -> None:
    """Its status is `draining` for other nodes; the page says which of the two it is, and a stop is neither."""
    row = Status().detail.row()
    out = [attrs.evolve(row, status="draining", intake=intake) for intake in ("cordoned", "drained", "")]
    states = [node_rows([one], {}, {})[row.id]["state"] for one in (row, *out)]
    assert states == ["active", "cordoned", "drained", "draining"]


def test_a_node_that_tells_nothing_has_its_place_and_a_reason() -> None:
    """What gossip knows of it is shown, and no figure."""
    rows = node_rows([Status("n2").detail.row()], {}, {"n2": "no answer within 3 s"})
    assert rows["n2"]["why"] == "no answer within 3 s" and rows["n2"]["proxy_addr"]
    assert "cpu" not in rows["n2"] and "id" not in rows["n2"] and "status" not in rows["n2"]


def test_figures_have_as_many_digits_as_are_read() -> None:
    """More of them would change with every look, and be told each time."""
    told = summary(requests_per_s=123.45678, p99_s=0.0123456, endpoints={})
    row = node_rows([Status().detail.row()], {"n1": told}, {})["n1"]
    assert (row["requests_per_s"], row["p99_s"]) == (123.5, 0.01235)


def test_limits_that_are_near_are_told() -> None:
    """With what is used and what is allowed; there is none of a node that does not know of it."""
    told = summary(near_limits={"sessions": LimitUse(used=4, most=5)})
    row = node_rows([Status().detail.row()], {"n1": told}, {})["n1"]
    assert row["near_limits"] == {"sessions": {"used": 4, "most": 5}}
    before = to_json(summary())
    del before["near_limits"]
    assert read(before, NodeSummary).near_limits == {}


def test_endpoints_that_nobody_asks_for_are_left_out() -> None:
    """Of many endpoints most are idle; the page takes what is not told for nothing."""
    busy, waiting = EndpointSummary(requests_per_s=1.0), EndpointSummary(in_flight=1)
    told = summary(endpoints={"busy": busy, "waiting": waiting, "idle": EndpointSummary()})
    assert set(rate_rows({"n1": told})) == {"n1 busy", "n1 waiting"}


def test_sessions_have_a_key_each_and_one_beginning() -> None:
    """Two of one agent for one endpoint are two; since when they last is the same whenever it is reckoned."""
    two = Agents(sessions=(session("n1", "agent-1", "web"),) * 2)
    rows = session_rows(two, AT_S, {})
    assert set(rows) == {"agent-1 n1 web", "agent-1 n1 web 2"}
    older = Agents(sessions=tuple(attrs.evolve(one, since_s=one.since_s + 2.0) for one in two.sessions))
    assert session_rows(older, AT_S + 2.9, rows) == rows


def test_a_service_that_is_out() -> None:
    """Since when is the same whenever it is reckoned, and it is told when that is over."""
    out = Agents(sessions=(attrs.evolve(session("n1", "agent-1", "web"), out_for_s=7.0),))
    rows = session_rows(out, AT_S, {})
    (row,) = rows.values()
    assert row["out_since_s"] == round(AT_S - 7.0)
    later = Agents(sessions=tuple(attrs.evolve(one, since_s=one.since_s + 2.0, out_for_s=9.4) for one in out.sessions))
    assert session_rows(later, AT_S + 2.0, rows) == rows
    (back,) = session_rows(Agents(sessions=(session("n1", "agent-1", "web"),)), AT_S, rows).values()
    assert back["out_since_s"] is None


def test_own_news() -> None:
    """Failures of clients' requests since a time; what comes over a link is told by the node that the client asked."""
    now = [AT_S]
    watch = RequestWatch(None, "proxy", lambda: now[0], lambda: now[0])
    memory = Memory(id="n1", requests=watch, events=EventMemory(lambda: now[0]), wall=lambda: now[0])
    news = OwnNews(status=Status(), memory=memory, summary=summary)
    told = LoggedRequest(
        client="192.0.2.1",
        proxies=b"",
        method=b"GET",
        target=b"/",
        endpoint="web",
        upstream="",
        status=502,
        bytes_in=0,
        bytes_out=0,
        first_byte_s=None,
        duration_s=0.1,
        request_id="lost",
        error="no-upstreams",
        protocol="HTTP/1.1",
        fields={},
        subject="",
    )
    watch.request(False, told)
    watch.link_request(
        node_id="n2",
        method=b"GET",
        target=b"/",
        endpoint="web",
        upstream="",
        over_link=False,
        status=502,
        duration_s=0.1,
        request_id="of another",
        error="no-upstreams",
    )
    assert not watch.wants_all
    found = news(0.0, False)
    assert [row.request_id for row in found.failures] == ["lost"] and found.agents is None
    assert watch.wants_all  # so that the next look has figures of endpoints
    assert news(AT_S + 1, True).failures == ()
    assert news(AT_S + 1, True).agents is not None
