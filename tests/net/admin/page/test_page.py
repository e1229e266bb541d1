"""The page and its stream at a real admin port: who gets what, and what a bad client can make it hold."""

from __future__ import annotations

import json
import re
import socket
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from twisted.internet.threads import deferToThread
from twisted.web.resource import IResource

from pico_twisted.core.access.subject import Reason
from pico_twisted.net.admin.app import AdminApp
from pico_twisted.net.admin.entrance import AdminAccess
from pico_twisted.net.admin.page.feed import Feed
from pico_twisted.net.admin.page.files import POLICY, PageFiles
from pico_twisted.net.admin.page.routes import LIVE_PATH, PageRoutes
from pico_twisted.net.admin.page.viewers import MOST_VIEWERS
from pico_twisted.net.admin.shapes.news import NEWS_PATH, NodeNews
from pico_twisted.net.admin.shapes.reading import read
from pico_twisted.net.observe.metrics import Metrics
from pico_twisted.net.tls.fetch import Fetcher, HttpsPolicy
from tests.doubles.gate import ToldGate, subject
from tests.net.admin.admin_fakes import Serve, Served, Status, access, nothing_changes
from tests.net.admin.page.page_fakes import AT_S, Nodes, Own, event_row, summary
from tests.net.in_reactor import DEADLINE_S, in_reactor, reactor, until

BROWSER = {"accept": "text/html,application/xhtml+xml,*/*;q=0.8"}
TOKEN = b"reader's token"
FILES = PageFiles()


class Page:
    """A node's admin port with a page.

    Args:
        admits: who may come in.
    """

    def __init__(self, admits: AdminAccess | None = None) -> None:
        status, self.own = Status(), Own()
        self.feed = Feed(status, self.own, Nodes(), lambda: False, reactor, lambda: AT_S)  # type: ignore[arg-type]
        admits = admits or access()
        assert admits.passes is not None
        about = {"node": "n1", "cluster": "pico", "version": "0.1.0"}
        self.app: IResource = AdminApp(
            status,
            Metrics("node"),
            nothing_changes,
            admits,
            passes=admits.passes,
            fetcher=Fetcher(reactor, HttpsPolicy()),
            groups=(PageRoutes(FILES, self.feed, self.own, about, reactor.seconds),),
            page=FILES,
        ).resource()


class Stream:
    """A client of the stream, on a socket of its own.

    Args:
        served: the port.
        more: further fields.
    """

    def __init__(self, served: Served, more: str = "") -> None:
        self._socket = socket.create_connection(("127.0.0.1", served.number), timeout=DEADLINE_S)
        head = f"GET {LIVE_PATH} HTTP/1.1\r\nHost: 127.0.0.1:{served.number}\r\nAccept: text/event-stream\r\n{more}\r\n"
        self._socket.sendall(head.encode())
        self.came = b""

    async def until(self, text: bytes) -> bytes:
        """Read until a text has come; returns all that came."""

        def read_more() -> None:
            while text not in self.came:
                more = self._socket.recv(65536)
                assert more, self.came
                self.came += more

        await deferToThread(read_more)
        return self.came

    def close(self) -> None:
        self._socket.close()


Opens = Callable[..., Stream]


@pytest.fixture
def opens() -> Iterator[Opens]:
    """Opens streams, which are closed at the end."""
    made: list[Stream] = []

    def one(*args: Any) -> Stream:
        made.append(Stream(*args))
        return made[-1]

    yield one
    for stream in made:
        stream.close()


@in_reactor
async def test_people_get_a_page_and_programs_json(serve: Serve) -> None:
    """At `/`, by what they accept; caches are told so."""
    served = serve(Page().app)
    code, headers, body = await served.ask("/", headers=BROWSER)
    assert (code, headers["content-type"]) == (200, "text/html; charset=utf-8")
    assert b"<!doctype html>" in body and b"picoctl status" in body
    assert headers["vary"] == "accept"
    for accept in ({}, {"accept": "*/*"}, {"accept": "application/json, text/html;q=0.5"}):
        code, headers, body = await served.ask("/", headers=accept)
        assert (code, headers["content-type"], headers["vary"]) == (200, "application/json", "accept")
        assert LIVE_PATH in json.loads(body)["routes"]


@in_reactor
async def test_the_page_is_of_its_own_files(serve: Serve) -> None:
    """Each file that the page and its parts name is there, of a type that browsers take; none is from elsewhere."""
    served = serve(Page().app)
    _, headers, index = await served.ask("/", headers=BROWSER)
    policy = headers["content-security-policy"]
    assert policy.encode() == POLICY and "unsafe" not in policy and policy.startswith("default-src 'none'")
    text = index.decode()
    assert not re.search(r"<style|<script(?![^>]* src=)|\son\w+=|\sstyle=|https?://(?!localhost)", text)
    wanted = set(re.findall(r'(?:src|href)="page/([^"]+)"', text))
    assert wanted == {"page.css", "main.js", "icon.svg"}
    seen: set[str] = set()
    kinds = {"css": "text/css", "js": "text/javascript", "svg": "image/svg+xml"}
    while wanted:
        name = wanted.pop()
        seen.add(name)
        code, headers, body = await served.ask(f"/page/{name}")
        assert (code, headers["content-type"].partition(";")[0]) == (200, kinds[name.rpartition(".")[2]]), name
        assert headers["content-security-policy"] == policy and headers["x-content-type-options"] == "nosniff"
        source = body.decode()
        assert not re.search(r"innerHTML|insertAdjacent|eval\(|https?://(?!www\.w3\.org/2000/svg)", source), name
        wanted |= set(re.findall(r'from "\./([^"]+)"', source)) - seen
    assert seen | {"index.html"} == set(FILES._files)


@pytest.mark.parametrize("name", ["nothing.js", "..%2Ffiles.py", "%2Fetc%2Fpasswd", "__init__.py", ""])
@in_reactor
async def test_no_other_file(name: str, serve: Serve) -> None:
    """Only files of the page are served, whatever is asked for."""
    code, _, _ = await serve(Page().app).ask(f"/page/{name}")
    assert code == 404


@in_reactor
async def test_a_stream(serve: Serve, opens: Opens) -> None:
    """A viewer is told who they are and then the whole; when they leave nothing is left of them."""
    page = Page()
    stream = opens(serve(page.app))
    came = await stream.until(b'"whole":true')
    assert b"200 OK" in came and b"text/event-stream" in came.lower()
    assert (
        b'event: hello\ndata: {"node":"n1","cluster":"pico","version":"0.1.0","operator":"","may":"","logged_in":false}'
        in came
    )
    assert len(page.feed) == 1
    stream.close()
    await until(lambda: not len(page.feed))


@in_reactor
async def test_who_does_not_ask_for_a_stream_gets_none(serve: Serve) -> None:
    """Programs that wait for the end of an answer, other nodes among them, are told so instead."""
    page = Page()
    served = serve(page.app)
    for path in (LIVE_PATH, f"{LIVE_PATH}?forward=n1"):
        code, _, body = await served.ask(path)
        assert code == 406 and "text/event-stream" in json.loads(body)["error"]
    code, headers, _ = await served.ask(LIVE_PATH, "HEAD", headers={"accept": "text/event-stream"})
    assert (code, headers["content-type"]) == (200, "text/event-stream")
    assert not len(page.feed)


@in_reactor
async def test_viewers_are_bounded(serve: Serve, opens: Opens) -> None:
    """One more than there may be is told so, and comes in when another leaves."""
    page = Page()
    served = serve(page.app)
    streams = [opens(served) for _ in range(MOST_VIEWERS)]
    for stream in streams:
        await stream.until(b'"whole":true')
    code, _, body = await served.ask(LIVE_PATH, headers={"accept": "text/event-stream"})
    assert code == 503 and str(MOST_VIEWERS) in json.loads(body)["error"]
    streams[0].close()
    await until(lambda: len(page.feed) < MOST_VIEWERS)
    await opens(served).until(b'"whole":true')


def gate(*rules: str) -> ToldGate:
    """A gate that knows one token."""
    return ToldGate({TOKEN: subject("ann", *rules)})


@pytest.mark.parametrize(("rule", "may"), [("admin:read", b"read"), ("admin:operate", b"operate")])
@in_reactor
async def test_a_viewer_is_told_what_they_may_do(rule: str, may: bytes, serve: Serve, opens: Opens) -> None:
    """So the page offers changes to those alone who may make them."""
    stream = opens(serve(Page(access(gate(rule))).app), f"Authorization: Bearer {TOKEN.decode()}\r\n")
    assert b'"operator":"ann","may":"' + may + b'"' in await stream.until(b"event: state")


@in_reactor
async def test_nobody_looks_who_may_not(serve: Serve) -> None:
    """Where the port authenticates, a stranger gets the page of the login and no file or stream."""
    page = Page(access(gate("admin:read")))
    served = serve(page.app)
    code, _, body = await served.ask("/", headers=BROWSER)
    assert code == 401 and b"Log in" in body and b"main.js" not in body
    for path in ("/page/main.js", LIVE_PATH, NEWS_PATH):
        code, _, _ = await served.ask(path, headers={"accept": "text/event-stream"})
        assert code == 401, path
    assert not len(page.feed)


@pytest.mark.parametrize("how", ["log out", "revoke", "a token in a field"])
@in_reactor
async def test_a_stream_ends_with_what_let_it_in(how: str, serve: Serve, opens: Opens) -> None:
    """A login that ends, and a credential that is no more, end the stream, with a word about it."""
    admits = access(known := gate("admin:read"))
    page = Page(admits)
    served = serve(page.app)
    if how == "a token in a field":
        fields = f"Authorization: Bearer {TOKEN.decode()}\r\n"
    else:
        id = admits.logins.new_id()
        admits.logins.begin(id, known.subjects[TOKEN])  # type: ignore[arg-type]
        fields = f"Cookie: pico-session-{served.number}={id}\r\n"
    stream = opens(served, fields)
    assert (b'"logged_in":true' in await stream.until(b"event: state")) == (how != "a token in a field")
    if how == "log out":
        admits.logins.end(id)
    else:
        known.ended["ann"] = Reason.REVOKED
    await stream.until(b"event: end\n")
    await until(lambda: not len(page.feed))


@in_reactor
async def test_news(serve: Serve) -> None:
    """Other nodes are told what is new since a time; nonsense is refused."""
    page = Page()
    page.own.news = NodeNews(summary=summary(), events=(event_row("n1", 1),))
    served = serve(page.app)
    code, _, body = await served.ask(f"{NEWS_PATH}?since=12.5&agents=1")
    assert code == 200
    found = read(json.loads(body), NodeNews)
    assert found.events == page.own.news.events and found.agents is not None
    assert page.own.asked == [(12.5, True)]
    for since in ("x", "nan", "inf"):
        code, _, _ = await served.ask(f"{NEWS_PATH}?since={since}")
        assert code == 400
