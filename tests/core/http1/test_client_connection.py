"""Which messages authenticate the connection that they are on, and how a client's connection is named."""

from __future__ import annotations

import pytest

from pico_twisted.core.http1.account import Peer, account_of_peer
from pico_twisted.core.http1.client_connection import CLIENT_CONNECTION, authenticates_connection, name_of
from pico_twisted.core.http1.forwarding import request_from_link, request_to_service, request_to_tunnel
from pico_twisted.core.http1.head import HeadLimits, parse_request_head, parse_response_head
from pico_twisted.core.links.relay import relayed_request

LIMITS = HeadLimits()
NAME = b"0123456789abcdef" * 2


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (b"NTLM TlRMTVNTUAAB", True),
        (b"ntlm", True),
        (b"Negotiate YIIB", True),
        (b'Basic realm="a", NTLM', True),
        (b'Basic realm="a",Negotiate,NTLM', True),
        (b"Basic YTpi", False),
        (b"Bearer ntlm", False),
        (b'Digest username="negotiate"', False),
        (b"NTLMv9 x", False),
        (b"", False),
    ],
)
def test_which_messages(value: bytes, expected: bool) -> None:
    """NTLM and Negotiate authenticate a connection, in any case and at any place of a list; no other scheme does."""
    request = b"GET / HTTP/1.1\r\nHost: a\r\nAuthorization: Basic x\r\nAuthorization: " + value + b"\r\n\r\n"
    assert authenticates_connection(parse_request_head(request, LIMITS)) is expected
    for name in (b"WWW-Authenticate", b"Proxy-Authenticate"):
        response = b"HTTP/1.1 401 No\r\n" + name + b": Basic\r\n" + name + b": " + value + b"\r\n\r\n"
        assert authenticates_connection(parse_response_head(response, LIMITS)) is expected


@pytest.mark.parametrize("value", [b"", NAME[:-1], NAME + b"0", NAME.upper(), b"../" + NAME[3:], NAME[:-1] + b"\n"])
def test_what_is_no_name(value: bytes) -> None:
    """A name is 32 hexadecimal digits; anything else counts as none."""
    assert name_of(NAME) == NAME and name_of(value) == b""


@pytest.mark.parametrize("upgrade", [b"", b"Connection: Upgrade\r\nUpgrade: x\r\n"])
def test_the_name_goes_as_far_as_the_agent(upgrade: bytes) -> None:
    """A node writes it, the node in the middle passes it on and can read it, and no service and no client's own gets
    through."""
    given = b"GET / HTTP/1.1\r\nHost: a\r\n" + CLIENT_CONNECTION + b": " + NAME[::-1] + b"\r\n" + upgrade + b"\r\n"
    head = parse_request_head(given, LIMITS)
    account = account_of_peer(b"192.0.2.1", False, head.host)
    sent = request_to_tunnel(
        head, account=account, peer=Peer(b"192.0.2.1", connection=NAME), request_id=b"1", endpoint=b"ep"
    )
    relayed = relayed_request(sent, LIMITS)
    if upgrade:
        assert relayed is None
        onward = request_from_link(parse_request_head(sent, LIMITS))
    else:
        assert relayed is not None and relayed[0].client_connection == NAME
        onward = relayed[0].raw
    at_agent = parse_request_head(onward, LIMITS)
    assert at_agent.by_name[CLIENT_CONNECTION] == NAME and NAME[::-1] not in onward
    assert CLIENT_CONNECTION not in request_to_service(at_agent, host=None, chunked=False)
    plain = request_to_tunnel(head, account=account, peer=Peer(b"192.0.2.1"), request_id=b"1")
    assert CLIENT_CONNECTION not in plain
