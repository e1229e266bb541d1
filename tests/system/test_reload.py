"""SIGHUP: what changes while a process runs, and what becomes of a file with faults."""

from __future__ import annotations

import signal
from pathlib import Path

import pytest

from tests.peers.pipe import dial
from tests.system.requesting import GET, ask, client_of
from tests.system.service import Service
from tools.stage.certificates import Tls
from tools.stage.stage import Stage
from tools.stage.waiting import wait_until

PLAIN = pytest.mark.parametrize("stage", ["plain"], indirect=True)


@PLAIN
def test_sighup_changes_the_log_level(stage: Stage, service: Service) -> None:
    """`log.level` of the file is in force after SIGHUP, in both directions, and requests go on meanwhile."""
    node = stage.node(settings={"log": {"level": "error"}})
    stage.agent(node, {"web": service.address})

    for turn in (1, 2):
        node.write_settings({"log": {"level": "info"}})
        node.signal(signal.SIGHUP)
        # At level info a reload is told. The one to level error, in between, is not.
        node.wait_count("Configuration reloaded", turn)
        node.write_settings({"log": {"level": "error"}})
        node.signal(signal.SIGHUP)
        assert ask(stage, node).status == 200
        assert node.admin.status("/ready") == 200
    assert node.output.count("Configuration reloaded") == 2


@PLAIN
def test_sighup_with_a_bad_file(stage: Stage, service: Service) -> None:
    """A bad file is reported with every fault, the old one stays in force, and a good one is taken afterwards."""
    node = stage.node()
    agent = stage.agent(node, {"web": service.address})
    good = node.config_path.read_text()
    for bad, words in (
        ("proxy: {timeout: never}\nnonsense: 1\n", ["proxy.timeout", "nonsense"]),
        ("proxy: [", []),
        ("\x00", []),
    ):
        told = node.output.count("not reloaded")
        node.config_path.write_text(bad)
        node.signal(signal.SIGHUP)
        node.wait_count("not reloaded", told + max(1, len(words)))
        assert all(word in node.output for word in words)
        assert ask(stage, node).status == 200
    agent.config_path.write_text("what: is this\n")
    agent.signal(signal.SIGHUP)
    agent.wait_output("what")
    assert ask(stage, node).status == 200
    node.config_path.write_text(good)
    node.signal(signal.SIGHUP)
    node.wait_output("Configuration reloaded")
    assert ask(stage, node).status == 200
    assert node.running and agent.running


def test_sighup_changes_the_certificate(tmp_path: Path, service: Service) -> None:
    """A new certificate is shown on all three ports after SIGHUP; a broken one is refused and the old one kept."""
    own = Tls.make(tmp_path)
    stage = Stage(tmp_path, own)
    try:
        node = stage.node()
        stage.agent(node, {"web": service.address})
        held = client_of(stage, node)

        def shown() -> list[bytes]:
            found = []
            for port in (node.ports.proxy, node.ports.upstream, node.ports.admin):
                pipe = dial(("127.0.0.1", port), tls=own.context)
                found.append(pipe.certificate)
                pipe.close()
            return found

        old = shown()
        assert len(set(old)) == 1
        own.authority.issue("server")
        node.signal(signal.SIGHUP)
        wait_until(lambda: not set(shown()) & set(old), "the new certificate on every port")
        new = shown()
        assert ask(stage, node).status == 200
        # A connection that was open goes on.
        held.send(GET)
        assert held.read_response().status == 200
        held.close()

        own.pair.cert.write_text("-----BEGIN CERTIFICATE-----\nnonsense\n-----END CERTIFICATE-----\n")
        node.signal(signal.SIGHUP)
        node.wait_output("certificate of")
        assert shown() == new
        assert ask(stage, node).status == 200
        assert stage.new_faults() == []
    finally:
        stage.close()
