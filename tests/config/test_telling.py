"""A configuration as operators are told it."""

from __future__ import annotations

from pathlib import Path

import pytest

from pico_twisted.config import AgentConfig, NodeConfig, load_agent, load_node
from pico_twisted.config.fields import all_keys
from pico_twisted.config.telling import told_values

NODE = """\
cluster: {secrets: [a-secret-that-nobody-sees], join: [n2, n3]}
"""
AGENT = """\
connect: {token: a-token-that-nobody-sees, proxy: "http://ann:pass-word@proxy.example.com:3128"}
listeners: [{endpoint: web, addr: 3000}]
"""


@pytest.mark.parametrize("kind", [NodeConfig, AgentConfig])
def test_every_value_that_is_not_empty_is_told(kind: type[NodeConfig | AgentConfig]) -> None:
    """The defaults, as a file would say them."""
    told = told_values(kind())
    wanted = {key.dotted: key.default_text for key in all_keys(kind) if key.kind is not None and key.default_text}
    assert told == wanted


def test_secrets_are_not(tmp_path: Path) -> None:
    """Of them it is told that they are there; lists of mappings have their places."""
    file = tmp_path / "agent.yaml"
    file.write_text(AGENT)
    told = told_values(load_agent(str(file)))
    assert told["connect.token"] == "(hidden)" and told["listeners[0].endpoint"] == "web"
    assert told["connect.proxy"] == "(hidden)"
    assert not any(word in value for value in told.values() for word in ("nobody", "pass-word", "ann"))


def test_lists_of_secrets_are_counted(tmp_path: Path) -> None:
    """How many secrets a node has helps, when one is being replaced."""
    file = tmp_path / "pico.yaml"
    file.write_text(NODE)
    told = told_values(load_node(str(file)))
    assert told["cluster.secrets"] == "1 (hidden)" and told["cluster.join"] == "n2:8003,n3:8003"


def test_parameters_of_urls_that_are_secret(tmp_path: Path) -> None:
    """Some collectors take their key in the URL."""
    file = tmp_path / "pico.yaml"
    file.write_text('tracing: {endpoint: "https://c.example.com/v1/traces?team=a&api_key=that-nobody-sees"}\n')
    told = told_values(load_node(str(file)))
    assert told["tracing.endpoint"] == "https://c.example.com/v1/traces?team=a&api_key=(hidden)"
