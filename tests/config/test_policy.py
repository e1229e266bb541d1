"""What listeners let through, and the ceilings of endpoints, in files."""

from __future__ import annotations

from pathlib import Path

import pytest

from pico_twisted.config import ConfigFaults, load_agent, load_node
from pico_twisted.config.credentials import read_users


def _faults(text: str, tmp_path: Path, load: object = load_agent) -> list[str]:
    file = tmp_path / "config.yaml"
    file.write_text(text)
    with pytest.raises(ConfigFaults) as caught:
        (load_node if load is load_node else load_agent)(str(file))
    return [str(fault).replace(str(tmp_path), "") for fault in caught.value.faults]


def test_faults_of_a_listener(tmp_path: Path) -> None:
    """Each is told with its line, those in the file of users too."""
    (tmp_path / "users").write_text("ann:x\n\n:y\n")
    faults = _faults(
        "listeners:\n"
        "  - endpoint: web\n"
        "    addr: 3000\n"
        "    allow: [10.0.0.1/8]\n"
        "    rate: fast\n"
        "    request_headers: {set: ['Host: a', 'X-A: b']}\n"
        "    response_headers: {remove: [X-B, Content-Length]}\n",
        tmp_path,
    )
    assert [fault.partition(": found")[0] for fault in faults] == [
        "listeners[0].allow[0] (/config.yaml:4)",
        "listeners[0].rate (/config.yaml:5)",
        "listeners[0].request_headers.set[0] (/config.yaml:6)",
        "listeners[0].response_headers.remove[1] (/config.yaml:7)",
    ]
    faults = _faults(f"listeners: [{{endpoint: web, addr: 3000, basic_auth_file: {tmp_path}/users}}]", tmp_path)
    assert [fault.partition(", expected")[0] for fault in faults] == [
        "listeners[0].basic_auth_file (/users:1): found no bcrypt hash",
        "listeners[0].basic_auth_file (/users:3): found no name",
    ]
    faults = _faults("listeners: [{endpoint: web, addr: 3000, basic_auth_file: /none}]", tmp_path)
    assert "No such file" in faults[0]


def test_users_of_two_listeners(tmp_path: Path) -> None:
    """A file that two listeners name is read once; a relative name is one from the directory of the start."""
    (tmp_path / "users").write_text("ann:$2y$05$" + "a" * 53)
    both = [f"{name}=3000 basic_auth_file=users" for name in "ab"]
    config = load_agent(overrides={"listen": both}, directory=str(tmp_path))
    users, faults = read_users(config.listeners)
    assert list(users) == [str(tmp_path / "users")] and not faults


def test_faults_of_ceilings(tmp_path: Path) -> None:
    """A pattern that is none, a limit that is none, and a pattern that is never reached."""
    faults = _faults(
        "endpoints:\n  - {match: 'a*b', rate: 1/d}\n  - {match: 'acme-*', in_flight: 0}\n",
        tmp_path,
        load_node,
    )
    assert [fault.partition(": found")[0] for fault in faults] == [
        "endpoints[0].match (/config.yaml:2)",
        "endpoints[0].rate (/config.yaml:2)",
        "endpoints[1].in_flight (/config.yaml:3)",
    ]
    faults = _faults("endpoints: [{match: other},\n {match: Other}]", tmp_path, load_node)
    assert faults == [
        'endpoints[1].match (/config.yaml:2): found "other", expected a pattern that is not endpoints[0].match already'
    ]


def test_ceilings(tmp_path: Path) -> None:
    """As they are written."""
    file = tmp_path / "config.yaml"
    file.write_text("endpoints: [{match: 'Acme-*', each: yes, sessions: 5, rate: 30/min, body_bytes: 1GiB}]\n")
    entry = load_node(str(file)).endpoints[0]
    assert (entry.match, entry.each, entry.sessions, entry.in_flight) == ("acme-*", True, 5, None)
    assert (entry.rate, entry.body_bytes) == (0.5, 1 << 30)
