"""`picoctl events`, `tail`, `who`, `top`: times that people give, what is new, and what is shown."""

from __future__ import annotations

import json
import signal
from collections.abc import Iterator, Sequence
from datetime import datetime, timedelta, timezone
from typing import Any
from urllib.parse import parse_qs, urlsplit

import attrs
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pico_twisted.ctl.watch.follow import Newness
from pico_twisted.ctl.watch.frame import ORDERS, Seen, frame
from pico_twisted.ctl.watch.lines import event_line, request_line
from pico_twisted.ctl.watch.since import since
from pico_twisted.net.admin.shapes.agents import Agents, AgentSession
from pico_twisted.net.admin.shapes.events import EventReach, EventRow, Events
from pico_twisted.net.admin.shapes.reading import to_json
from pico_twisted.net.admin.shapes.requests import RequestReach, RequestRow, Requests
from pico_twisted.net.admin.shapes.summary import EndpointSummary, LimitUse, NodeSummary, Summary
from tests.ctl.harness import PROGRAM, environment, http_answer, picoctl, serving
from tests.peers.pipe import Pipe
from tests.system.terminal import Terminal
from tools.stage.waiting import wait_until

NOW = datetime(2026, 11, 29, 15, 30, tzinfo=timezone(timedelta(hours=1)))
AT_S = 1_795_971_623.0
FAILED = RequestRow(
    node="n1",
    at_s=AT_S,
    seq=1,
    request_id="r-1",
    client="203.0.113.9",
    method="POST",
    target="/hooks",
    endpoint="shop",
    hop="service",
    status=502,
    error="service-unreachable",
)
PROXY = attrs.evolve(FAILED, upstream="n2", sent_to_node=True, first_byte_s=0.012, duration_s=0.0125)
LINK = attrs.evolve(FAILED, node="n2", port="link", seq=9, client="n1", upstream="agent-7", duration_s=0.003)
AGENT = attrs.evolve(FAILED, node="agent-7", port="tunnel", seq=3, upstream="localhost:3000")
REACH = {"n1": RequestReach(now_s=AT_S, failed_since_s=AT_S - 600), "n2": RequestReach(now_s=AT_S, failed_since_s=AT_S)}


class Told:
    """An admin port that tells these things, by the path of its route.

    Attributes:
        asked: the queries so far, by path.
    """

    def __init__(self, **answers: object) -> None:
        self._answers = {f"/status/{name.replace('_', '/')}": to_json(value) for name, value in answers.items()}
        self.asked: dict[str, list[dict[str, list[str]]]] = {}

    def __call__(self, connection: Pipe, head: bytes) -> None:
        where = urlsplit(head.split(b" ")[1].decode())
        self.asked.setdefault(where.path, []).append(parse_qs(where.query))
        found = self._answers.get(where.path)
        status = "200 OK" if found is not None else "404 Not Found"
        connection.send(http_answer(json.dumps(found if found is not None else {"error": "no"}).encode(), status))


class TestSince:
    """Times that people give."""

    @pytest.mark.parametrize(
        ("text", "expected"),
        [
            ("3:02", "2026-11-29T03:02:00+01:00"),
            ("15:29:59", "2026-11-29T15:29:59+01:00"),
            ("16:00", "2026-11-28T16:00:00+01:00"),
            ("10m", "2026-11-29T15:20:00+01:00"),
            ("2d", "2026-11-27T15:30:00+01:00"),
            ("2026-11-29T03:02:00Z", "2026-11-29T03:02:00+00:00"),
            ("2026-11-29T03:02", "2026-11-29T03:02:00+01:00"),
        ],
    )
    def test_what_is_meant(self, text: str, expected: str) -> None:
        """A time of day is the last one there was, in the zone of the terminal."""
        assert since(text, NOW) == datetime.fromisoformat(expected).timestamp()

    @pytest.mark.parametrize("text", ["", "yesterday", "25:00", "3:99", "10", "-5m", "10y", "9999999d"])
    def test_nonsense(self, text: str) -> None:
        """Is refused with examples, and status 2."""
        done = picoctl("events", "--since", text)
        assert done.returncode == 2
        assert "3:02" in done.stderr


def test_what_a_node_says_moves_no_cursor() -> None:
    """Of whatever part of a request: a terminal shows it, and does not do it."""
    names = ("node", "request_id", "client", "method", "target", "endpoint")
    said: dict[str, Any] = {name: f"{name}\x1b]0;x\x07\x9b2J" for name in names}
    row = RequestRow(at_s=AT_S, seq=1, status=502, hop="\x1b[31m", error="\x1b[41m", **said)
    assert request_line(row).isprintable()


class TestNewness:
    """What was not told before."""

    @given(
        st.lists(st.lists(st.tuples(st.sampled_from("ab"), st.integers(1, 40)), max_size=6), max_size=12),
        st.floats(-20, 20),
    )
    def test_each_row_once(self, turns: list[list[tuple[str, int]]], skew_s: float) -> None:
        """Whatever nodes tell again, and however far their clocks are apart: all rows are shown, none twice."""
        kept: list[EventRow] = []
        newness, shown, now_s = Newness(0.0), [], 1000.0
        for ended in turns:
            now_s += 1.0
            for node, _ in ended:
                at_s = now_s + (skew_s if node == "b" else 0.0)
                row = EventRow(node=node, at_s=at_s, seq=len(kept), level="info", subsystem="", message="")
                kept.append(row)
            told = [row for row in kept if row.at_s >= newness.since_s]
            shown += newness.of(told, [now_s, now_s + skew_s])
        assert shown == kept


class TestWho:
    """Which way a request went."""

    def test_each_hop(self) -> None:
        """From the client to where it failed, what that means, what to do, and whom to ask."""
        with serving(Told(cluster_requests=Requests(rows=(LINK, PROXY), reach=REACH))) as url:
            done = picoctl("who", "r-1", "--admin", url)
        assert done.returncode == 0
        lines = done.stdout.splitlines()
        assert lines[1].strip() == "client 203.0.113.9 -> node n1 (proxy port) -> node n2"
        assert lines[2].strip() == "502 service-unreachable after 12 ms, the answer began after 12 ms"
        assert lines[3].strip() == "node n1 -> node n2 (link) -> agent agent-7"
        assert "failed at the service: the agent could not connect to the service" in lines
        assert any(line.startswith("to do: ") for line in lines)
        assert "picoctl who r-1 --admin" in lines[-1]

    def test_an_agent_that_is_asked(self) -> None:
        """At its own admin port, which knows of no cluster."""
        with serving(Told(requests=Requests(rows=(AGENT,)))) as url:
            done = picoctl("who", "r-1", "--admin", url)
        assert done.returncode == 0
        assert "agent agent-7 -> service localhost:3000" in done.stdout
        assert "may know more" not in done.stdout

    def test_nobody_remembers(self) -> None:
        """Status 1, how far back nodes remember, and who was not asked."""
        told = Requests(reach=REACH, unanswered={"n3": "no answer within 3 s"})
        with serving(Told(cluster_requests=told)) as url:
            done = picoctl("who", "r-9", "--admin", url)
        assert done.returncode == 1
        assert "nobody remembers a request r-9" in done.stdout
        assert "n1 knows what failed since" in done.stdout
        assert "node n3 is missing: no answer within 3 s" in done.stdout

    def test_json(self) -> None:
        """As the route gives it."""
        with serving(Told(cluster_requests=Requests(rows=(PROXY,), reach=REACH))) as url:
            done = picoctl("who", "r-1", "--json", "--admin", url)
        assert json.loads(done.stdout)["rows"][0]["error"] == "service-unreachable"


EVENT = EventRow(
    node="n2",
    at_s=AT_S,
    seq=4,
    level="info",
    subsystem="routing.cluster_service",
    message="Endpoint shop registered by agent-7",
    fields={"peer": "10.1.2.3:4000", "endpoint": "shop", "subject": ""},
)


class TestEvents:
    """What happened."""

    def test_a_line(self) -> None:
        """When, where, what, and what the message does not say."""
        assert event_line(EVENT)[8:] == "  n2  Endpoint shop registered by agent-7  peer=10.1.2.3:4000"

    def test_a_refusal(self) -> None:
        """Says who wanted what."""
        fields: dict[str, str | int] = {"client": "10.1.2.3", "endpoint": "shop", "subject": "acme", "suppressed": 0}
        row = attrs.evolve(EVENT, level="warn", message="Refused at the upstream port: not-allowed", fields=fields)
        told = "Refused at the upstream port: not-allowed  client=10.1.2.3 endpoint=shop subject=acme"
        assert event_line(row)[8:] == f"  n2  warn: {told}"

    def test_since(self) -> None:
        """What is older is left out, and who remembers less is named."""
        told = Told(
            cluster_events=Events(rows=(EVENT,), reach={"n2": EventReach(now_s=AT_S, since_s=AT_S)}, unanswered={})
        )
        with serving(told) as url:
            done = picoctl("events", "--since", "2026-11-29T03:02:00Z", "--admin", url)
        assert done.returncode == 0
        assert "registered by agent-7" in done.stdout
        assert "node n2 remembers nothing before" in done.stdout
        assert told.asked["/status/cluster/events"] == [{"since": ["1795921320.0"], "limit": ["1000"]}]

    def test_strangers_words(self) -> None:
        """Nothing that a server says moves a cursor."""
        row = EventRow(node="n\x1b[2J", at_s=1e300, seq=1, level="info", subsystem="", message="\x1b]0;title\x07")
        assert event_line(row).isprintable()
        request = RequestRow(node="\x1b", at_s=float("nan"), seq=1, target="/\x1b[2J", client="\x1b", hop="client")
        assert request_line(request).isprintable()


def seen(endpoints: int = 30, nodes: int = 3) -> Seen:
    """A busy cluster with long names."""
    busy = {
        f"endpoint-with-a-long-name-{number}": EndpointSummary(
            requests_per_s=number, failed_per_s=30 - number, p99_s=number / 7, in_flight=number % 4
        )
        for number in range(endpoints)
    }
    told = tuple(
        NodeSummary(
            id=f"node-with-a-long-name-{number}",
            started_at_s=1.0,
            at_s=AT_S,
            requests_per_s=1234.5,
            cpu=0.123,
            memory_bytes=123_456_789,
            endpoints=busy,
        )
        for number in range(nodes)
    )
    sessions = tuple(
        AgentSession(agent="agent-7f3a0b", address="10.1.2.3:4000", node=node.id, endpoint=endpoint, since_s=1.0)
        for node in told
        for endpoint in busy
    )
    return Seen(
        summary=Summary(nodes=told, unanswered={"n9": "no answer within 3 s"}),
        agents=Agents(sessions=sessions),
        failures=Requests(rows=(PROXY, LINK)),
    )


class TestTop:
    """Frames of `picoctl top`."""

    @pytest.mark.parametrize(("columns", "lines"), [(60, 24), (80, 24), (200, 60), (60, 40)])
    def test_it_fits(self, columns: int, lines: int) -> None:
        """No line is wider than the terminal, no frame higher; what matters is there."""
        found = frame(seen(), "r", columns, lines)
        assert len(found) <= lines
        assert max(map(len, found)) <= columns
        text = "\n".join(found)
        for words in ("NODE ", "ENDPOINT", "AGENT ", "LAST FAILURES", "r-1", "q ends"):
            assert words in text

    def test_it_sorts(self) -> None:
        """By the key that was pressed."""

        def first(order: str) -> str:
            lines = frame(seen(), order, 200, 60)
            at = next(place for place, line in enumerate(lines) if line.startswith("ENDPOINT"))
            return lines[at + 1].split()[0].rpartition("-")[2]

        assert {order: first(order) for order in ORDERS} == {"r": "29", "f": "0", "p": "29", "i": "11", "n": "0"}

    def test_nothing_is_there(self) -> None:
        """A node alone with nothing to do."""
        empty = Seen(
            summary=Summary(nodes=(NodeSummary(id="n1", started_at_s=1.0, at_s=AT_S),)),
            agents=Agents(),
            failures=Requests(),
        )
        assert any(line.startswith("n1") for line in frame(empty, "r", 60, 24))

    def test_limits_that_are_near(self) -> None:
        """They stand first, the fullest in front, and no more than fit."""
        near = {f"limit-{most}": LimitUse(used=9, most=most) for most in (9, 10, 11, 12, 13)}
        node = NodeSummary(id="n1", started_at_s=1.0, at_s=AT_S, near_limits={**near, "odd": LimitUse(used=1, most=0)})
        found = frame(Seen(summary=Summary(nodes=(node,)), agents=Agents(), failures=Requests()), "r", 80, 24)
        assert found[1] == "! n1 uses 9 of 9 (limits.limit-9)"
        assert [line.startswith("! ") for line in found[:6]] == [False, True, True, True, True, False]

    def test_a_node_that_is_overloaded(self) -> None:
        """It stands in front of limits that are near."""
        near = {"sessions": LimitUse(used=9, most=9)}
        node = NodeSummary(id="n1", started_at_s=1.0, at_s=AT_S, refused_share=0.45, near_limits=near)
        found = frame(Seen(summary=Summary(nodes=(node,)), agents=Agents(), failures=Requests()), "r", 80, 24)
        assert found[1:3] == [
            "! n1 is overloaded, and refuses 45% of the new requests",
            "! n1 uses 9 of 9 (limits.sessions)",
        ]

    def test_without_a_terminal(self) -> None:
        """It is shown once; with --json as JSON."""
        node = NodeSummary(id="n1", started_at_s=1.0, at_s=AT_S, endpoints_over_s=9.0)
        told = Told(cluster_summary=Summary(nodes=(node,)), cluster_agents=Agents(), cluster_requests=Requests())
        with serving(told) as url:
            text = picoctl("top", "--admin", url)
            data = picoctl("top", "--json", "--admin", url)
        assert text.returncode == data.returncode == 0
        assert "n1" in text.stdout
        assert json.loads(data.stdout)["summary"]["nodes"][0]["id"] == "n1"


OPENS, CLOSES = "\x1b[?1049h", "\x1b[?1049l"


@pytest.fixture
def terminal() -> Iterator[Terminal]:
    """With `picoctl top` on it."""
    told = Told(cluster_summary=Summary(), cluster_agents=Agents(), cluster_requests=Requests())
    with serving(told) as url:
        made = Terminal([*PROGRAM, "top", "--admin", url], env=environment(TERM="xterm"))
        try:
            made.wait("q ends")
            assert not made.is_as_shells_want_it
            yield made
        finally:
            made.close()


@pytest.mark.processes
class TestTheTerminal:
    """Is as it was before, whatever becomes of `picoctl top`."""

    @pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP, signal.SIGQUIT])
    def test_a_signal_that_ends(self, terminal: Terminal, number: signal.Signals) -> None:
        """It does what it does to other programs, too."""
        terminal.process.send_signal(number)
        assert terminal.exit_status() == -number
        assert terminal.text.endswith(CLOSES) and terminal.is_as_shells_want_it

    @pytest.mark.parametrize("key", [b"q", b"\x03"])
    def test_a_key_that_ends(self, terminal: Terminal, key: bytes) -> None:
        """Also Ctrl-C is a way to end it."""
        terminal.press(key)
        assert terminal.exit_status() == 0
        assert terminal.text.endswith(CLOSES) and terminal.is_as_shells_want_it

    def test_ctrl_z(self, terminal: Terminal) -> None:
        """The shell gets its terminal; and top has it again when it goes on, as it does at once where no shell is."""
        terminal.press(b"\x1a")
        wait_until(lambda: terminal.text.count(OPENS) == 2, "the terminal to be taken again")
        assert terminal.text.count(CLOSES) == 1 and not terminal.is_as_shells_want_it
        terminal.press(b"q")
        assert terminal.exit_status() == 0
        assert terminal.text.count(CLOSES) == 2 and terminal.is_as_shells_want_it


def test_an_endpoint_that_is_slow() -> None:
    """`picoctl endpoint` tells its rates, how long its answers took to begin, and what failed last."""
    session = AgentSession(agent="agent-7", address="10.1.2.3:4", node="n1", endpoint="shop", since_s=9.0, rtt_s=0.008)
    busy = EndpointSummary(requests_per_s=120.0, first_byte_p50_s=0.4, p99_s=2.0, in_flight=4)
    node = NodeSummary(id="n1", started_at_s=1.0, at_s=AT_S, endpoints_over_s=9.0, endpoints={"shop": busy})
    told = Told(
        cluster_agents=Agents(sessions=(session,)),
        cluster_summary=Summary(nodes=(node,)),
        cluster_requests=Requests(rows=(PROXY, LINK)),
    )
    with serving(told) as url:
        text = picoctl("endpoint", "shop", "--admin", url, COLUMNS="200")
        data: dict[str, Any] = json.loads(picoctl("endpoint", "shop", "--json", "--admin", url).stdout)
    words: Sequence[str] = ("8.0 ms", "120.0", "400 ms", "2000 ms", "service-unreachable", "r-1")
    assert all(word in text.stdout for word in words), text.stdout
    assert text.stdout.count("r-1") == 1
    assert data["requests"]["n1"]["in_flight"] == 4
    assert [row["request_id"] for row in data["failures"]] == ["r-1"]
