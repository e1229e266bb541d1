"""picoctl when there is no proper answer: it ends in time, with status 3, and says in one line what to do."""

from __future__ import annotations

import json
import signal
import subprocess
import threading
from pathlib import Path

import pytest

from pico_twisted.ctl import client
from pico_twisted.ctl.client import AdminPort
from pico_twisted.ctl.exits import NoAnswer
from tests.ctl.harness import (
    PATIENCE_S,
    PROGRAM,
    environment,
    http_answer,
    picoctl,
    saying,
    serving,
)
from tests.peers.pipe import Pipe
from tools.stage.certificates import Authority
from tools.stage.ports import free_port

HTML = http_answer(b"<html><body>It works!</body></html>", content_type="text/html")


def refused(url: str, *arguments: str) -> str:
    """What picoctl says when it ends with status 3, in one line and with nothing on stdout."""
    done = picoctl(*(arguments or ("status", "nodes")), "--admin", url)
    assert (done.returncode, done.stdout) == (3, ""), done
    assert done.stderr.count("\n") == 1
    assert done.stderr.startswith("picoctl: ")
    return done.stderr


def test_nothing_there() -> None:
    """A port that nobody listens on, and a name that has no address: what to do is said."""
    url = f"http://127.0.0.1:{free_port()}"
    words = f"picoctl: nothing answers at {url}: is the node running? Another address: --admin URL or PICO_ADMIN\n"
    assert refused(url) == words
    assert "no address for the name in http://no-such-host.invalid:8001" in refused("http://no-such-host.invalid:8001")


@pytest.mark.parametrize(
    ("answer", "words"),
    [
        (b"", "closed the connection before the whole answer had come"),
        (b"SSH-2.0-OpenSSH_9.2\r\n", "is not the admin port of a node: what it says is not HTTP"),
        (b"\x00\xff" * 1000, "what it says is not HTTP"),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\n[]", "before the whole answer"),
        (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\n[]", "before the whole answer"),
        (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nnope\r\n", "before the whole answer"),
        (b"HTTP/1.1 200 OK\r\nX: " + b"y" * 100_000 + b"\r\n\r\n", "is not HTTP"),
        (HTML, "is not the admin port of a node: it answers with 200, and not in JSON"),
        (http_answer(b"<html>no</html>", "404 Not Found"), "it answers with 404, and not in JSON"),
        (http_answer(b"", "302 Found"), "it answers with 302, and not in JSON"),
        (http_answer(b"[]", "301 Moved Permanently"), "it answers with 301"),
        (http_answer(b'{"error": "gone fishing"}', "500 Internal Server Error"), "answers with 500: gone fishing"),
        (http_answer(b'{"error": "\\u001b[2J\\u009b"}', "502 Bad Gateway"), r"answers with 502: \x1b[2J\x9b"),
        (http_answer(b'{"error": "no such node"}', "500 Oops"), "answers with 500: no such node"),
        (http_answer(b'{"error": ["no such node"]}', "404 Not Found"), "it answers with 404"),
        (http_answer(b"{}"), "it answers with something else than was asked for"),
        (http_answer(b"null"), "something else than was asked for"),
        (http_answer(b'[{"id": 5}]'), "something else than was asked for"),
        (http_answer(b"[NaN]"), "not in JSON"),
        (http_answer(b"[" * 100_000), "not in JSON"),
        (http_answer(b"1" * 100_000), "not in JSON"),
        (http_answer(b'["\xff"]'), "not in JSON"),
    ],
    ids=lambda value: "" if isinstance(value, bytes) else None,
)
def test_broken_answers(answer: bytes, words: str) -> None:
    """Garbage, what is cut short, HTML, redirects, errors and JSON of another kind are told apart in words."""
    with serving(saying(answer)) as url:
        said = refused(url)
    assert words in said
    assert url in said


def test_reset() -> None:
    """A connection that is reset is a connection that was closed."""

    def handle(connection: Pipe, head: bytes) -> None:
        connection.reset()

    with serving(handle) as url:
        assert "closed the connection before the whole answer had come" in refused(url)


@pytest.mark.parametrize(
    "beginning", [b"", b"HTTP/1.1 200 OK\r\n", b"HTTP/1.1 200 OK\r\nContent-Length: 1000000\r\n\r\n["]
)
@pytest.mark.parametrize("every_s", [0.02, PATIENCE_S])
def test_hanging(beginning: bytes, every_s: float) -> None:
    """A server that says nothing more, or a byte now and then, is given up after --timeout."""
    over = threading.Event()

    def handle(connection: Pipe, head: bytes) -> None:
        connection.send(beginning)
        while not over.wait(every_s):
            connection.send(b"X")

    with serving(handle) as url:
        said = refused(url, "status", "--timeout", "500ms")
        over.set()
    assert f"no answer from {url} within 0.5 s" in said


def test_huge(monkeypatch: pytest.MonkeyPatch) -> None:
    """An answer without end is given up at a limit."""
    monkeypatch.setattr(client, "MAX_ANSWER_BYTES", 4 << 20)

    def handle(connection: Pipe, head: bytes) -> None:
        connection.send(b"HTTP/1.1 200 OK\r\n\r\n[")
        while True:
            connection.send(b"1," * 500_000)

    with serving(handle) as url, pytest.raises(NoAnswer, match="its answer is longer than 4 MiB"):
        AdminPort(url=url, timeout_s=PATIENCE_S).ask("/status/cluster/nodes")


def test_large() -> None:
    """An answer of some megabytes is read whole."""
    counts = {f"endpoint-{number}": {"n1": number} for number in range(100_000)}
    with serving(saying(http_answer(json.dumps(counts).encode()))) as url:
        done = picoctl("status", "endpoints", "--json", "--admin", url)
    assert (done.returncode, json.loads(done.stdout)) == (0, counts)


def test_tls_with_something_else(tmp_path: Path) -> None:
    """https to a port that speaks something else, and a certificate for another name, are told."""
    with serving(saying(HTML), head_ends=b"\x16") as url:
        url = url.replace("http:", "https:")
        assert f"no TLS with {url}" in refused(url)
    authority = Authority(tmp_path)
    pair = authority.issue("other", ("elsewhere.example",))
    with serving(saying(HTML), authority.server_context(pair)) as url:
        said = refused(url, "status", "--ca", str(authority.ca))
    assert f"the certificate of {url} is refused" in said
    assert "127.0.0.1" in said.partition("refused")[2]


def test_interrupt() -> None:
    """Ctrl-C ends it at once, without a traceback."""
    asked = threading.Event()
    over = threading.Event()

    def handle(connection: Pipe, head: bytes) -> None:
        asked.set()
        over.wait(PATIENCE_S)

    with serving(handle) as url:
        process = subprocess.Popen(
            [*PROGRAM, "status", "--admin", url, "--timeout", "1h"],
            env=environment(),
            stderr=subprocess.PIPE,
            encoding="utf-8",
            # what a shell starts in the background ignores SIGINT, and so would all that it starts
            preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
        )
        assert asked.wait(PATIENCE_S)
        process.send_signal(signal.SIGINT)
        _, errors = process.communicate(timeout=PATIENCE_S)
        over.set()
    assert (process.returncode, errors.strip()) == (130, "")


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("status", "--admin", "localhost:8001"), "expected a URL such as http://localhost:8001"),
        (("status", "--admin", ""), "expected a URL"),
        (("status", "--admin", "http://"), "expected a URL"),
        (("status", "--admin", "http://a:x"), "expected a URL"),
        (("status", "--admin", "http://a:0"), "expected a URL"),
        (("status", "--admin", "http://a:99999"), "expected a URL"),
        (("status", "--admin", "ftp://a:8001"), "expected a URL"),
        (("status", "--admin", "http://me:secret@a:8001"), "expected a URL"),
        (("status", "--admin", "http://a:8001/?x=1"), "expected a URL"),
        (("status", "--admin", "http://" + "a" * 100 + ":8001"), "expected a URL"),
        (("status", "--admin", "http://a b:8001"), "expected a URL"),
        (("status", "--admin", "http://[::1:8001"), "expected a URL"),
        (("status", "--timeout", "soon"), "expected a duration"),
        (("status", "--timeout", "0s"), "expected a duration"),
        (("status", "--timeout", "10"), "expected a duration"),
        (("status", "--forward", ""), "expected the ID of a node"),
        (("status", "node"), "Missing argument"),
        (("status", "node", ""), "expected the ID of a node"),
        (("status", "node", "a/b"), "expected the ID of a node"),
        (("status", "node", "a", "b"), "unexpected extra argument"),
        (("status", "nothing"), "No such command"),
        (("status", "--nothing"), "No such option"),
        (("check",), "Missing argument"),
        (("nothing",), "No such command"),
        ((), "Usage: picoctl"),
    ],
)
def test_usage(arguments: tuple[str, ...], words: str) -> None:
    """A command line that makes no sense is status 2, with what was expected; nobody is asked."""
    done = picoctl(*arguments)
    assert (done.returncode, done.stdout) == (2, "")
    assert words in done.stderr


def test_usage_of_the_environment() -> None:
    """A wrong PICO_ADMIN is told as such; an empty one is none."""
    done = picoctl("status", PICO_ADMIN="localhost")
    assert done.returncode == 2
    assert "Invalid value for PICO_ADMIN" in done.stderr
    done = picoctl("status", "--ca", "ca.pem", PICO_ADMIN="")
    assert "the URL is http://localhost:8001" in done.stderr


@pytest.mark.parametrize(
    ("prefix", "line"),
    [
        ("", b"GET /status/cluster/endpoints?forward=n+2%26x HTTP/1.1"),
        ("/", b"GET /status/cluster/endpoints?forward=n+2%26x HTTP/1.1"),
        ("/pico/n%201/", b"GET /pico/n%201/status/cluster/endpoints?forward=n+2%26x HTTP/1.1"),
    ],
)
def test_what_is_asked(prefix: str, line: bytes) -> None:
    """The path goes behind the URL's own; nothing but what is needed is told, and no proxy is asked."""
    heads: list[bytes] = []

    def handle(connection: Pipe, head: bytes) -> None:
        heads.append(head)
        connection.send(http_answer(b"{}" if len(heads) == 1 else local))

    local = json.dumps({"id": "n 2&x", "status": "active", "proxy_addr": "", "admin_addr": ""}).encode()
    with serving(handle) as url:
        done = picoctl("status", "endpoints", "--admin", url + prefix, "--forward", "n 2&x")
    assert (done.returncode, done.stdout) == (0, "endpoints of the cluster\nno agent has registered one\n")
    first, *fields = heads[0].removesuffix(b"\r\n\r\n").split(b"\r\n")
    assert first == line
    names = {field.partition(b":")[0].lower() for field in fields}
    assert names == {b"host", b"accept", b"accept-encoding", b"connection", b"user-agent"}
