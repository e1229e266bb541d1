"""The generated reference and samples."""

from __future__ import annotations

import re
from pathlib import Path

import attrs
import pytest
import yaml

from pico_twisted.config import AgentConfig, ListenerConfig, NodeConfig, ServiceAddress, load_agent, load_node
from pico_twisted.config.fields import all_keys
from tools.config_docs import generated_files, main

ROOT = Path(__file__).resolve().parents[2]
FILES = generated_files()


@pytest.mark.parametrize("name", list(FILES))
def test_generated_files_are_up_to_date(name: str) -> None:
    """`make config-docs` was run after the last change of a key."""
    assert (ROOT / name).read_text(encoding="utf-8") == FILES[name], f"{name} is stale: run make config-docs"


def test_the_samples_change_nothing() -> None:
    """A node with the sample is a node without a file; an agent has one listener, as an example."""
    assert load_node(str(ROOT / "etc/pico.yaml")) == NodeConfig()
    agent = load_agent(str(ROOT / "etc/pico-agent.yaml"))
    assert agent.listeners == (ListenerConfig(endpoint="my-endpoint", addr=ServiceAddress("http", "localhost", 3000)),)
    assert attrs.evolve(agent, listeners=()) == AgentConfig()


@pytest.mark.parametrize(("name", "cls"), [("etc/pico.yaml", NodeConfig), ("etc/pico-agent.yaml", AgentConfig)])
def test_the_samples_hold_every_key_with_its_help(name: str, cls: type) -> None:
    """Other readers of YAML see the same keys, and each has its help above it."""
    text = FILES[name]
    data = yaml.safe_load(text)
    words = " ".join(text.replace("#", " ").split())
    for key in all_keys(cls):
        holder = data
        for part in key.path:
            holder = holder[part]
        assert " ".join(key.help.replace("`", "").replace("#", " ").split()) in words


@pytest.mark.parametrize("name", list(FILES))
def test_generated_files_hold_together(name: str) -> None:
    """No line of a sample is wider than a page, no file names a machine's directories, and the tables are tables."""
    assert not re.search(r"/(home|root|tmp|Users)/", FILES[name])
    for line in FILES[name].splitlines():
        assert line == line.rstrip()
        if line.startswith("|"):
            assert line.endswith("|")
        elif not line.startswith("pico:"):
            assert len(line) <= 120


def test_the_reference_holds_every_key() -> None:
    """Of both daemons, with the kind, the default and the help."""
    for cls in (NodeConfig, AgentConfig):
        for key in all_keys(cls):
            if key.kind is not None:
                row = re.search(rf"^\| `{re.escape(key.dotted)}` \|.*$", FILES["docs/configuration.md"], re.MULTILINE)
                assert row is not None
                assert key.help in FILES["docs/configuration.md"]


def test_stale_files_are_told_and_rewritten(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The check writes nothing; a second run has nothing to do."""
    assert main([str(tmp_path), "--check"]) == 1
    assert list(tmp_path.iterdir()) == []
    assert "docs/configuration.md is stale" in capsys.readouterr().err
    assert main([str(tmp_path)]) == 0
    assert sorted(FILES) == sorted(str(path.relative_to(tmp_path)) for path in tmp_path.rglob("*") if path.is_file())
    capsys.readouterr()
    assert main([str(tmp_path), "--check"]) == 0
    assert main([str(tmp_path)]) == 0
    assert capsys.readouterr().out == ""
