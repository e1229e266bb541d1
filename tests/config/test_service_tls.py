"""How a listener says how the certificate of its service is checked."""

from __future__ import annotations

from pathlib import Path

import pytest

from pico_twisted.config import ConfigFaults, ServiceTlsConfig, load_agent
from tools.stage.certificates import make


def load(directory: Path, addr: str, tls: str) -> ServiceTlsConfig:
    """What an agent's file with one listener gives."""
    path = directory / "pico-agent.yaml"
    path.write_text(f"listeners: [{{endpoint: a, addr: '{addr}', tls: {tls}}}]\n")
    return load_agent(str(path)).listeners[0].tls


def test_all_keys(tmp_path: Path) -> None:
    """The file with certificates, the name in them, or none of that; by default the system's authorities."""
    ca = make(tmp_path, "authority", authority=True).cert_file
    found = load(tmp_path, "https://10.0.0.7", f"{{ca: {ca}, server_name: shop.internal}}")
    assert found == ServiceTlsConfig(ca=ca, server_name="shop.internal", verify=True)
    assert load(tmp_path, "https://10.0.0.7", "{verify: false}").verify is False
    assert load(tmp_path, "3000", "") == ServiceTlsConfig()


@pytest.mark.parametrize(
    ("addr", "tls", "words"),
    [
        ("3000", "{server_name: a}", "listeners[0].tls"),
        ("https://a", "{ca: /nowhere.pem}", "listeners[0].tls.ca"),
        ("https://a", "{server_name: 'a b'}", "listeners[0].tls.server_name"),
        ("https://a", "{verify: maybe}", "listeners[0].tls.verify"),
        ("https://a", "{cert: a.pem}", "listeners[0].tls.cert"),
    ],
)
def test_faults(tmp_path: Path, addr: str, tls: str, words: str) -> None:
    """What cannot be is told by the path of its key."""
    with pytest.raises(ConfigFaults, match=words.replace("[", r"\[").replace("]", r"\]")):
        load(tmp_path, addr, tls)


def test_a_file_that_is_not_used(tmp_path: Path) -> None:
    """A bundle beside `verify: false` would seem to protect what it does not."""
    ca = make(tmp_path, "authority", authority=True).cert_file
    with pytest.raises(ConfigFaults, match="not used"):
        load(tmp_path, "https://a", f"{{ca: {ca}, verify: false}}")
