"""Which port of a node answered, by what it says and by how older nodes answer."""

from __future__ import annotations

import pytest

from pico_twisted.core.ports import ADMIN, GOSSIP, PROXY, UNNAMED, UPSTREAM, port_that_answered, wrong_port


@pytest.mark.parametrize(
    ("fields", "port"),
    [
        ({"x-pico-port": "gossip", "x-pico-error": "n1; not-found"}, GOSSIP),
        ({"x-pico-port": "upstream"}, UPSTREAM),
        ({"x-pico-port": "<script>"}, ""),
        ({"x-pico-error": "n1; no-upstreams"}, PROXY),
        ({"x-pico-error": "n1; missing-endpoint"}, PROXY),
        ({"x-pico-error": "n1; unauthenticated"}, UNNAMED),
        ({"x-pico-node-id": "n1"}, UNNAMED),
        ({"server": "pico"}, ADMIN),
        ({"server": "nginx/1.22"}, ""),
        ({}, ""),
    ],
)
def test_ports(fields: dict[str, str], port: str) -> None:
    """A port is known by its name, or by what only it has ever answered; a stranger is no port."""
    assert port_that_answered(fields.get) == port


def test_words() -> None:
    """Somebody is told of another port than the one that was looked for, and of nothing that is not known."""
    assert wrong_port(PROXY, ADMIN) == "that is the proxy port of a node"
    assert wrong_port(ADMIN, ADMIN) == wrong_port(UNNAMED, ADMIN) == wrong_port("", ADMIN) == ""
