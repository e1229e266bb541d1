"""Services of HTTP/2 that others have written, behind an agent, for clients of both versions."""

from __future__ import annotations

import contextlib
import functools
import subprocess
from pathlib import Path
from typing import Final

import pytest

from benchmarks.nginx import Service as Nginx
from tests.system.service import Service, answer
from tests.system.wire import Request
from tools.stage.certificates import Tls
from tools.stage.nodes import Node
from tools.stage.ports import free_port
from tools.stage.processes import Process, environment, find_program
from tools.stage.stage import Stage

pytestmark = pytest.mark.parametrize("stage", ["plain"], indirect=True)

LARGE = 3_000_000
VERSIONS = {"1.1": "--http1.1", "2": "--http2-prior-knowledge"}
H2LOAD: Final = {"1.1": ["--h1"], "2": []}


def curl(node: Node, endpoint: str, version: str, *arguments: str, path: str = "/large") -> bytes:
    """What curl gets of a service, with the version that it was told in."""
    command = ["curl", "-q", "-sS", "--noproxy", "*", VERSIONS[version], "-H", f"x-pico-endpoint: {endpoint}"]
    return subprocess.run(
        [*command, "--max-time", "20", *arguments, node.url(path)], env=environment(), capture_output=True, check=True
    ).stdout


def is_there(node: Node, endpoint: str) -> bool:
    """Whether a service answers."""
    return curl(node, endpoint, "1.1", "-o", "/dev/null", "-w", "%{http_code}") == b"200"


@pytest.fixture
def node(stage: Stage, certificates: Tls, tmp_path: Path) -> Node:
    """A node, an agent, and behind it nginx with HTTP/1.1 and HTTP/2, and nghttpd over TLS."""
    nginx, pair = stage.add(Nginx(tmp_path, LARGE)), certificates.pair
    port = free_port()
    files = ["-d", str(nginx.large.parent), str(port), str(pair.key), str(pair.cert)]
    nghttpd = stage.add(Process("nghttpd", [find_program("nghttpd", "nghttp2-server"), *files], tmp_path))
    node = stage.node()
    tls = {"ca": str(certificates.authority.ca), "server_name": "localhost"}
    stage.agent(
        node,
        {
            "one": nginx.addresses["tcp"],
            "two": nginx.addresses["h2c"],
            "tls": {"addr": f"https://127.0.0.1:{port}", "tls": tls},
        },
    )
    for process, endpoint in ((nginx, "one"), (nginx, "two"), (nghttpd, "tls")):
        process.wait_until(functools.partial(is_there, node, endpoint), f"an answer of {endpoint}")
    return node


@pytest.mark.parametrize("version", VERSIONS)
def test_what_services_of_http2_are_asked(node: Node, tmp_path: Path, version: str) -> None:
    """Bodies both ways, heads without one, and many requests at once, whatever the client speaks."""

    def said(endpoint: str, *arguments: str, path: str = "/large") -> bytes:
        return curl(node, endpoint, version, *arguments, path=path)

    for endpoint in ("one", "two", "tls"):
        assert said(endpoint) == bytes(LARGE), endpoint
        head = said(endpoint, "--head").lower()
        assert b" 200" in head.split(b"\r\n")[0] and b"content-length: %d" % LARGE in head, endpoint
    assert said("two", path="/small") == b"small " * 25
    files = tmp_path / "files"
    assert said("two", "-T", str(files / "large"), "-w", "%{http_code}", path="/upload/new") == b"201"
    assert (files / "upload" / "new").read_bytes() == bytes(LARGE)
    program = find_program("h2load", "nghttp2-client")
    load = [program, "-n", "200", "-c", "1", "-m", "50", "-H", "x-pico-endpoint: two", node.url("/small")]
    told = subprocess.run([*load, *H2LOAD[version]], env=environment(), capture_output=True, check=True).stdout
    assert b"200 succeeded, 0 failed, 0 errored, 0 timeout" in told and b"200 2xx" in told
    assert b" 404" in said("tls", "-i", path="/nothing").split(b"\r\n")[0]


_MESSAGE: Final = "\0\0\0\0\2\x08\x2a"
_OUTCOME: Final = "grpc-status:0\r\ngrpc-message:\r\n"


@pytest.mark.parametrize("version", VERSIONS)
def test_grpc_web_goes_through_as_it_is(stage: Stage, tmp_path: Path, version: str) -> None:
    """A call of gRPC-Web is a POST, whose outcome is a frame of the body behind the messages: no byte is touched."""
    told = _MESSAGE.encode() + b"\x80" + len(_OUTCOME).to_bytes(4, "big") + _OUTCOME.encode()

    def serve(request: Request) -> bytes:
        asked = (request.get("content-type"), request.get("x-grpc-web"), request.body)
        good = asked == (b"application/grpc-web+proto", b"1", _MESSAGE.encode())
        return answer(told if good else repr(asked).encode(), headers=[("Content-Type", "application/grpc-web+proto")])

    with contextlib.closing(Service()) as service:
        service.handler = serve
        node = stage.node()
        stage.agent(node, {"web": service.address})
        message = tmp_path / "message"
        message.write_bytes(_MESSAGE.encode())
        sent = ["-H", "Content-Type: application/grpc-web+proto", "-H", "X-Grpc-Web: 1", "--data-binary", f"@{message}"]
        got = curl(node, "web", version, "-i", *sent, path="/test.Test/Echo")
        head, _, body = got.partition(b"\r\n\r\n")
        assert body == told and b"application/grpc-web+proto" in head
        # Without a body: curl 7.88 waits for ever when it is answered over HTTP/2 just before it sends one.
        nobody = curl(node, "nobody", version, "-i", "-X", "POST", *sent[:-2], path="/test.Test/Echo").lower()
        assert b" 200" in nobody.split(b"\r\n")[0] and b"grpc-status: 14" in nobody
