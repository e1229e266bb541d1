"""What the tests of the page stand on: news of nodes, nodes that are asked, and viewers."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from typing import Any

import attrs
from twisted.internet.defer import Deferred, succeed

from pico_twisted.net.admin.operators import Operator
from pico_twisted.net.admin.page.viewers import Viewer
from pico_twisted.net.admin.shapes.agents import Agents
from pico_twisted.net.admin.shapes.events import EventRow
from pico_twisted.net.admin.shapes.news import NodeNews
from pico_twisted.net.admin.shapes.requests import RequestRow
from pico_twisted.net.admin.shapes.summary import EndpointSummary, NodeSummary

AT_S = 1790000000.0


def summary(node: str = "n1", **more: Any) -> NodeSummary:
    """How a node is."""
    told: dict[str, Any] = {
        "id": node,
        "version": "0.1.0",
        "status": "active",
        "started_at_s": AT_S - 3600,
        "at_s": AT_S,
        "requests_per_s": 20.0,
        "failed_per_s": 0.0,
        "p50_s": 0.003,
        "p99_s": 0.043,
        "in_flight": 1,
        "connections": 3,
        "sessions": 2,
        "bytes_in_per_s": 100.0,
        "bytes_out_per_s": 1000.0,
        "cpu": 0.125,
        "memory_bytes": 80_000_000,
        "lag_p99_s": 0.001,
        "certificates": {"proxy": AT_S + 86400},
        "endpoints": {"web": EndpointSummary(requests_per_s=20.0, failed_per_s=0.0, p99_s=0.043, in_flight=1)},
        "cordoned": False,
    }
    return NodeSummary(**{**told, **more})


def event_row(node: str, seq: int, **more: Any) -> EventRow:
    """Something that happened."""
    told = {"node": node, "at_s": AT_S + seq, "seq": seq, "level": "info", "subsystem": "cluster", "fields": {}}
    return EventRow(**{**told, "message": f"event {seq}", **more})


def request_row(node: str, seq: int, **more: Any) -> RequestRow:
    """A request that failed."""
    told: dict[str, Any] = {
        "node": node,
        "at_s": AT_S + seq,
        "seq": seq,
        "request_id": f"request-{seq}",
        "client": "203.0.113.9",
        "method": "GET",
        "target": "/",
        "endpoint": "web",
        "upstream": "agent-1",
        "hop": "service",
        "status": 502,
        "error": "service-unreachable",
        "bytes_in": 0,
        "bytes_out": 10,
        "first_byte_s": 0.01,
        "duration_s": 0.02,
        "protocol": "HTTP/1.1",
        "subject": "",
    }
    return RequestRow(**{**told, **more})


class Own:
    """What is new at this node.

    Attributes:
        news: that.
        asked: with what it was asked for.
    """

    def __init__(self, news: NodeNews | None = None) -> None:
        self.news = news or NodeNews(summary=summary())
        self.agents = Agents()
        self.asked: list[tuple[float, bool]] = []

    def __call__(self, since_s: float, agents: bool) -> NodeNews:
        self.asked.append((since_s, agents))
        return attrs.evolve(self.news, agents=self.agents if agents else None)


class Nodes:
    """Other nodes, in the place of `AskingNodes`.

    Args:
        ids: of them.

    Attributes:
        news: what each answers; a text is the reason why it does not; None keeps the question waiting.
        asked: IDs and queries, as they came.
        waiting: questions without an answer.
    """

    def __init__(self, ids: Iterable[str] = ()) -> None:
        self.news: dict[str, NodeNews | str | None] = {id: NodeNews(summary=summary(id)) for id in ids}
        self.asked: list[tuple[str, Mapping[str, str]]] = []
        self.operators: list[Operator] = []
        self.waiting: list[Deferred[None]] = []

    def others(self) -> list[str]:
        """See `AskingNodes`."""
        return list(self.news)

    async def ask(
        self, ids: Iterable[str], path: str, query: Mapping[str, str], kind: type[NodeNews], operator: Operator
    ) -> tuple[dict[str, NodeNews], dict[str, str]]:
        """See `AskingNodes`."""
        (id,) = ids
        self.asked.append((id, dict(query)))
        self.operators.append(operator)
        if self.news[id] is None:
            self.waiting.append(Deferred())
            await self.waiting[-1]
        else:
            await succeed(None)
        said = self.news[id]
        return ({}, {id: said}) if isinstance(said, str) else ({id: said} if said else {}, {})


class _Transport:
    aborted = False

    def abortConnection(self) -> None:
        self.aborted = True


class _Channel:
    def __init__(self) -> None:
        self.transport = _Transport()


class Asked:
    """A viewer's request, as far as a `Viewer` needs one.

    Attributes:
        admitted: whether they may look.
    """

    def __init__(self) -> None:
        self.channel = _Channel()
        self.admitted = True
        self.producer: object = None
        self.written = b""

    def registerProducer(self, producer: object, streaming: bool) -> None:
        assert streaming
        self.producer = producer

    def unregisterProducer(self) -> None:
        self.producer = None

    def stays(self) -> bool:
        """See `AdminRequest`."""
        return self.admitted

    def write(self, data: bytes) -> None:
        self.written += data

    def told(self) -> list[tuple[str, Any]]:
        """The events that were written since this was called last."""
        blocks, self.written = self.written.decode().split("\n\n"), b""
        assert blocks.pop() == ""
        pairs = [block.split("\n") for block in blocks]
        return [(name.removeprefix("event: "), json.loads(data.removeprefix("data: "))) for name, data in pairs]


def viewer(now: Any) -> tuple[Viewer, Asked]:
    """Somebody who looks, and their request."""
    asked = Asked()
    return Viewer(asked, now), asked  # type: ignore[arg-type]
