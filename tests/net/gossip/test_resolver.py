"""Addresses that other nodes advertise, as text."""

from __future__ import annotations

import pytest

from pico_twisted.net.gossip.resolver import split_address


@pytest.mark.parametrize(
    ("text", "address"),
    [
        ("10.0.0.1:8003", ("10.0.0.1", 8003)),
        ("[2001:db8::1]:1", ("2001:db8::1", 1)),
        ("n1.example.com:65535", ("n1.example.com", 65535)),
    ],
)
def test_host_and_port_are_taken_apart(text: str, address: tuple[str, int]) -> None:
    """What a node advertises is where it is dialled."""
    assert split_address(text) == address


@pytest.mark.parametrize(
    "text", ["", ":1", "h", "h:", "h:0", "h:65536", "h:+1", "h: 1", "h:1 ", "h:1_0", "h:-1", "h:٤٤", "h:" + "9" * 5000]
)
def test_what_is_no_address_is_refused(text: str) -> None:
    """A port is decimal digits alone, as everywhere: what another node says leads to no dial that it does not name."""
    with pytest.raises(ValueError, match="not host:port"):
        split_address(text)
