"""The two commands: help, check, flags, faults, ports in use, exit statuses."""

from __future__ import annotations

import os
import pty
import re
import select
import socket
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from tests.system.service import Service, answer
from tests.system.wire import connect
from tools.stage.asking import get
from tools.stage.certificates import Authority
from tools.stage.ports import Ports, free_port
from tools.stage.processes import Process
from tools.stage.stage import Stage
from tools.stage.waiting import PATIENCE_S, wait_until

PLAIN = pytest.mark.parametrize("stage", ["plain"], indirect=True)
pytestmark = PLAIN


def run(stage: Stage, *arguments: str) -> tuple[int, str]:
    """Run a command to its end; its exit status and output."""
    process = stage.command(arguments[0], *arguments)
    return process.wait_exit(), process.output


def lines(output: str) -> list[str]:
    """The lines of an output that are not empty."""
    return [line for line in output.splitlines() if line.strip()]


@pytest.mark.parametrize("command", ["pico", "pico-agent"])
def test_help_and_version(stage: Stage, command: str) -> None:
    """--help tells of every part, --version of the version; both end with 0."""
    status, output = run(stage, command, "--help")
    assert status == 0
    for word in ("--config", "--check", "--version", "--log.level", "--grace-period"):
        assert word in output
    assert ("--proxy.bind-addr" if command == "pico" else "--listen") in output
    status, output = run(stage, command, "--version")
    assert status == 0 and re.search(r"\d+\.\d+", output)


def test_check(stage: Stage, tmp_path: Path) -> None:
    """--check says what is wrong, every fault with its path, found and expected, and serves nothing."""
    good = tmp_path / "good.yaml"
    good.write_text("proxy: {bind_addr: '127.0.0.1:0', timeout: 5s}\n")
    assert run(stage, "pico", "--config", str(good), "--check")[0] == 0
    bad = tmp_path / "bad.yaml"
    bad.write_text(
        "proxy: {bind_addr: 'x:y:z', timeout: soon}\nupstream: 7\nunknown: 1\nlog: {level: loud}\nlimits: {calls: -1}\n"
    )
    for arguments in (("--check",), ()):
        status, output = run(stage, "pico", "--config", str(bad), *arguments)
        assert status == 1
        for path in ("proxy.bind_addr", "proxy.timeout", "upstream", "unknown", "log.level", "limits.calls"):
            assert len([line for line in lines(output) if path in line]) == 1, (path, output)
        for found in ("soon", "loud", "-1"):
            assert found in output
        assert "Traceback" not in output
        assert len(lines(output)) == 6, output


@pytest.mark.parametrize("command", ["pico", "pico-agent"])
def test_bad_files(stage: Stage, tmp_path: Path, command: str) -> None:
    """A file that is missing, no YAML or no mapping: one clear line, status 1."""
    text = tmp_path / "text.yaml"
    text.write_text("just: [a\n")
    items = tmp_path / "items.yaml"
    items.write_text("- a\n- b\n")
    for path in (tmp_path / "missing.yaml", text, items, tmp_path):
        status, output = run(stage, command, "--config", str(path))
        assert status == 1
        assert path.name in output or str(path) in output
        assert "Traceback" not in output
        assert len(lines(output)) == 1, output


@pytest.mark.parametrize(
    ("arguments", "word"),
    [
        (("pico", "--proxy.timeout", "soon"), "proxy.timeout"),
        (("pico", "--nonsense"), "--nonsense"),
        (("pico", "surplus"), "surplus"),
        (("pico-agent", "--listen", "no-address"), "listen"),
        (("pico-agent", "--listen", "-bad-=3000"), "listen"),
        (("pico-agent", "--listen", "a=3000", "--connect.url", "gopher://x"), "connect.url"),
        (("pico-agent",), "listen"),
    ],
)
def test_bad_flags(stage: Stage, arguments: tuple[str, ...], word: str) -> None:
    """One clear line for each fault, status 1, no usage page."""
    status, output = run(stage, *arguments)
    assert status == 1
    assert word in output and "Traceback" not in output
    assert len(lines(output)) == 1, output


@pytest.mark.parametrize("port", ["proxy", "admin", "upstream", "gossip", "gossip over UDP"])
def test_a_port_in_use(stage: Stage, port: str) -> None:
    """One clear message that names the port, status 1, and nothing is left running."""
    port, _, over_udp = port.partition(" ")
    with socket.socket(type=socket.SOCK_DGRAM if over_udp else socket.SOCK_STREAM) as taken:
        taken.bind(("127.0.0.1", 0))
        if not over_udp:
            taken.listen()
        number = taken.getsockname()[1]
        ports = dict.fromkeys(("proxy", "admin", "upstream", "gossip"), 0)
        status, output = run(stage, "pico", *Ports(**ports | {port: number}).flags())
    assert status == 1
    said = [line for line in lines(output) if str(number) in line and "in use" in line.lower()]
    assert len(said) == 1 and port in said[0], output
    assert "Traceback" not in output


def test_a_port_in_use_in_the_background(stage: Stage, tmp_path: Path) -> None:
    """twistd that leaves the terminal tells why it could not start, with status 1; so does the log, without a stack."""
    with socket.create_server(("127.0.0.1", 0)) as taken:
        number = taken.getsockname()[1]
        flags = Ports(proxy=number, admin=0, upstream=0, gossip=0).flags()
        done = subprocess.run(
            [sys.executable, "-c", "from twisted.scripts.twistd import run; run()", "--pidfile=", "pico", *flags],
            cwd=tmp_path,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            timeout=PATIENCE_S,
            check=False,
        )
    assert done.returncode == 1 and f"127.0.0.1:{number}".encode() in done.stderr
    wait_until(lambda: "in use" in (tmp_path / "twistd.log").read_text(), "the reason in the log")
    assert "Traceback" not in (tmp_path / "twistd.log").read_text()


def test_the_agents_admin_port_in_use(stage: Stage) -> None:
    """The same for the agent's own port."""
    with socket.create_server(("127.0.0.1", 0)) as taken:
        number = taken.getsockname()[1]
        status, output = run(stage, "pico-agent", "--listen", "a=3000", "--admin.bind-addr", f"127.0.0.1:{number}")
    assert status == 1
    assert len([line for line in lines(output) if str(number) in line and "in use" in line.lower()]) == 1, output


def test_bad_certificates(stage: Stage, tmp_path: Path) -> None:
    """A certificate that is missing or no certificate: one line that names it, status 1, before anything is served."""
    junk = tmp_path / "junk.pem"
    junk.write_text("junk")
    for cert in (junk, tmp_path / "missing.pem"):
        flags = ["--proxy.tls.cert", str(cert), "--proxy.tls.key", str(cert), *Ports(0, 0, 0, 0).flags()]
        status, output = run(stage, "pico", *flags)
        assert status == 1
        assert cert.name in output and "proxy.tls" in output and "Traceback" not in output, output


def test_flags_alone(stage: Stage, service: Service) -> None:
    """Without any file, by flags alone: node and agent work together, --listen included."""
    ports = Ports.pick()
    node = stage.command("pico", "pico", *ports.flags(), "--cluster.node-id", "by-flags")
    stage.command(
        "pico-agent",
        "pico-agent",
        "--connect.url",
        f"http://127.0.0.1:{ports.upstream}",
        "--listen",
        f"one={service.address}",
        "--listen",
        f"two=http://localhost:{service.port}",
    )
    for endpoint in ("one", "two"):

        def served(endpoint: str = endpoint) -> bool:
            assert node.running, node.output
            try:
                client = connect(("127.0.0.1", ports.proxy))
            except OSError:
                return False
            client.send(f"GET / HTTP/1.1\r\nHost: {endpoint}.example\r\n\r\n".encode())
            response = client.read_response()
            client.close()
            return response.status == 200

        wait_until(served, f"{endpoint} to be served")


def test_flags_beat_the_file_and_the_environment_is_expanded(stage: Stage, tmp_path: Path) -> None:
    """A flag wins over the file; ${VAR:default} is expanded only when asked for."""
    ports = Ports.pick()
    config = tmp_path / "pico.yaml"
    config.write_text(
        yaml.safe_dump(
            {
                "cluster": {
                    "node_id": "${PICO_TEST_UNSET_NAME:from-default}",
                    "gossip": {"bind_addr": f"127.0.0.1:{ports.gossip}"},
                },
                "proxy": {"bind_addr": "127.0.0.1:1"},
                "admin": {"bind_addr": f"127.0.0.1:{ports.admin}"},
                "upstream": {"bind_addr": f"127.0.0.1:{ports.upstream}"},
            }
        )
    )
    arguments = ["pico", "--config", str(config), f"--proxy.bind-addr=127.0.0.1:{ports.proxy}"]
    status, output = run(stage, *arguments)
    assert status == 1 and "cluster.node_id" in output
    stage.command("pico", *arguments, "--config.expand-env")

    def error() -> str:
        try:
            client = connect(("127.0.0.1", ports.proxy))
        except OSError:
            return ""
        client.send(b"GET / HTTP/1.1\r\nHost: nobody.example\r\n\r\n")
        value = client.read_response().get("x-pico-error") or b""
        client.close()
        return value.decode()

    assert wait_until(error, "an answer").startswith("from-default; ")


def test_port_0(stage: Stage) -> None:
    """Port 0 takes free ports; the log tells them as JSON, and the node's own status too."""
    process: Process = stage.command("pico", "pico", *Ports(0, 0, 0, 0).flags())

    def up() -> dict[str, object] | None:
        return next((record for record in process.records if {"proxy", "admin", "upstream"} <= set(record)), None)

    record = wait_until(up, "the line with the ports")
    ports = [int(str(record[name]).rpartition(":")[2].rstrip("/")) for name in ("proxy", "admin", "upstream")]
    assert len(set(ports)) == 3 and 0 not in ports
    client = connect(("127.0.0.1", ports[0]))
    client.send(b"GET / HTTP/1.1\r\nHost: nobody.example\r\n\r\n")
    assert client.read_response().status == 502
    client.close()


def test_a_refusal_is_told_in_the_servers_words(stage: Stage) -> None:
    """An agent that is refused logs what the server said, and goes on trying at the slow end."""
    service = Service()
    service.handler = lambda request: answer(
        b'{"error": "the moon is in the wrong house"}',
        status=403,
        reason="Forbidden",
        headers=[("Content-Type", "application/json")],
    )
    try:
        agent = stage.agent(f"http://127.0.0.1:{service.port}", {"web": "3000"})
        agent.wait_output("403")
        agent.wait_output("the moon is in the wrong house")
        service.wait_request()
        assert agent.running
    finally:
        service.close()


def test_https_to_the_service(stage: Stage, tmp_path: Path) -> None:
    """An https service is reached over TLS when its authority is trusted; when nobody trusts it, it is a 502."""
    authority = Authority(tmp_path, "of-the-service")
    service = Service(tls=authority.server_context(authority.issue("service")))
    try:
        node = stage.node()
        url = f"https://localhost:{service.port}"
        stage.agent(node, {"trusted": url}, name="agent-1", env={"SSL_CERT_FILE": str(authority.ca)})
        stage.agent(node, {"stranger": url}, name="agent-2")
        for endpoint, status in (("trusted", 200), ("stranger", 502)):
            client = connect(node.proxy)
            client.send(f"GET /{endpoint} HTTP/1.1\r\nHost: {endpoint}.example\r\n\r\n".encode())
            assert client.read_response().status == status
            client.close()
        assert [request.target for request in service.requests] == [b"/trusted"]
    finally:
        service.close()


def test_no_environment_proxy(stage: Stage, service: Service) -> None:
    """The environment names a proxy that does not exist (see the harness); neither process asks it."""
    node = stage.node()
    agent = stage.agent(node, {"web": service.address})
    environ = Path(f"/proc/{agent.pid}/environ").read_bytes()
    assert b"http_proxy=http://127.0.0.1:1" in environ
    client = connect(node.proxy)
    client.send(b"GET / HTTP/1.1\r\nHost: web.example\r\n\r\n")
    assert client.read_response().status == 200
    client.close()


def test_an_agent_without_a_node(stage: Stage) -> None:
    """An agent whose node is not there keeps trying, says so, and finds it when it comes."""
    port = free_port()
    agent = stage.agent(f"http://127.0.0.1:{port}", {"web": "3000"})
    agent.wait_output(str(port))
    assert agent.running
    ports = Ports(free_port(), free_port(), port, free_port())
    node = stage.node(ports=ports)
    node.wait_endpoint("web")


def test_the_block_on_a_terminal(stage: Stage, service: Service) -> None:
    """On a terminal both commands begin with one block for a person: addresses, openness, a curl line to paste."""
    ports = Ports.pick()
    master, slave = pty.openpty()
    shown = bytearray()
    try:
        node = stage.command("pico", "pico", *ports.flags(), terminal=slave)

        def text() -> str:
            while select.select([master], [], [], 0)[0]:
                shown.extend(os.read(master, 65536))
            return shown.decode("utf-8", "replace")

        wait_until(lambda: str(ports.proxy) in text() and str(ports.upstream) in text(), "the node's block")
        assert node.running
        assert str(ports.admin) in text() and '{"time"' not in text()
        assert "open to" in text().lower() and text().startswith("Pico node ")
        shown.clear()
        url = f"http://127.0.0.1:{ports.upstream}"
        stage.command(
            "pico-agent", "pico-agent", "--connect.url", url, "--listen", f"web={service.address}", terminal=slave
        )
        wait_until(lambda: "curl" in text(), "the agent's block")
        assert f"  http://web.localhost:{ports.proxy}/\r\n" in text()
        assert f"  curl -H 'x-pico-endpoint: web' http://127.0.0.1:{ports.proxy}/\r\n" in text()
        assert "web" in text() and service.address in text()
        assert '{"time"' not in text()
        shown.clear()
        # a line for the request, of each, with what fits
        assert get(ports.proxy, "/hook", {"x-pico-endpoint": "web"})[0] == 200
        request = re.compile(r"^\d\d:\d\d:\d\d  GET  /hook {16}200 +[0-9.]+ ms +[0-9.]+ K?B  web\r$", re.MULTILINE)
        wait_until(lambda: len(request.findall(text())) == 2, "the lines of node and agent")
    finally:
        os.close(master)
        os.close(slave)
