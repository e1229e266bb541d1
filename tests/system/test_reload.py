"""A reload: what changes while a process runs, what takes a restart, and what becomes of a file with faults."""

from __future__ import annotations

import os
import signal
import stat
import subprocess
from pathlib import Path

import pytest

from tests.ctl.harness import picoctl
from tests.peers.pipe import dial
from tests.system.asking import Asking
from tests.system.requesting import GET, ask, client_of
from tests.system.service import Service
from tests.system.workers import Host
from tools.stage.certificates import Tls, make
from tools.stage.nodes import Node
from tools.stage.ports import Ports, free_port
from tools.stage.stage import Stage, open_stage
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


@pytest.mark.parametrize("number", [None, signal.SIGHUP])
def test_a_new_certificate(tmp_path: Path, service: Service, number: signal.Signals | None) -> None:
    """It is shown on all three ports, at once after SIGHUP and within seconds without; what was open goes on. A broken
    one is told, and the one before kept."""
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
        if number:
            node.signal(number)
        wait_until(lambda: not set(shown()) & set(old), "the new certificate on every port")
        new = shown()
        assert ask(stage, node).status == 200
        # A connection that was open goes on.
        held.send(GET)
        assert held.read_response().status == 200
        held.close()

        own.pair.cert.write_text("-----BEGIN CERTIFICATE-----\nnonsense\n-----END CERTIFICATE-----\n")
        if number:
            node.signal(number)
            node.wait_output("is not reloaded: upstream.tls.cert")
            assert "Configuration reloaded" not in node.output.partition("is not reloaded")[2]
        else:
            node.wait_output("those before stay: upstream.tls")
        assert shown() == new
        assert ask(stage, node).status == 200
        assert stage.new_faults() == []
    finally:
        stage.close()


def reload(node: Node, ca: Path | None = None) -> subprocess.CompletedProcess[str]:
    """Ask a node for a reload, as an operator would."""
    trust = () if ca is None else ("--ca", str(ca))
    url = f"{'https' if ca else 'http'}://localhost:{node.ports.admin}"
    return picoctl("reload", "--admin", url, *trust)


@PLAIN
def test_picoctl_reload_says_what_came_of_it(stage: Stage) -> None:
    """What changed with both values, what takes a restart, each fault; the log has the same."""
    node = stage.node(settings={"log": {"level": "info"}})
    done = reload(node)
    assert (done.returncode, done.stdout, done.stderr) == (0, "reloaded: nothing has changed\n", "")
    node.write_settings({"log": {"level": "debug"}, "cluster": {"node_id": "other"}})
    for line in (
        "log.level info -> debug (unchanged: cluster.node_id needs a restart)",
        "nothing has changed (unchanged: cluster.node_id needs a restart)",
    ):
        done = reload(node)
        assert (done.returncode, done.stdout, done.stderr) == (0, f"reloaded: {line}\n", "")
        node.wait_output(f"Configuration reloaded: {line}")
    node.write_settings({"log": {"level": "loud"}, "proxy": {"timeout": "never"}})
    done = reload(node)
    assert (done.returncode, done.stdout) == (1, "")
    told = done.stderr.splitlines()
    assert [line.split(" (")[0] for line in told] == [
        "picoctl: not reloaded: proxy.timeout",
        "picoctl: not reloaded: log.level",
    ]


def test_a_reload_is_all_or_nothing(tmp_path: Path) -> None:
    """With one certificate that cannot be used nothing is taken, neither the level nor the other certificates, and
    nobody says that something was; then all of it is. An expired one is refused, unless it is in use already."""
    own = Tls.make(tmp_path)
    with open_stage(tmp_path, own) as stage:
        node = stage.node()
        good = own.pair.key.read_bytes()
        own.authority.issue("server")
        node.write_settings({"log": {"level": "debug"}})
        own.pair.key.write_bytes(good)  # of the certificate before
        done = reload(node, own.authority.ca)
        assert (done.returncode, done.stdout) == (1, "")
        assert done.stderr.count("is not the key of the certificate in") == 3
        assert "Configuration reloaded" not in node.output and '"level":"debug"' not in node.output
        own.authority.issue("server")
        done = reload(node, own.authority.ca)
        assert done.returncode == 0
        assert "log.level info -> debug; " in done.stdout
        assert all(f"{name} certificate until 20" in done.stdout for name in ("proxy", "admin", "upstream"))
        assert "expires on 20" in done.stderr  # the stage's certificates are good for a week


@PLAIN
def test_an_expired_certificate(stage: Stage, tmp_path: Path) -> None:
    """A node starts with it and says so; a reload for something else is not kept from it; a new one that has expired
    is refused."""
    old = make(tmp_path, "old", days=(-9, -2))
    tls = {"cert": old.cert_file, "key": old.key_file}
    node = stage.node(settings={"proxy": {"tls": tls}})
    node.wait_output("expired on 20")
    node.write_settings({"log": {"level": "debug"}})
    done = reload(node)
    assert done.returncode == 0 and "log.level" in done.stdout and "expired on 20" in done.stderr
    make(tmp_path, "old", days=(-5, -1))
    done = reload(node)
    assert done.returncode == 1 and "which expired on 20" in done.stderr


@PLAIN
def test_the_admin_port_as_a_file(stage: Stage, tmp_path: Path) -> None:
    """In the directory that systemd makes a node and an agent answer, whatever their admin ports are; the socket is
    for their user alone; without a directory there is none."""
    for name, start in (("node", ["pico", *Ports.pick().flags()]), ("agent", ["pico-agent", "--listen=web=1"])):
        directory = tmp_path / name
        directory.mkdir()
        daemon = stage.command(name, *start, env={"RUNTIME_DIRECTORY": str(directory)})
        path = directory / "admin"
        wait_until(path.exists, f"the socket of the {name}")
        daemon.wait_output("starts" if name == "agent" else "is up")
        assert reload_at(path).stdout == "reloaded: nothing has changed\n"
        assert stat.S_IMODE(path.stat().st_mode) == 0o600
        daemon.terminate()
        assert daemon.wait_exit() == 0
        done = reload_at(path)
        assert done.returncode == 3 and done.stderr.startswith(f"picoctl: nothing answers at unix:{path}")


def reload_at(path: Path) -> subprocess.CompletedProcess[str]:
    """Ask for a reload at a Unix socket."""
    return picoctl("reload", "--admin", f"unix:{path}")


def test_workers_reload_together(tmp_path: Path) -> None:
    """Whichever worker is asked, both take the file and the host's own log does; one fault, and neither does."""
    config = tmp_path / "host.yaml"
    config.write_text("log: {level: info}\n")
    runtime = tmp_path / "run"
    runtime.mkdir()
    host = Host(tmp_path, "--config", str(config), env={"RUNTIME_DIRECTORY": str(runtime)})
    try:
        host.up()
        config.write_text("log: {level: debug}\n")
        done = reload_at(runtime / "admin")
        assert (done.returncode, done.stdout, done.stderr) == (0, "reloaded: log.level info -> debug\n", "")
        host.wait_count("Configuration reloaded: log.level info -> debug", 2)
        config.write_text("log: {level: loud}\n")
        done = picoctl("reload", "--admin", f"http://127.0.0.1:{host.ports.admin}")
        assert done.returncode == 1 and "log.level" in done.stderr
        host.signal(signal.SIGHUP)
        host.wait_count("The configuration is not reloaded", 2)
        assert host.output.count("Configuration reloaded") == 2
    finally:
        host.close()


@PLAIN
def test_listeners_change_under_load(stage: Stage, one: Service, two: Service) -> None:
    """Of 20 listeners one is changed and one removed, and another one is added: no request of the other 18 fails, and
    none of the changed one, which is answered by its new service; the sessions of all these stay."""
    node = stage.node()
    admin = free_port()
    names = [f"web-{number}" for number in range(20)]
    settings = {"admin": {"bind_addr": f"127.0.0.1:{admin}"}}
    agent = stage.agent(node, dict.fromkeys(names, one.address), settings)
    agent.wait_output("All listeners are registered")
    asking = [Asking([node.proxy], name, clients=1, pause_s=0.05, path="/") for name in names[:19]]
    try:
        for client in asking:
            client.wait_more(5)
        listeners = [{"endpoint": name, "addr": one.address} for name in names[:18]]
        changed = {"endpoint": "web-18", "addr": two.address}
        added = {"endpoint": "web-20", "addr": two.address}
        agent.write_settings({"listeners": [added, *listeners, changed]})
        done = picoctl("reload", "--admin", f"http://127.0.0.1:{admin}")
        assert done.stdout == (
            "reloaded: listener added: web-20; "
            f"listener changed: web-18 (addr {one.address} -> {two.address}); listener removed: web-19\n"
        )
        for client in asking[:18]:
            client.wait_more(20, body=b"one")
        asking[18].wait_more(20, body=b"two")
        node.wait_endpoint("web-20")
        node.wait_endpoint("web-19", 0)
        agent.wait_count('"Registered"', 21)
        assert agent.output.count('"Registered"') == 21
    finally:
        for client in asking:
            client.stop()
    for client in asking:
        client.check()
    agent.write_settings({"listeners": []})
    agent.signal(signal.SIGHUP)
    agent.wait_output("is not reloaded: listeners")
    assert node.admin.endpoints().keys() == {*names[:19], "web-20"}


@PLAIN
def test_a_file_that_is_never_read_to_its_end(stage: Stage, service: Service) -> None:
    """A file on a disk that hangs, or a pipe in its place: the reload says so, everything goes on as it was, and a file
    that can be read is taken afterwards."""
    node = stage.node(settings={"log": {"level": "info"}})
    stage.agent(node, {"web": service.address})
    node.config_path.unlink()
    os.mkfifo(node.config_path)
    hanging = os.open(node.config_path, os.O_RDWR)
    done = reload(node)
    assert (done.returncode, done.stdout) == (1, "")
    assert "they are not read within" in done.stderr
    assert ask(stage, node).status == 200
    node.config_path.unlink()
    node.write_settings({"log": {"level": "debug"}})
    assert reload(node).stdout == "reloaded: log.level info -> debug\n"
    os.close(hanging)
