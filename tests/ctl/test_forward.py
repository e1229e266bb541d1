"""`picoctl forward` as a command: what it is asked, what it says, and how it ends."""

from __future__ import annotations

import contextlib
import signal
import socket
import stat
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from pico_twisted.ctl.forward.plan import LocalPair, read_pairs, read_urls
from tests.ctl.harness import PATIENCE_S, PROGRAM, environment, http_answer, picoctl, saying, serving
from tests.peers import websocket
from tests.peers.pipe import Ended, Listener, Pipe, dial
from tools.stage.forwarders import Forwarder
from tools.stage.ports import unused_address
from tools.stage.processes import Process


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ([], "a LOCAL and an ENDPOINT are needed"),
        (["5432"], "a LOCAL and an ENDPOINT are needed"),
        (["5432", "db", "6379"], "a LOCAL and an ENDPOINT are needed"),
        (["db", "5432"], "found 'db', expected a port, an address such as"),
        (["65536", "db"], "found '65536', expected a port"),
        (["5432", "a/b"], "ENDPOINT"),
        (["unix:", "db"], "found 'unix:', expected unix: and a path"),
        (["unix:" + "x" * 108, "db"], "expected unix: and a path of at most 107 bytes"),
        (["no.such.host.invalid:5432", "db"], "no address for no.such.host.invalid"),
        (["-", "db", "5432", "db"], "- stands for stdin and stdout"),
        (["5432", "db", "127.0.0.1:5432", "cache"], "a LOCAL is given twice"),
        (["5432", "db", "--url", "ftp://x"], "--url: found 'ftp://x', expected a URL such as https://pico"),
        (["5432", "db", "--url", "http://x,"], "--url: found '', expected a URL"),
        (["5432", "db", "--ca", "/nowhere"], "--ca: is for https, and the URL is http://localhost:8000"),
        (["5432", "db", "--url", "https://x", "--ca", "/nowhere"], "--ca: /nowhere cannot be read"),
        (["5432", "db", "--token-file", "/nowhere"], "--token-file: /nowhere holds no token"),
        (["5432", "db", "--patience", "long"], "--patience"),
    ],
)
def test_what_makes_no_sense_is_refused(arguments: list[str], words: str) -> None:
    """With status 2, before anything listens."""
    done = picoctl("forward", *arguments)
    assert (done.returncode, done.stdout) == (2, "")
    assert words in " ".join(done.stderr.split())


@pytest.mark.parametrize(
    ("local", "pair"),
    [
        ("5432", LocalPair(host="127.0.0.1", port=5432, endpoint_id="db")),
        ("0", LocalPair(host="127.0.0.1", port=0, endpoint_id="db")),
        (":5432", LocalPair(host="0.0.0.0", port=5432, endpoint_id="db")),
        ("localhost:5432", LocalPair(host="127.0.0.1", port=5432, endpoint_id="db")),
        ("[::1]:5432", LocalPair(host="::1", port=5432, endpoint_id="db")),
        ("unix:/run/db", LocalPair(path="/run/db", endpoint_id="db")),
        ("-", LocalPair(endpoint_id="db")),
    ],
)
def test_a_local_address_is_of_this_machine_alone_unless_another_is_asked_for(local: str, pair: LocalPair) -> None:
    """A port alone is one of the loopback address."""
    assert read_pairs([local, "db"]) == (pair,)


def test_urls_may_be_given_in_any_way() -> None:
    """Several times, with commas between them, of HTTP or WebSocket; the same one counts once."""
    given = ["http://a:8000,ws://b", "wss://c/pico/", "https://c/pico"]
    assert read_urls(given) == ("http://a:8000", "http://b", "https://c/pico")
    assert read_urls([]) == ("http://localhost:8000",)
    assert read_urls([], "http://a,http://b") == ("http://a", "http://b")


def speaks(pipe: Pipe) -> None:
    """A node whose service says hello, and then sends back what it gets until its end; or breaks off when told to."""
    with contextlib.suppress(Ended, websocket.Nonsense):
        opened = websocket.accept(pipe, select=lambda offer: "pico.tcp")
        assert opened is not None
        ws, _ = opened
        ws.send(b"hello ")
        while (message := ws.receive()[1]) and message != b"break":
            ws.send(message)
        if message:
            ws.close(1011, "the service broke the connection")
        else:
            ws.send(b"")
            ws.close(1000)
        ws.receive()


@pytest.fixture
def url() -> Iterator[str]:
    """Of such a node."""
    with contextlib.closing(Listener(speaks)) as listener:
        yield f"http://127.0.0.1:{listener.port}"


def started(arguments: list[str], directory: Path) -> Process:
    """The command, running."""
    return Process("forward", [*PROGRAM, "forward", *arguments], directory, environment())


def said(port: int) -> bytes:
    """What a local connection gets for a word."""
    pipe = dial(("127.0.0.1", port))
    pipe.send(b"you")
    pipe.half_close()
    found = b""
    with contextlib.suppress(Ended):
        while True:
            found += pipe.recv()
    return found


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_it_runs_until_it_is_told_to_end(url: str, tmp_path: Path, number: signal.Signals) -> None:
    """It tells where it listens, serves, and ends with status 0; connections that are left are reset."""
    forward = Forwarder(["db", "cache"], ["--url", url], tmp_path, environment())
    try:
        forward.wait_ready()
        assert said(forward.port("db")) == said(forward.port("cache")) == b"hello you"
        left = dial(("127.0.0.1", forward.port("db")))
        assert left.recv() == b"hello "
        forward.signal(number)
        with pytest.raises(Ended) as raised:
            left.recv()
        assert raised.value.broken
        assert forward.wait_exit() == 0
        assert forward.output.startswith(f"127.0.0.1:{forward.port('db')} -> db at {url}\n")
        assert forward.faults() == []
    finally:
        forward.close()


def test_a_unix_socket_leads_there(url: str, tmp_path: Path) -> None:
    """For this user alone; it is taken away at the end. With --quiet nothing is said."""
    path = tmp_path / "db"
    forward = started([f"unix:{path}", "db", "--quiet", "--url", url], tmp_path)
    try:
        forward.wait_until(path.exists, "its socket")
        assert stat.S_IMODE(path.stat().st_mode) == 0o600
        with socket.socket(socket.AF_UNIX) as local:
            local.connect(str(path))
            local.sendall(b"you")
            local.shutdown(socket.SHUT_WR)
            assert b"".join(iter(lambda: local.recv(100), b"")) == b"hello you"
        assert forward.stop() is None
        assert (forward.output, path.exists()) == ("", False)
    finally:
        forward.close()


def test_a_port_that_is_taken_ends_it(url: str) -> None:
    """With status 1, and the reason."""
    with socket.create_server(("127.0.0.1", 0)) as taken:
        address = f"127.0.0.1:{taken.getsockname()[1]}"
        done = picoctl("forward", address, "db", "--url", url, own_process=True)
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr == f"picoctl: cannot listen on {address}: Address already in use\n"


def test_stdin_and_stdout_take_the_place_of_a_connection(url: str, tmp_path: Path) -> None:
    """What comes on stdin goes to the service, and its words to stdout, nothing else; a cut has status 1."""
    for sends, status, out, err in (
        (b"you", 0, b"hello you", b""),
        (b"break", 1, b"hello ", b"picoctl: db: a connection was cut: the node closed it (1011): the service broke"),
    ):
        given = tmp_path / "given"
        given.write_bytes(sends)
        with given.open("rb") as stdin:
            command = [*PROGRAM, "forward", "-", "db", "--url", url]
            done = subprocess.run(
                command, stdin=stdin, capture_output=True, env=environment(), timeout=PATIENCE_S, check=False
            )
        assert (done.returncode, done.stdout) == (status, out)
        assert done.stderr.startswith(err)


def test_without_a_call_stdin_and_stdout_end_with_its_reason() -> None:
    """Status 1 for a node that refuses, 3 when there is none."""
    body = b'{"error": "no rule of ann allows it"}'
    refusal = http_answer(body, "403 Forbidden").replace(
        b"\r\n", b"\r\nx-pico-error: n1; not-allowed\r\nx-pico-port: proxy\r\n", 1
    )
    with serving(saying(refusal)) as node:
        done = picoctl("forward", "-", "db", "--url", node, own_process=True)
        assert (done.returncode, done.stdout) == (1, "")
        assert done.stderr == "picoctl: db: node n1 refuses (403 not-allowed): no rule of ann allows it\n"
    nobody = f"http://{unused_address()}"
    done = picoctl("forward", "-", "db", "--patience", "0s", own_process=True, PICO_PROXY_URL=nobody)
    assert (done.returncode, done.stdout) == (3, "")
    assert done.stderr == f"picoctl: db: {nobody} cannot be reached: nothing listens there\n"
