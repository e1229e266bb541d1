"""Agents of an earlier version at a node that authenticates: they send their token as ever."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from pico_twisted.core.access.credentials_file import hash_of
from tests.system.service import Service
from tools.stage.asking import get
from tools.stage.stage import Stage, open_stage

TOKEN = "pico_of-an-old-agent"


@pytest.fixture
def stage(tmp_path: Path) -> Iterator[Stage]:
    """For processes of either version."""
    with open_stage(tmp_path) as result:
        yield result


def test_an_old_agent(stage: Stage, tmp_path: Path, earlier: str, service: Service) -> None:
    """With its token it serves; without, it logs the node's words and goes on trying; when the token is taken away its
    session ends, and other agents are left alone."""
    tokens = tmp_path / "tokens"
    lines = [f"{name} sha256:{hash_of(token.encode()).hex()} listen:*\n" for name, token in (("a", TOKEN), ("b", "b"))]
    tokens.write_text("".join(lines))
    node = stage.node(settings={"upstream": {"auth": {"tokens_file": str(tokens)}}})
    agent = stage.agent(node, {"web": service.address}, {"connect": {"token": TOKEN}}, prelude=earlier)
    other = stage.agent(node, {"other": service.address}, {"connect": {"token": "b"}}, name="agent-2")
    assert get(node.ports.proxy, "/", {"x-pico-endpoint": "web"}).status == 200
    stranger = stage.agent(node, {"none": service.address}, name="agent-3", wait=False, prelude=earlier)
    stranger.wait_output("the node refused (401): this port wants a token, a JWT or a client certificate")
    tokens.write_text(lines[1])
    node.signal(1)
    node.wait_endpoint("web", 0)
    agent.wait_output("the node refused (401): the credential is not known here")
    assert get(node.ports.proxy, "/", {"x-pico-endpoint": "other"}).status == 200
    assert all(one.running for one in (agent, other, stranger))
