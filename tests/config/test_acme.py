"""The section that orders a certificate: what it needs, and what it refuses."""

from __future__ import annotations

import pytest

from pico_twisted.config import ConfigFaults, load_node

GOOD: dict[str, str | list[str]] = {
    "proxy.tls.acme.names": "pico.example.com,www.pico.example.com",
    "proxy.tls.acme.agree_tos": "true",
    "proxy.tls.acme.storage": "/var/lib/pico/acme",
}


def faults(flags: dict[str, str | list[str]]) -> list[str]:
    """What is wrong, each in one line."""
    try:
        load_node(None, flags)
    except ConfigFaults as error:
        return [str(fault) for fault in error.faults]
    return []


def test_what_it_needs() -> None:
    """Names, agreement and a directory; the port speaks TLS then, without any other certificate."""
    config = load_node(None, GOOD)
    assert config.proxy.tls.enabled
    acme = config.proxy.tls.acme
    assert acme.certificate_file == "/var/lib/pico/acme/acme-v02.api.letsencrypt.org/pico.example.com.pem"
    assert acme.challenge_kind == "tls-alpn-01"
    plain = load_node(None, {**GOOD, "proxy.tls.acme.http_addr": ":80"})
    assert plain.proxy.tls.acme.challenge_kind == "http-01"


@pytest.mark.parametrize(
    ("name", "value", "words"),
    [
        ("names", "*.example.com", "a wildcard takes a challenge over DNS, which Pico does not answer"),
        ("names", "Pico.example.com", "in lower case"),
        ("names", "../../etc/passwd", "a host name"),
        ("names", "a..b", "a host name"),
        ("agree_tos", "false", "true, because proxy.tls.acme.names is set"),
        ("storage", "", "a directory, because proxy.tls.acme.names is set"),
        ("directory", "http://ca.example.com/", "an https URL"),
        ("directory", "https://../directory/../x", "an https URL"),
        ("ca", "/no/such/file.pem", "a file that can be read"),
        ("http_addr", ":8000", "another port than proxy.bind_addr"),
        ("challenge", "dns-01", "one of auto, http-01, tls-alpn-01"),
    ],
)
def test_what_it_refuses(name: str, value: str, words: str) -> None:
    """Each fault is told at its key, in words that say what to do."""
    found = faults({**GOOD, f"proxy.tls.acme.{name}": value})
    (line,) = found
    assert line.startswith(f"proxy.tls.acme.{name}")
    assert words in line


def test_a_port_without_names() -> None:
    """The plain port alone would answer nobody."""
    (line,) = faults({"proxy.tls.acme.http_addr": ":80"})
    assert line.startswith("proxy.tls.acme.names")
