"""Listeners of TCP, and what nodes are told of their clients."""

from __future__ import annotations

from pathlib import Path

import pytest

from pico_twisted.config import ConfigFaults, TcpConfig, load_agent, load_node


def faults(directory: Path, listener: str) -> list[str]:
    """The paths of what is wrong with a listener of TCP."""
    path = directory / "pico-agent.yaml"
    path.write_text(f"listeners: [{{endpoint: db, protocol: tcp, {listener}}}]\n")
    with pytest.raises(ConfigFaults) as error:
        load_agent(str(path))
    return [fault.path.removeprefix("listeners[0].") for fault in error.value.faults]


@pytest.mark.parametrize(
    "setting",
    [
        "keepalive_timeout: 5s",
        "reuse: never",
        "rewrite_host: true",
        "lenient: true",
        "basic_auth_realm: x",
        "authorization: pass",
        "request_headers: {remove: [A]}",
        "response_headers: {set: ['A: b']}",
        "tls: {verify: false}",
        "affinity: cookie",
    ],
)
def test_settings_of_http(tmp_path: Path, setting: str) -> None:
    """What means nothing without HTTP is told, and not taken in silence."""
    assert faults(tmp_path, f"addr: 5432, {setting}") == [setting.partition(":")[0]]


def test_a_password(tmp_path: Path) -> None:
    """Nobody would be asked for a password: a listener of TCP with users does not start."""
    users = tmp_path / "users"
    users.write_text("ann:$2y$05$" + "a" * 53 + "\n")
    assert faults(tmp_path, f"addr: 5432, basic_auth_file: {users}") == ["basic_auth_file"]


def test_a_path_to_check(tmp_path: Path) -> None:
    """A service of TCP can be connected to, and asked for nothing."""
    assert faults(tmp_path, "addr: 5432, health: {path: /healthz}") == ["health.path"]


@pytest.mark.parametrize("addr", ["https://db:5432", "h2c://db:5432"])
def test_addresses(tmp_path: Path, addr: str) -> None:
    """A service of TCP has no scheme."""
    assert faults(tmp_path, f"addr: '{addr}'") == ["addr"]


def test_what_means_something(tmp_path: Path) -> None:
    """Addresses of clients, ceilings, a time to connect, a PROXY header and unix sockets are for TCP, too."""
    path = tmp_path / "pico-agent.yaml"
    path.write_text(
        "listeners:\n- {endpoint: a, addr: 'unix:/run/db.sock', protocol: tcp, timeout: 2s, allow: 10.0.0.0/8, "
        "max_in_flight: 5, rate: 5/s, max_connections: 3, health: {interval: 5s}, proxy_protocol: v2, share: false, "
        "affinity: address}\n"
    )
    assert load_agent(str(path)).listeners[0].protocol == "tcp"
    assert load_agent(None, {"listen": ["db=localhost:5432 protocol=tcp"]}).listeners[0].protocol == "tcp"


def test_of_nodes(tmp_path: Path) -> None:
    """By default sessions may be silent for ever, and no page may open one without a token."""
    path = tmp_path / "pico.yaml"
    path.write_text("proxy: {tcp: {idle_timeout: 2h, origins: ['https://App.example.com', 'http://[::1]:8080']}}\n")
    assert load_node(str(path)).proxy.tcp == TcpConfig(
        idle_timeout=7200.0, origins=("https://app.example.com", "http://[::1]:8080")
    )
    path.write_text("")
    assert load_node(str(path)).proxy.tcp == TcpConfig(idle_timeout=None, origins=())
    for origin in ("app.example.com", "https://app.example.com/", "https://", "null"):
        path.write_text(f"proxy: {{tcp: {{origins: ['{origin}']}}}}\n")
        with pytest.raises(ConfigFaults, match="origins"):
            load_node(str(path))
