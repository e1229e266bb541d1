"""Agents behind tinyproxy, as Debian has it: a proxy with a password, to nodes without and with TLS."""

from __future__ import annotations

import contextlib
import subprocess
from pathlib import Path
from typing import Final

from tools.stage.certificates import Tls
from tools.stage.nodes import Node
from tools.stage.ports import HOST, free_port, is_free
from tools.stage.processes import Process, environment, find_program
from tools.stage.report import Report
from tools.stage.stage import Stage
from tools.stage.waiting import wait_until

_USER: Final = "ann"
_PASSWORD: Final = "s3cret"
_CONFIG: Final = """\
Port {port}
Listen {host}
Timeout 600
MaxClients 50
BasicAuth {user} {password}
ConnectPort {plain}
ConnectPort {secure}
"""
_BODY_BYTES: Final = 10_000_000


def agents_behind_tinyproxy(stage: Stage, service_address: str, report: Report) -> None:
    """Two nodes, without and with TLS, each with an agent that reaches it through one tinyproxy; and agents that it
    does not let through.

    Args:
        stage: of the run.
        service_address: of a service that answers PUT with as many bytes as it got.
        report: gets what was seen.
    """
    plain = stage.node("behind-plain")
    with contextlib.ExitStack() as end:
        with_tls = Stage(_below(stage.directory, "tls"), Tls.make(_below(stage.directory, "certificates")))
        end.callback(with_tls.close)
        secure = with_tls.node("behind-tls")
        port = free_port()
        config = stage.directory / "tinyproxy.conf"
        ports = {"plain": plain.ports.upstream, "secure": secure.ports.upstream}
        config.write_text(_CONFIG.format(port=port, host=HOST, user=_USER, password=_PASSWORD, **ports))
        program = find_program("tinyproxy", "tinyproxy")
        proxy = stage.add(Process("tinyproxy", [program, "-d", "-c", str(config)], stage.directory))
        wait_until(lambda: not is_free(port), "tinyproxy to listen")
        url = f"http://{_USER}:{_PASSWORD}@{HOST}:{port}"
        for on, node in ((stage, plain), (with_tls, secure)):
            agent = on.agent(node, {"web": service_address}, {"connect": {"proxy": url}}, name=f"{node.name}-agent")
            sent = _put(node, on, stage.directory)
            report.check(f"{node.name}: a body there and back", sent == f"200 {_BODY_BYTES}", sent)
            shows = f"CONNECT localhost:{node.ports.upstream}" in proxy.output
            report.check(f"{node.name}: tinyproxy was asked", shows, proxy.output[-500:])
            report.check(f"{node.name}: no password in the log", _PASSWORD not in agent.output, agent.output)
        for name, proxy_url, upstream, words in (
            ("nobody", f"http://{HOST}:{port}", plain.upstream_url, "wants a user and a password (407)"),
            ("a wrong password", f"http://{_USER}:x@{HOST}:{port}", plain.upstream_url, "does not take the user"),
            ("another port", url, f"http://localhost:{free_port()}", "does not allow CONNECT"),
        ):
            settings = {"connect": {"proxy": proxy_url}}
            agent = stage.agent(upstream, {"web": service_address}, settings, name=name.replace(" ", "-"))
            agent.wait_output("Could not register")
            report.check(f"{name}: the reason", words in agent.output, agent.output)


def _below(directory: Path, name: str) -> Path:
    made = directory / name
    made.mkdir()
    return made


def _put(node: Node, stage: Stage, directory: Path) -> str:
    """The status and the size of the answer to a PUT of `_BODY_BYTES`."""
    body = directory / "body"
    body.write_bytes(bytes(_BODY_BYTES))
    command = ["curl", "-q", "-sS", "--noproxy", "*", "-H", "x-pico-endpoint: web", "-T", str(body), "-o", "/dev/null"]
    trusted = ["--cacert", str(stage.tls.authority.ca)] if stage.tls is not None else []
    command += [*trusted, "-w", "%{http_code} %{size_download}", node.url("/", "localhost")]
    return subprocess.run(
        command, env=environment(), stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, timeout=60, check=False
    ).stdout
