"""How a listener says how the certificate of its service is checked."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path

import pytest

from pico_twisted.config import ConfigFaults, ServiceTlsConfig, load_agent
from pico_twisted.config.certificates import certificate_warnings
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
        ("https://a", "{cert: /nowhere.pem, key: /nowhere.key}", "listeners[0].tls.cert"),
        ("https://a", "{cert: /nowhere.pem}", "listeners[0].tls.key"),
        ("https://a", "{key: /nowhere.pem}", "listeners[0].tls.cert"),
        ("unix:/run/a.sock", "{server_name: a}", "listeners[0].tls"),
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


def test_a_certificate_of_our_own(tmp_path: Path) -> None:
    """It is used with its key; with the key of another one the start is refused."""
    ours, other = make(tmp_path, "agent"), make(tmp_path, "other")
    found = load(tmp_path, "https+unix:/run/a.sock", f"{{cert: {ours.cert_file}, key: {ours.key_file}}}")
    assert (found.cert, found.key) == (ours.cert_file, ours.key_file)
    with pytest.raises(ConfigFaults, match=r"listeners\[0\]\.tls"):
        load(tmp_path, "https://a", f"{{cert: {ours.cert_file}, key: {other.key_file}}}")


@pytest.mark.parametrize("addr", ["h2c://a", "h2c+unix:/run/a.sock"])
def test_no_client_is_told_on_a_connection_of_many(tmp_path: Path, addr: str) -> None:
    """What the PROXY protocol says holds for a connection, and all clients share one of HTTP/2."""
    path = tmp_path / "pico-agent.yaml"
    path.write_text(f"listeners: [{{endpoint: a, addr: '{addr}', proxy_protocol: v1}}]\n")
    with pytest.raises(ConfigFaults, match=r"listeners\[0\]\.proxy_protocol"):
        load_agent(str(path))


def test_a_certificate_of_ours_that_has_ended(tmp_path: Path) -> None:
    """The service would refuse it: a check of the file and a reload say so."""
    old = make(tmp_path, "agent", days=(-3, -1), client=True)
    path = tmp_path / "pico-agent.yaml"
    tls = f"{{cert: {old.cert_file}, key: {old.key_file}}}"
    path.write_text(f"listeners: [{{endpoint: a, addr: 'https://a', tls: {tls}}}]\n")
    (warning,) = certificate_warnings(load_agent(str(path)), datetime.now(UTC))
    assert warning.startswith("listeners[0].tls.cert: ") and "expired" in warning
