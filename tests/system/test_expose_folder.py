"""`picoctl file`: what of a folder is served, and what never is."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.system.exposing import exposing
from tests.system.shapes import NO_TLS
from tests.system.wire import Response, connect
from tools.stage.nodes import Node
from tools.stage.stage import Stage

pytestmark = NO_TLS


class Site:
    """A folder that is served, and a client of it."""

    def __init__(self, stage: Stage, folder: Path, *words: str) -> None:
        self.node: Node = stage.node()
        exposing(stage, self.node, "file", f"docs={folder}", *words)

    def ask(self, target: str, method: str = "GET", *fields: str, body: bytes = b"") -> Response:
        """The answer to a request, whose target goes out as it is."""
        client = connect(self.node.proxy)
        head = [f"{method} {target} HTTP/1.1", "Host: docs.example", *fields, f"Content-Length: {len(body)}", "", ""]
        client.send("\r\n".join(head).encode() + body)
        try:
            return client.read_response(method)
        finally:
            client.close()


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A folder as people have them."""
    made = tmp_path / "docs"
    (made / "sub").mkdir(parents=True)
    (tmp_path / "secret").write_text("secret")
    (tmp_path / "docs-2").mkdir()
    (tmp_path / "docs-2" / "near").write_text("secret")
    (made / "page.html").write_text("<p>page</p>")
    (made / "notes.md").write_text("# Notes")
    (made / "data").write_bytes(bytes(range(256)) * 4096)
    (made / "sub" / "a <b>&.txt").write_text("a")
    (made / ".env").write_text("secret")
    (made / ".git").mkdir()
    (made / ".git" / "config").write_text("secret")
    (made / "out").symlink_to(tmp_path / "secret")
    (made / "out-folder").symlink_to(tmp_path / "docs-2")
    (made / "to-env").symlink_to(".env")
    (made / "in").symlink_to("sub")
    (tmp_path / os.fsdecode(b"docs/caf\xe9")).write_text("latin-1")
    return made


@pytest.fixture
def site(stage: Stage, folder: Path) -> Iterator[Site]:
    """The folder, served."""
    yield Site(stage, folder)


def test_files(site: Site) -> None:
    """Files come with their type, whole or in part, and only when they have changed."""
    page = site.ask("/page.html")
    assert (page.status, page.body, page.get("content-type")) == (200, b"<p>page</p>", b"text/html")
    assert page.get("x-content-type-options") == b"nosniff"
    assert site.ask("/notes.md").get("content-type") == b"text/markdown; charset=utf-8"
    whole = site.ask("/data")
    assert (len(whole.body), whole.get("content-type")) == (1 << 20, b"application/octet-stream")
    part = site.ask("/data", "GET", "Range: bytes=256-259")
    assert (part.status, part.body) == (206, bytes(range(4)))
    modified = (page.get("last-modified") or b"").decode()
    assert site.ask("/page.html", "GET", f"If-Modified-Since: {modified}").status == 304
    head = site.ask("/data", "HEAD")
    assert (head.status, head.get("content-length"), head.body) == (200, b"1048576", b"")
    assert site.ask("/in/a%20%3Cb%3E%26.txt").body == b"a"


def test_lists(site: Site, folder: Path) -> None:
    """A folder is a list that fits a phone, with names as they are; an index takes its place."""
    listed = site.ask("/").body.decode()
    assert 'name="viewport"' in listed
    assert 'href="./sub/"' in listed
    assert all(name not in listed for name in ("secret", ".env", ".git", "out", "to-env"))
    sub = site.ask("/sub/").body.decode()
    assert "a &lt;b&gt;&amp;.txt" in sub
    assert 'href="./a%20%3Cb%3E%26.txt"' in sub
    assert 'href="./caf%E9"' in listed
    assert site.ask("/caf%E9").body == b"latin-1"
    moved = site.ask("/sub")
    assert (moved.status, moved.get("location")) == (302, b"/sub/")
    (folder / "index.html").write_text("index")
    assert site.ask("/").body == b"index"


NOT_THERE = (
    "/out",
    "/out-folder/near",
    "/out-folder/",
    "/to-env",
    "/.env",
    "/.git/config",
    "/.git/",
    "/..%2fsecret",
    "/%2e%2e/secret",
    "/sub/..%2f..%2fsecret",
    "/sub/%2e%2e/%2e%2e/secret",
    "/..%2fdocs-2/near",
    "//sub/",
    "//example.com/",
    "/sub%00",
    "/%ff",
    "/page.html/x",
    "/nothing",
)


def test_what_is_not_there_for_strangers(site: Site) -> None:
    """Links out of the folder, hidden names and tricks with paths are answered as what is not there, or as no
    request."""
    answers = {path: site.ask(path) for path in NOT_THERE}
    assert {path: answer.status for path, answer in answers.items() if answer.status not in (400, 404)} == {}
    assert [path for path, answer in answers.items() if b"secret" in answer.body] == []


def test_an_index_that_leads_out(site: Site, folder: Path) -> None:
    """An index that is a link out of the folder is none."""
    (folder / "index.html").symlink_to(folder.parent / "secret")
    assert b"secret" not in site.ask("/").body


def test_nothing_can_be_written(site: Site, folder: Path) -> None:
    """Other methods are refused, whatever body they bring, and the site goes on."""
    before = sorted(folder.rglob("*"))
    for method in ("POST", "PUT", "DELETE"):
        assert site.ask("/new", method, body=b"x" * 200_000).status in (404, 405, 501)
        assert site.ask("/page.html", method, body=b"x" * 200_000).status in (405, 501)
    assert sorted(folder.rglob("*")) == before
    assert site.ask("/page.html").status == 200


def test_hidden_files_on_demand(stage: Stage, folder: Path) -> None:
    """Who asks for it gets hidden names, and still nothing from outside."""
    site = Site(stage, folder, "--hidden")
    assert site.ask("/.env").body == b"secret"
    assert ".git" in site.ask("/").body.decode()
    assert site.ask("/out").status == 404
