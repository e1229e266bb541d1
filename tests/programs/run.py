"""Real programs through one node and through two. Run by `make programs`.

    python -m tests.programs.run              every part
    python -m tests.programs.run docker curl  some of them
    python -m tests.programs.run postgres --seconds 300

Each part starts its own nodes and agent as real processes. The exit status is 1 when a program did not get what it gets
without a tunnel.
"""

from __future__ import annotations

import argparse
import base64
import contextlib
import json
import shutil
import struct
import subprocess
import sys
import threading
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from pico_twisted.core.access.credentials_file import hash_of
from tests.programs import tcp
from tests.programs.admin_pages import admin_pages
from tests.programs.balancing import behind_haproxy
from tests.programs.browser import QUIET
from tests.programs.engine import CONTAINER, engine
from tests.programs.first_minute import first_minute
from tests.programs.grpc.part import all_checks
from tests.programs.http2_browser import in_chromium
from tests.programs.inspector import inspector
from tests.programs.page.part import live_page
from tests.programs.proxies import agents_behind_tinyproxy
from tests.programs.shells import in_shells, man_pages
from tests.system.service import Connection, Service, answer
from tests.system.test_upgrades import echo_websocket
from tests.system.wire import Request
from tools.stage.nodes import Node
from tools.stage.processes import environment
from tools.stage.report import Options, Report, exit_status
from tools.stage.stage import Stage, open_stage

ENDPOINT: Final = "web"
_PATIENCE_S: Final = 60
_NAME: Final = "José"
_COOKIE_PAGE: Final = f"""<!DOCTYPE html><meta charset="utf-8"><script>
document.cookie = "name={_NAME}; path=/"; location = "/told";
</script>"""
_CURL: Final = ("curl", "-q", "-sS", "--noproxy", "*", "-H", f"x-pico-endpoint: {ENDPOINT}")
_CHALLENGE: Final = b"NTLMSSP\0" + struct.pack("<IHHIIQQ", 2, 0, 0, 48, 0x8205, 0x0123456789ABCDEF, 0)
"""The second message of NTLM, which asks for the third ([MS-NLMP] 2.2.1.2)."""
_THIRD: Final = struct.pack("<I", 3)
_TOKEN: Final = "pico_of-a-script"
_SCRIPT: Final = """<!DOCTYPE html><p></p><img src="/hold"><script>
const shows = text => document.querySelector("p").append(text + "; ");
const fetches = (what, url, headers) => fetch(url, {method: "PUT", headers}).then(
  answer => shows(what + " " + answer.status), error => shows(what + " refused"));
const opens = (what, url, protocols) => new Promise(done => {
  const socket = new WebSocket(url, protocols);
  socket.onopen = () => socket.send("hello");
  socket.onmessage = event => { shows(what + " " + event.data + " by " + socket.protocol); done(); };
  socket.onerror = () => { shows(what + " refused"); done(); };
});
(async () => {
  const [name, token] = ["HOST", "TOKEN"];
  await fetches("authorization", `http://${name}/`, {Authorization: `Bearer ${token}`});
  await fetches("field", `http://${name}/`, {"x-pico-authorization": token, "x-other": "1"});
  await fetches("nothing", `http://${name}/`, {});
  await opens("socket", `ws://${name}/`, ["pico", `pico.bearer.${token}`]);
  await opens("bare socket", `ws://${name}/`, ["pico"]);
  await fetch("/end");
})();
</script>"""
_SAID: Final = "authorization 200; field 200; nothing refused; socket hello by pico; bare socket refused; "
"""The page is whole, and dumped, when its image has come: at the end of the script."""


@dataclass
class Scene:
    """A service behind an agent, and the nodes at which it can be asked: the agent's, and another."""

    stage: Stage
    service: Service
    nodes: dict[str, Node]


@contextlib.contextmanager
def scene(directory: Path) -> Iterator[Scene]:
    """Two nodes of a cluster, an agent at the first, and its service."""
    service = Service()
    with contextlib.closing(service), open_stage(directory) as stage:
        first = stage.node("n1")
        second = stage.node("n2", {"cluster": {"join": [f"127.0.0.1:{first.ports.gossip}"]}})
        stage.agent(first, {ENDPOINT: service.address})
        yield Scene(stage, service, {"one node": first, "two nodes": second})


def ran(command: list[str], directory: Path, said: str | None = None, **env: str) -> str:
    """What a program wrote on both streams, behind its exit status when that is not 0."""
    result = subprocess.run(
        command,
        cwd=directory,
        env=environment(**env),
        input=said,
        stdin=subprocess.DEVNULL if said is None else None,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=_PATIENCE_S,
        check=False,
    )
    return result.stdout if result.returncode == 0 else f"exit status {result.returncode}: {result.stdout}"


def docker(here: Scene, options: argparse.Namespace, report: Report) -> None:
    """Docker's own command: what it sends, a body and an upgrade in one request, is served."""
    directory = here.stage.directory
    (directory / "config.json").write_text(json.dumps({"HttpHeaders": {"x-pico-endpoint": ENDPOINT}}))
    here.service.script = engine
    for where, node in here.nodes.items():
        begin = ["docker", "-H", f"tcp://127.0.0.1:{node.ports.proxy}"]
        for what in (["exec", "-i", CONTAINER, "cat"], ["attach", CONTAINER]):
            said = ran([*begin, *what], directory, "hello\n", DOCKER_CONFIG=str(directory))
            report.check(f"{where}: docker {what[0]}", "asked with" in said and "echo: hello\n" in said, said)


def chromium(here: Scene, options: argparse.Namespace, report: Report) -> None:
    """A browser whose cookie has a national letter is served on each later request."""

    def page(request: Request) -> bytes:
        cookie = (request.get("cookie") or b"").decode()
        body = f"<!DOCTYPE html><p>cookie: {cookie}</p>" if request.target == b"/told" else _COOKIE_PAGE
        return answer(body.encode(), headers=[("Content-Type", "text/html; charset=utf-8")])

    here.service.handler = page
    for where, node in here.nodes.items():
        profile = here.stage.directory / f"profile-{node.name}"
        url = f"http://{ENDPOINT}.localhost:{node.ports.proxy}/"
        command = ["chromium", *QUIET, f"--user-data-dir={profile}", "--virtual-time-budget=5000", "--dump-dom", url]
        said = ran(command, here.stage.directory)
        report.check(f"{where}: a cookie with a national letter", f"cookie: name={_NAME}" in said, said)


def scripts(here: Scene, options: argparse.Namespace, report: Report) -> None:
    """A script of another origin, in a browser, sends what it has a token for, and opens a WebSocket with it."""

    over = threading.Event()

    def serve(connection: Connection) -> None:
        while True:
            request = connection.request_head()
            if request.target == b"/hold":
                over.wait(_PATIENCE_S)
            elif request.target == b"/end":
                over.set()
            if request.get("upgrade") == b"websocket":
                echo_websocket(connection, request)
            elif request.target.startswith(b"/page?"):
                page = _SCRIPT.replace("HOST", request.target[6:].decode()).replace("TOKEN", _TOKEN)
                connection.send(answer(page.encode(), headers=[("Content-Type", "text/html; charset=utf-8")]))
            else:
                connection.send(answer(headers=[("Access-Control-Allow-Origin", "*")]))

    here.service.script = serve
    stage, first = here.stage, here.nodes["one node"]
    tokens = stage.directory / "tokens"
    tokens.write_text(f"script sha256:{hash_of(_TOKEN.encode()).hex()} connect:*\n")
    join = {"cluster": {"join": [f"127.0.0.1:{first.ports.gossip}"]}}
    node = stage.node("n3", {**join, "proxy": {"auth": {"tokens_file": str(tokens)}}})
    stage.agent(node, {"near": here.service.address}, name="near-agent")
    for where, endpoint in (("one node", "near"), ("two nodes", ENDPOINT)):
        url = f"http://{here.service.address}/page?{endpoint}.localhost:{node.ports.proxy}"
        profile = stage.directory / f"profile-{endpoint}"
        over.clear()
        said = ran(["chromium", *QUIET, f"--user-data-dir={profile}", "--dump-dom", url], stage.directory)
        report.check(f"{where}: requests and WebSockets of a script", _SAID in said, said)
    report.check("no service saw the token", _TOKEN.encode() not in here.service.received, "it did")


def http2(here: Scene, options: argparse.Namespace, report: Report) -> None:
    """A browser gets a page, its parts and a WebSocket over HTTP/2."""
    directory = here.stage.directory / "http2"
    directory.mkdir()
    in_chromium(directory, report)


def first(here: Scene, options: argparse.Namespace, report: Report) -> None:
    """The first minute of a developer: a fresh environment, one command, and a page in a browser."""
    directory = here.stage.directory / "first"
    directory.mkdir()
    first_minute(directory, report)


def curl(here: Scene, options: argparse.Namespace, report: Report) -> None:
    """Vault's LIST, and fields and targets with national letters, by curl."""

    def told(request: Request) -> bytes:
        parts = (request.method, request.target, request.get("cookie") or b"", request.get("referer") or b"")
        return answer(b" | ".join(parts), headers=[("X-Name", _NAME.encode().decode("latin-1"))])

    here.service.handler = told
    for where, node in here.nodes.items():
        begin = [*_CURL, "-i"]
        for what, arguments, wanted in (
            ("LIST", ["-X", "LIST", node.url("/v1/secret/metadata")], "LIST | /v1/secret/metadata |"),
            ("a cookie", ["-H", f"Cookie: name={_NAME}", node.url("/a")], f"| name={_NAME} |"),
            ("a referer", ["-H", f"Referer: http://x/{_NAME}", node.url("/b")], f"| http://x/{_NAME}"),
            ("a target", [node.url("/") + _NAME], "GET | /Jos%c3%a9 |"),
        ):
            said = ran([*begin, *arguments], here.stage.directory)
            report.check(f"{where}: {what}", " 200 " in said and wanted in said and f"X-Name: {_NAME}" in said, said)


def ntlm(here: Scene, options: argparse.Namespace, report: Report) -> None:
    """What alice's curl authenticated with NTLM is hers: the next client, who shows nothing, gets nothing of hers."""

    def guarded(connection: Connection) -> None:
        allowed = False
        while True:
            request = connection.read_request()
            scheme, _, token = (request.get("authorization") or b"").decode().partition(" ")
            message = base64.b64decode(token) if scheme == "NTLM" else b""
            allowed = allowed or message[8:12] == _THIRD
            if allowed:
                connection.send(answer(b"secrets of alice"))
            else:
                asked = "NTLM " + base64.b64encode(_CHALLENGE).decode() if message else "NTLM"
                connection.send(answer(b"who?", status=401, headers=[("WWW-Authenticate", asked)]))

    here.service.script = guarded
    for where, node in here.nodes.items():
        alice = ran([*_CURL, "--ntlm", "-u", "alice:secret", node.url(), node.url("/again")], here.stage.directory)
        report.check(f"{where}: its owner is served", alice == "secrets of alice" * 2, alice)
        stranger = ran([*_CURL, node.url()] + [node.url(f"/{number}") for number in range(20)], here.stage.directory)
        report.check(f"{where}: a stranger is not", stranger == "who?" * 21, stranger)


def admin(here: Scene, options: argparse.Namespace, report: Report) -> None:
    """The admin port in a browser: a person logs in, and hostile pages get nothing of it."""
    admin_pages(here.stage, report)


def inspect(here: Scene, options: argparse.Namespace, report: Report) -> None:
    """The inspector of an agent in a browser: by keyboard, with hostile bodies, and beside pages that attack it."""
    inspector(here.stage, report)


def page(here: Scene, options: argparse.Namespace, report: Report) -> None:
    """The live page of the admin port, in a browser, as people use it. Fetches axe-core from the npm registry."""
    live_page(here.stage.directory / "page", report)


def grpc(here: Scene, options: argparse.Namespace, report: Report) -> None:
    """Every kind of call of gRPC by grpcio, through one node and two, and with a node that is killed."""
    all_checks(here.stage, here.nodes, report)


def tinyproxy(here: Scene, options: argparse.Namespace, report: Report) -> None:
    """Agents in a network that lets nobody out but through a proxy."""
    here.service.handler = lambda request: answer(request.body)
    agents_behind_tinyproxy(here.stage, here.service.address, report)


def shells(here: Scene, options: argparse.Namespace, report: Report) -> None:
    """Completions in bash, zsh and fish, and man pages."""
    in_shells(here.stage.directory, here.nodes["one node"], report)
    man_pages(report)


def haproxy(here: Scene, options: argparse.Namespace, report: Report) -> None:
    """A node that is cordoned behind HAProxy: it gets nothing more, and no request fails."""
    here.service.handler = lambda request: answer(request.body)
    behind_haproxy(here.stage, here.stage.directory, list(here.nodes.values()), report)


PARTS: Final = {
    "admin": admin,
    "page": page,
    "docker": docker,
    "chromium": chromium,
    "scripts": scripts,
    "http2": http2,
    "first": first,
    "curl": curl,
    "inspect": inspect,
    "ntlm": ntlm,
    "grpc": grpc,
    **tcp.PARTS,
    "tinyproxy": tinyproxy,
    "shells": shells,
    "haproxy": haproxy,
}
PROGRAMS: Final = {
    "admin": "chromium",
    "page": "chromium",
    "docker": "docker",
    "chromium": "chromium",
    "scripts": "chromium",
    "http2": "chromium",
    "first": "chromium",
    "curl": "curl",
    "inspect": "chromium",
    "ntlm": "curl",
    "grpc": "python3",
    **tcp.PROGRAMS,
    "tinyproxy": "tinyproxy",
    "shells": "fish",
    "haproxy": "haproxy",
}


def main() -> int:
    """Run the parts that were asked for; the exit status."""
    parser = Options(__doc__, PARTS)
    parser.number("--seconds", 20, "that pgbench runs")
    options = parser.read()
    for program in (PROGRAMS[part] for part in options.parts):
        if shutil.which(program) is None:
            print(f"{program} is not installed", file=sys.stderr)
            return 1
    return Report().run("programs", PARTS, options, scene)


if __name__ == "__main__":
    sys.exit(exit_status(main))
