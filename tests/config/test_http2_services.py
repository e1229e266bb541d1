"""Listeners whose service speaks HTTP/2."""

from __future__ import annotations

from pathlib import Path

import pytest

from pico_twisted.config import ConfigFaults, ListenerConfig, load_agent


def load(directory: Path, listener: str) -> ListenerConfig:
    """What an agent's file with one listener gives."""
    path = directory / "pico-agent.yaml"
    path.write_text(f"listeners: [{{endpoint: a, {listener}}}]\n")
    return load_agent(str(path)).listeners[0]


@pytest.mark.parametrize(
    ("listener", "scheme", "protocol"),
    [
        ("addr: 'h2c://localhost:50051'", "h2c", "http"),
        ("addr: 50051, protocol: grpc", "http", "grpc"),
        ("addr: 'https://web', protocol: grpc", "https", "grpc"),
        ("addr: 'h2c+unix:/run/a.sock', protocol: grpc", "h2c", "grpc"),
    ],
)
def test_what_says_so(tmp_path: Path, listener: str, scheme: str, protocol: str) -> None:
    """The address, or the protocol."""
    found = load(tmp_path, listener)
    assert (found.addr.scheme, found.protocol) == (scheme, protocol)


@pytest.mark.parametrize(
    ("listener", "key"),
    [("addr: 'h2c://a:1'", "listeners[0].addr"), ("addr: 1, protocol: grpc", "listeners[0].protocol")],
)
def test_without_the_library_the_agent_does_not_start(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, listener: str, key: str
) -> None:
    """It says what is missing and how to get it; a service that may choose is served over HTTP/1.1."""
    monkeypatch.setattr("pico_twisted.core.http2.engine.AVAILABLE", False)
    with pytest.raises(ConfigFaults) as raised:
        load(tmp_path, listener)
    assert key in str(raised.value) and "pip install 'pico_twisted[http2]'" in str(raised.value)
    assert load(tmp_path, "addr: 'https://web'").addr.https
