"""Certificates of a real node, as docs/certificates.md has them: those of clients, and several on one port."""

from __future__ import annotations

import re
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.system.curl import curl
from tests.system.service import Service
from tools.stage.certificates import Authority
from tools.stage.stage import Stage

PAGE = Path(__file__).parents[2] / "docs" / "certificates.md"


@pytest.fixture
def stage(tmp_path: Path) -> Iterator[Stage]:
    result = Stage(tmp_path)
    yield result
    result.close()


def test_the_page(stage: Stage, service: Service, tmp_path: Path) -> None:
    """The commands of the page make a certificate that a port takes from a client; without it the handshake fails, and
    the log says why. Each name has its own certificate."""
    (commands,) = re.findall(r"```sh\n(.*?)```", PAGE.read_text(encoding="utf-8"), re.DOTALL)
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
