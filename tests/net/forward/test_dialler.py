"""How a TCP session is opened: which port is tried when, what is tried again, and what is believed at once."""

from __future__ import annotations

import socket
import time
from contextlib import closing, suppress

import pytest
from twisted.internet.defer import CancelledError
from twisted.internet.task import deferLater

from pico_twisted.net.forward.dialler import Dialler
from pico_twisted.net.forward.failures import Again, DialFailed
from pico_twisted.net.forward.places import place_of
from pico_twisted.net.forward.session import TcpSession
from tests.net.forward.forwarding import ENDPOINT, FakeNode, dialler_of, nodes_answer, swept
from tests.net.in_reactor import in_reactor, reactor, until
from tests.peers.websocket import WebSocket
from tools.stage.certificates import Authority
from tools.stage.ports import free_port, unused_address

TOKEN = "pico_secret-of-mine"
AWAY = b"HTTP/1.1 502 Bad Gateway\r\nServer: nginx\r\nContent-Length: 0\r\n\r\n"


def holds(ws: WebSocket) -> None:
    """Keep a WebSocket open."""
    while True:
        ws.receive_frame()


async def dialled(dialler: Dialler) -> str:
    """Open a call and drop it; empty when that went well, or why not."""
    try:
        session = await dialler.dial(ENDPOINT)
    except DialFailed as failed:
        return str(failed)
    await closed(session)
    return ""


async def closed(session: TcpSession) -> None:
    """Drop a session, and wait until it is gone."""
    session.abort()
    await until(lambda: not session.transport.connected, "its end")


def nobody() -> str:
    """A URL where nothing listens."""
    return f"http://{unused_address()}"


@in_reactor
async def test_the_token_is_shown_to_the_node() -> None:
    """In the field that no service sees."""
    with closing(FakeNode(holds)) as node, swept() as sweep:
        assert await dialled(dialler_of([node.url], sweep, token=TOKEN)) == ""
        assert node.offers[0].get("x-pico-authorization") == f"Bearer {TOKEN}"
        assert node.offers[0].get("authorization") is None


@in_reactor
async def test_calls_are_shared_out() -> None:
    """Each call begins with the next port."""
    with closing(FakeNode(holds)) as one, closing(FakeNode(holds)) as other, swept() as sweep:
        dialler = dialler_of([one.url, other.url], sweep)
        for _ in range(4):
            assert await dialled(dialler) == ""
        assert (len(one.offers), len(other.offers)) == (2, 2)


@in_reactor
async def test_a_port_that_is_away_is_passed_over() -> None:
    """A call goes to another port at once, and later ones try that first."""
    with closing(FakeNode(holds)) as node, swept() as sweep:
        gone = nobody()
        dialler = dialler_of([gone, node.url], sweep)
        for _ in range(3):
            assert await dialled(dialler) == ""
        assert len(node.offers) == 3
        assert [place.url for place in dialler._order()] == [node.url, gone]


@in_reactor
async def test_when_all_are_away_a_call_waits_for_one() -> None:
    """A node that comes back within the patience takes the call."""
    address = f"127.0.0.1:{free_port()}"
    with swept() as sweep:
        waiting = dialler_of([f"http://{address}", nobody()], sweep, patience_s=10.0).dial(ENDPOINT)
        await deferLater(reactor, 0.15)
        assert not waiting.called
        with closing(FakeNode(holds)) as node, closing(relay_port(address, node)):
            await closed(await waiting)


def relay_port(address: str, node: FakeNode) -> socket.socket:
    """A port at an address, all of whose connections get what a node says."""
    import threading

    host, _, port = address.partition(":")
    listening = socket.create_server((host, int(port)))

    def serve() -> None:
        with suppress(OSError):
            while True:
                accepted, _ = listening.accept()
                target = socket.create_connection(("127.0.0.1", int(node.url.rpartition(":")[2])))
                for source, sink in ((accepted, target), (target, accepted)):
                    threading.Thread(target=pump, args=(source, sink), daemon=True).start()

    threading.Thread(target=serve, daemon=True).start()
    return listening


def pump(source: socket.socket, sink: socket.socket) -> None:
    """Pass bytes on until the end."""
    with suppress(OSError):
        while data := source.recv(65536):
            sink.sendall(data)
        sink.shutdown(socket.SHUT_WR)


@pytest.mark.parametrize(
    "answer",
    [
        AWAY,
        nodes_answer(503, "draining"),
        nodes_answer(503, "busy"),
        nodes_answer(502, "no-upstreams"),
        nodes_answer(502, "upstream-unreachable"),
        b"",
    ],
    ids=["away", "draining", "busy", "no-upstreams", "unreachable", "closed"],
)
@in_reactor
async def test_what_is_over_soon_is_tried_again(answer: bytes) -> None:
    """A node or an agent that is restarted goes unnoticed: nothing had been sent to the service."""

    with closing(FakeNode(holds)) as node, swept() as sweep:
        node.answers = [answer, answer]
        assert await dialled(dialler_of([node.url], sweep, patience_s=10.0)) == ""
        assert (len(node.heads), len(node.offers)) == (2, 1)
        node.answers = [answer]
        assert await dialled(dialler_of([node.url], sweep, patience_s=0.0)) != ""
        assert (len(node.heads), len(node.offers)) == (3, 1), "without patience it is not"


@pytest.mark.parametrize(
    ("answer", "words", "again"),
    [
        (
            nodes_answer(401, "expired", "it is old"),
            "node n1 refuses (401 expired): it is old. A token: --",
            Again.NO,
        ),
        (nodes_answer(403, "not-allowed", "no rule"), "node n1 refuses (403 not-allowed): no rule", Again.NO),
        (nodes_answer(502, "service-unreachable", "no"), "node n1 refuses (502 service-unreachable): no", Again.NO),
        (nodes_answer(500, "internal", "oops"), "node n1 refuses (500 internal): oops", Again.ELSEWHERE),
        (
            nodes_answer(404, "not-found", port="upstream"),
            "URL: that is the upstream port of a node",
            Again.ELSEWHERE,
        ),
        (
            b"HTTP/1.1 404 Not Found\r\nServer: nginx\r\nContent-Length: 0\r\n\r\n",
            "what answers at URL does not say that it is a node of Pico (404): Not Found (server: nginx)",
            Again.ELSEWHERE,
        ),
        (b"SSH-2.0-OpenSSH\r\n", "URL is not the proxy port of a node: what it says is not HTTP/1.1", Again.ELSEWHERE),
    ],
    ids=["401", "403", "service", "500", "port", "nginx", "ssh"],
)
@in_reactor
async def test_an_answer_that_is_a_no_is_believed(answer: bytes, words: str, again: Again) -> None:
    """It is told in words at once, however patient we are; whether another node may know better depends."""

    with closing(FakeNode(holds)) as node, closing(FakeNode(holds)) as other, swept() as sweep:
        node.answers = [answer]
        began = time.monotonic()
        said = await dialled(dialler_of([node.url], sweep, patience_s=600.0))
        assert time.monotonic() - began < 300
        assert said.startswith(words.replace("URL", node.url))
        node.answers = [answer]
        said = await dialled(dialler_of([node.url, other.url], sweep))
        assert (said == "") is (again is Again.ELSEWHERE)


@in_reactor
async def test_a_port_that_says_nothing_is_given_up() -> None:
    """An attempt has an end, and says so."""
    with socket.create_server(("127.0.0.1", 0)) as silent, swept() as sweep:
        url = f"http://127.0.0.1:{silent.getsockname()[1]}"
        assert await dialled(dialler_of([url], sweep, timeout_s=0.2)) == f"no answer in time from {url}"


@in_reactor
async def test_a_certificate_that_is_not_trusted_is_told(tmp_path_factory: pytest.TempPathFactory) -> None:
    """Without showing the token to whoever has it."""
    authority = Authority(tmp_path_factory.mktemp("tls"))
    tls = authority.server_context(authority.issue("localhost"))
    with closing(FakeNode(holds, tls)) as node, swept() as sweep:
        said = await dialled(dialler_of([node.url], sweep, token=TOKEN, patience_s=600.0))
        assert said.startswith(f"{node.url} cannot be reached: ")
        assert "certificate" in said
        assert node.offers == []


@pytest.mark.parametrize("moment", [0.0, 0.05])
@in_reactor
async def test_a_call_can_be_given_up(moment: float) -> None:
    """At any moment: nothing is left of it."""

    with socket.create_server(("127.0.0.1", 0)) as silent, swept() as sweep:
        url = f"http://127.0.0.1:{silent.getsockname()[1]}"
        dialling = dialler_of([url, nobody()], sweep, patience_s=600.0).dial(ENDPOINT)
        await deferLater(reactor, moment)
        dialling.cancel()
        with pytest.raises(CancelledError):
            await dialling


@pytest.mark.parametrize(
    ("answer", "told"),
    [
        (nodes_answer(426, "upgrade-required"), ""),
        (nodes_answer(401, "missing", "a token is needed"), "node n1 refuses (401 missing): a token is needed"),
        (b"HTTP/1.1 426 Upgrade Required\r\nContent-Length: 0\r\n\r\n", "what answers at URL does not say"),
    ],
    ids=["node", "token", "other"],
)
@in_reactor
async def test_a_look_says_what_stands_in_the_way(answer: bytes, told: str) -> None:
    """A plain GET, which reaches no service, tells whether the port is one of a node and takes our token."""

    with closing(FakeNode(holds)) as node, swept() as sweep:
        node.answers = [answer]
        failed = await dialler_of([node.url], sweep).look(place_of(reactor, node.url), ENDPOINT)
        assert str(failed or "").startswith(told.replace("URL", node.url))
        assert (failed is None) is (told == "")
        assert b"upgrade" not in node.heads[0].lower()
