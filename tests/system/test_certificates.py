"""Certificates of a real node, as docs/certificates.md has them: those of clients, and several on one port."""

from __future__ import annotations

import re
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.system.curl import curl
from tests.system.service import Service
from tools.stage.certificates import Authority
from tools.stage.nodes import Node
from tools.stage.stage import Stage
from tools.stage.waiting import wait_until

PAGE = Path(__file__).parents[2] / "docs" / "certificates.md"


@pytest.fixture
def stage(tmp_path: Path) -> Iterator[Stage]:
    result = Stage(tmp_path)
    yield result
    result.close()


def test_the_page(stage: Stage, service: Service, tmp_path: Path) -> None:
    """The commands of the page make a certificate that a port takes from a client; without it the handshake fails, and
    the log says why. Each name has its own certificate."""
    (commands,) = re.findall(r"```sh here\n(.*?)```", PAGE.read_text(encoding="utf-8"), re.DOTALL)
    subprocess.run(["sh", "-e", "-c", commands], cwd=tmp_path, check=True, capture_output=True)
    authority = Authority(tmp_path)
    first, second = authority.issue("first", ("web.first.test",)), authority.issue("second", ("*.second.test",))
    tls = {
        "cert": str(first.cert),
        "key": str(first.key),
        "certificates": [{"cert": str(second.cert), "key": str(second.key)}],
        "client_ca": str(tmp_path / "agents-ca.pem"),
        "client_auth": "required",
    }
    node = stage.node(settings={"proxy": {"tls": tls}})
    stage.agent(node, {"web": service.address})

    def ask(host: str, *arguments: str) -> tuple[int, int]:
        answer = curl(
            f"https://{host}:{node.ports.proxy}/",
            *("--cacert", str(authority.ca), "--resolve", f"{host}:{node.ports.proxy}:127.0.0.1"),
            *arguments,
            directory=tmp_path,
        )
        return answer.code, answer.status

    shows = ("--cert", str(tmp_path / "agent.pem"), "--key", str(tmp_path / "agent-key.pem"))
    for host in ("web.first.test", "web.second.test"):
        assert ask(host, *shows) == (0, 200)
    assert ask("web.third.test", *shows) == (60, 0)  # the name is in no certificate
    code, status = ask("web.first.test")
    assert code != 0 and status == 0
    node.wait_output("A TLS handshake failed: peer did not return a certificate")
    assert stage.new_faults() == []


def test_a_revoked_node(stage: Stage, service: Service, tmp_path: Path) -> None:
    """When the list of the authority changes, the links of a revoked node end within seconds and it gets no requests;
    with another certificate it is a node again. Nobody is told to read anything."""
    authority = Authority(tmp_path, "cluster")
    pairs = {name: authority.issue(name, (f"{name}.cluster.test",)) for name in ("n1", "n2")}
    crl = authority.revoke()

    def settings(name: str, *join: Node) -> dict[str, Any]:
        pair = pairs[name]
        tls = {
            "cert": str(pair.cert),
            "key": str(pair.key),
            "ca": str(authority.ca),
            "crl": str(crl),
            "allowed_names": ["n*.cluster.test"],
        }
        return {"cluster": {"tls": tls, "join": [f"127.0.0.1:{node.ports.gossip}" for node in join]}}

    holder = stage.node("n1", settings("n1"))
    entry = stage.node("n2", settings("n2", holder))
    stage.agent(holder, {"web": service.address})

    def asked() -> int:
        host = ("--header", "x-pico-endpoint: web")
        return curl(f"http://127.0.0.1:{entry.ports.proxy}/", *host, directory=tmp_path).status

    wait_until(lambda: asked() == 200, "a request over the link")
    authority.revoke(pairs["n1"])
    entry.wait_output("it was revoked")
    wait_until(lambda: asked() == 502, "no request over a link")
    authority.issue("n1", ("n1.cluster.test",))
    wait_until(lambda: asked() == 200, "a request over a new link")
    assert stage.new_faults() == []
