"""Endpoints that programs register themselves, at a real node: twistd's own commands, Tunnel, asyncio, pytest."""

from __future__ import annotations

import asyncio
import http.server
import json
import re
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any
from urllib.request import urlopen

import pytest
from websockets.sync.client import connect as connect_websocket

from pico_twisted.aio import Exposure, expose
from pico_twisted.core.access.credentials_file import hash_of
from tests.system.curl import curl
from tools.stage import kernel
from tools.stage.asking import get
from tools.stage.certificates import Tls
from tools.stage.nodes import Node
from tools.stage.processes import Process
from tools.stage.stage import Stage, open_stage
from tools.stage.waiting import wait_until

TOKEN = "pico_a-token-of-a-program"


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Stage, Node]]:
    """A node that wants a token for the endpoints `own-*`, and none else; and the stage that it is on."""
    folder = tmp_path_factory.mktemp("door")
    (folder / "token").write_text(TOKEN + "\n")
    (folder / "tokens").write_text(f"program sha256:{hash_of(TOKEN.encode()).hex()} listen:own-*\n")
    with open_stage(folder) as stage:
        yield stage, stage.node(settings={"upstream": {"auth": {"tokens_file": str(folder / "tokens")}}})


@pytest.fixture
def door(shared: tuple[Stage, Node]) -> Iterator[Door]:
    """The same for a test, whose programs are ended behind it. Nothing was logged that nobody handled."""
    stage, node = shared
    before = len(stage.processes)
    door = Door(stage, node)
    yield door
    programs = stage.processes[before:]
    complaints = [said for program in programs if (said := program.stop()) is not None]
    assert complaints + stage.new_faults() == []
    for program in programs:
        stage.remove(program)


class Door:
    """A node, and programs that register at it."""

    def __init__(self, stage: Stage, node: Node) -> None:
        self.stage = stage
        self.node = node
        self.token_file = stage.directory / "token"

    @property
    def variables(self) -> dict[str, str]:
        """The environment of a program that names no node itself."""
        return {"PICO_URL": self.node.upstream_url, "PICO_TOKEN_FILE": str(self.token_file)}

    def program(self, name: str, source: str, *arguments: str) -> Process:
        """Run a program of a few lines."""
        path = self.stage.directory / f"{name}.py"
        path.write_text(source)
        command = [sys.executable, str(path), *arguments]
        return self.stage.add(Process(name, command, self.stage.directory, env=self.variables))

    def get(self, endpoint: str, path: str = "/") -> bytes:
        """What the endpoint answers."""
        return get(self.node.ports.proxy, path, {"x-pico-endpoint": endpoint}).body

    def exposed(self, endpoint: str, target: Any, **more: Any) -> Exposure:  # Any: as of `expose`
        """An endpoint of this process, with the token of the test unless another one is given."""
        return expose(endpoint, target, **{"url": self.node.upstream_url, "token": TOKEN, **more})


def test_twistd_web_listens_at_an_endpoint(door: Door, tmp_path: Path) -> None:
    """`twistd web --port pico:…`: no port is open, the node's client is in its log, and it stops in order."""
    (tmp_path / "index.html").write_text("of twistd")
    site = door.stage.command("web", "web", "--path", str(tmp_path), "--port", "pico:own-web", env=door.variables)
    door.node.wait_endpoint("own-web")
    assert door.get("own-web") == b"of twistd"
    assert kernel.listening(site.pid) == []
    site.wait_output('"127.0.0.1" - - [')
    assert f"reached at http://own-web.localhost:{door.node.ports.proxy}" in site.output
    site.terminate()
    assert site.wait_exit() == -signal.SIGTERM  # as Twisted ends whoever a signal ended
    door.stage.remove(site)
    door.node.wait_endpoint("own-web", 0)


def test_a_refused_program_is_told_why(door: Door) -> None:
    """The rules of its token do not have the endpoint: `listen` fails in words, and so does a start in asyncio."""
    program = """
from twisted.internet import defer, endpoints, protocol, task
async def main(reactor):
    try:
        await endpoints.serverFromString(reactor, "pico:foreign").listen(protocol.Factory())
    except Exception as error:
        print(type(error).__name__, error)
task.react(lambda reactor: defer.ensureDeferred(main(reactor)))
"""
    refused = door.program("refused", program)
    refused.wait_exit()
    assert re.search(
        r"CannotRegister endpoint foreign cannot be registered: the node refused \(403\): ", refused.output
    )

    async def start(**more: Any) -> None:
        await door.exposed("own-a", 1, **more).start()

    with pytest.raises(ConnectionRefusedError, match=r"endpoint own-a cannot be registered: the node refused \(401\)"):
        asyncio.run(start(token="wrong"))
    with pytest.raises(ValueError, match=r"^url\[0\]: found"):
        asyncio.run(start(url="nonsense"))


def test_a_program_that_just_ends(door: Door) -> None:
    """Whoever stops the reactor need not stop what he began: a request in progress gets its answer first."""
    program = """
from twisted.internet import reactor
from twisted.web import resource, server
from pico_twisted import Tunnel
class Last(resource.Resource):
    isLeaf = True
    def render_GET(self, request):
        reactor.callLater(0.3, request.write, b"last")
        reactor.callLater(0.4, request.finish)
        reactor.stop()
        return server.NOT_DONE_YET
Tunnel("own-last", server.Site(Last())).start()
reactor.run()
"""
    last = door.program("last", program)
    door.node.wait_endpoint("own-last")
    assert door.get("own-last") == b"last"
    assert last.wait_exit() == 0
    assert "drains own-last" in door.node.output
    assert kernel.state(last.pid) in ("", "Z")
    door.stage.remove(last)


def test_an_endpoint_that_somebody_keeps(door: Door) -> None:
    """An agent that does not share it: who comes second is told so, and by whom it is served."""
    settings = {"connect": {"token_file": str(door.token_file)}}
    door.stage.agent(door.node, {"own-alone": {"addr": "1", "share": False}}, settings, name="keeper")

    async def start() -> None:
        await door.exposed("own-alone", 1).start()

    with pytest.raises(ConnectionRefusedError, match=r"\(409\).*keeper"):
        asyncio.run(start())


def test_a_node_that_is_away(door: Door) -> None:
    """A start in asyncio waits, and can be given up; the loop is left clean, and another one can be used."""

    async def start() -> str:
        exposure = door.exposed("own-away", 1, url="http://127.0.0.1:1")
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(exposure.start(), 0.2)
        assert exposure.url == "" and not exposure.registered
        assert asyncio.all_tasks() == {asyncio.current_task()}
        async with door.exposed("own-away", 1) as there:
            with pytest.raises(RuntimeError, match="call expose again"):
                await there.start()
            return there.url

    threads = threading.active_count()
    for _ in range(2):
        assert asyncio.run(start()) == f"http://own-away.localhost:{door.node.ports.proxy}"
    assert threading.active_count() == threads


def test_a_name_that_cannot_be_looked_up(door: Door) -> None:
    """It is one more address at which no node is; a look-up that goes on holds up neither the loop nor its end."""

    async def start() -> None:
        exposure = door.exposed("own-name", 1, url=["http://nowhere.invalid:8002", door.node.upstream_url])
        async with exposure:
            assert exposure.registered

    asyncio.run(start())


def test_a_node_with_tls(tmp_path: Path, certificates: Tls) -> None:
    """All of it runs on the loop of asyncio, though another reactor is installed in the process, and does not run."""
    with open_stage(tmp_path, certificates) as stage:
        node = stage.node()

        async def start() -> str:
            ca = str(certificates.authority.ca)
            async with expose("web", Application(), url=node.upstream_url, ca=ca) as there:
                named = {"x-pico-endpoint": "web"}
                asked = asyncio.to_thread(get, node.ports.proxy, "/", named, tls=certificates.context)
                assert there.registered
                return str(json.loads((await asked).body)["scheme"])

        assert asyncio.run(asyncio.wait_for(start(), 30)) == "https"


class Application:
    """An ASGI application that keeps what it was told."""

    def __init__(self) -> None:
        self.told: list[str] = []
        self.left = asyncio.Event()

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:  # as ASGI has them
        if scope["type"] == "lifespan":
            while self.told[-1:] != ["lifespan.shutdown"]:
                self.told.append((await receive())["type"])
                await send({"type": f"{self.told[-1]}.complete"})
        elif scope["type"] == "websocket":
            await receive()
            await send({"type": "websocket.accept"})
            while (message := await receive())["type"] == "websocket.receive":
                await send({"type": "websocket.send", "text": message["text"].upper()})
            self.told.append(message["type"])
        elif scope["path"] == "/leave":
            await send({"type": "http.response.start", "status": 200, "headers": []})
            await send({"type": "http.response.body", "body": b"x", "more_body": True})
            await receive()
            self.told.append((await receive())["type"])
            self.left.set()
        else:
            size = 0
            while (message := await receive()).get("more_body") or message.get("body"):
                size += len(message["body"])
                if not message["more_body"]:
                    break
            told = {"client": scope["client"], "server": scope["server"], "scheme": scope["scheme"], "size": size}
            await send(
                {"type": "http.response.start", "status": 200, "headers": [(b"x-method", scope["method"].encode())]}
            )
            for piece in (json.dumps(told).encode(), b"." * int(scope["query_string"] or 0)):
                await send({"type": "http.response.body", "body": piece, "more_body": True})
            await send({"type": "http.response.body", "body": b""})


def test_an_asgi_application(door: Door, tmp_path: Path) -> None:
    """Its lifespan, requests with bodies of 5 MB both ways, who its client is, a WebSocket, a client that leaves."""
    application = Application()
    (tmp_path / "body").write_bytes(b"b" * 5_000_000)
    proxy = door.node.ports.proxy
    url = f"http://127.0.0.1:{proxy}"
    name = ("-H", "x-pico-endpoint: own-asgi")

    def look() -> None:
        asked = get(proxy, "/", {"x-pico-endpoint": "own-asgi"})
        told = {"client": ["127.0.0.1", 0], "server": ["own-asgi", proxy], "scheme": "http", "size": 0}
        assert json.loads(asked.body) == told
        with_body = ("--data-binary", f"@{tmp_path / 'body'}")
        sent = curl(f"{url}/?7000000", *name, *with_body, directory=tmp_path)
        assert sent.body.rstrip(b".").endswith(b'"size": 5000000}') and sent.body.count(b".") > 7_000_000
        upload = ("-H", "Expect: 100-continue", "-T", str(tmp_path / "body"))
        waiting = curl(f"{url}/", *name, *upload, directory=tmp_path)
        assert b'"size": 5000000}' in waiting.body and waiting.headers["x-method"] == "PUT"
        with connect_websocket(f"ws://127.0.0.1:{proxy}/", additional_headers={"x-pico-endpoint": "own-asgi"}) as chat:
            for text in ("hello", "x" * 200_000):
                chat.send(text)
                assert chat.recv() == text.upper()
        assert curl(f"{url}/leave", *name, directory=tmp_path, timeout=0.5).body == b"x"

    async def run() -> None:
        async with door.exposed("own-asgi", application) as exposure:
            assert exposure.registered and exposure.url.startswith("http://own-asgi.localhost:")
            await asyncio.to_thread(look)
            await application.left.wait()

    asyncio.run(asyncio.wait_for(run(), 60))
    assert application.told == ["lifespan.startup", "websocket.disconnect", "http.disconnect", "lifespan.shutdown"]
    door.node.wait_endpoint("own-asgi", 0)


def test_an_application_that_does_not_start(door: Door) -> None:
    """Nothing is registered, and it is told."""

    async def broken(scope: Any, receive: Any, send: Any) -> None:  # as ASGI has them
        await receive()
        await send({"type": "lifespan.startup.failed", "message": "no database"})

    async def start() -> None:
        async with door.exposed("own-broken", broken):
            raise AssertionError("it is exposed")

    with pytest.raises(RuntimeError, match="failed to start"):
        asyncio.run(start())
    assert "own-broken" not in door.node.admin.endpoints()


class Hello(http.server.BaseHTTPRequestHandler):
    """Answers with its path."""

    def do_GET(self) -> None:
        self.send_response(200)
        self.send_header("Content-Length", str(len(self.path)))
        self.end_headers()
        self.wfile.write(self.path.encode())

    def log_message(self, format: str, *arguments: object) -> None:
        """Say nothing."""


@pytest.fixture
def servers() -> Iterator[list[int]]:
    """Ports of two servers that are no Pico."""
    running = [http.server.ThreadingHTTPServer(("127.0.0.1", 0), Hello) for _ in range(2)]
    for one in running:
        threading.Thread(target=one.serve_forever, daemon=True).start()
    yield [one.server_address[1] for one in running]
    for one in running:
        one.shutdown()
        one.server_close()


def test_the_fixture_of_pytest(pico_url: Callable[[int | str], str], servers: list[int]) -> None:
    """Each server has a URL of its own, which any client can use, and which is not the server's."""
    urls = [pico_url(servers[0]), pico_url(f"127.0.0.1:{servers[1]}")]
    assert len(set(urls)) == 2 and not any(str(port) in url for url, port in zip(urls, servers, strict=True))
    for url in urls:
        with urlopen(f"{url}/some/path?q") as answer:
            assert answer.read() == b"/some/path?q"
            assert answer.headers["x-request-id"]


def test_the_fixture_keeps_its_nodes(pico_url: Callable[[int | str], str], servers: list[int]) -> None:
    """What cannot be exposed is told in words; a later test uses the same nodes."""
    with pytest.raises(RuntimeError, match="expected where the service listens"):
        pico_url("localhost:nonsense")
    with urlopen(pico_url(servers[0])) as answer:
        assert answer.read() == b"/"


def test_the_fixture_in_threads(pico_url: Callable[[int | str], str], servers: list[int]) -> None:
    """As tests use it that have an event loop: several threads may ask at once, and what they got outlives them."""
    with ThreadPoolExecutor(2) as threads:
        urls = list(threads.map(pico_url, servers))
    assert len(set(urls)) == 2
    for url in urls:
        with urlopen(f"{url}/path") as answer:
            assert answer.read() == b"/path"


def test_the_node_of_the_fixture_ends_with_the_tests(tmp_path: Path) -> None:
    """Also when they are killed, and from a thread that has ended long before."""
    source = """
import pathlib, sys, threading, time
from pico_twisted.door.local_node import LocalNode
starting = threading.Thread(target=lambda: print(LocalNode(pathlib.Path(sys.argv[1])).url, flush=True))
starting.start()
starting.join()
time.sleep(1000)
"""
    with subprocess.Popen([sys.executable, "-c", source, str(tmp_path)], stdout=subprocess.PIPE, text=True) as tests:
        assert tests.stdout is not None
        port = int(tests.stdout.readline().rpartition(":")[2])
        with socket.create_connection(("127.0.0.1", port)):
            tests.kill()

    def refused() -> bool:
        with socket.socket() as asking:
            return asking.connect_ex(("127.0.0.1", port)) != 0

    wait_until(refused, "the node to end")
