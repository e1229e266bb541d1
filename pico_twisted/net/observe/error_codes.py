"""Where requests fail: which hop each error code of a node is about. `docs/reference.md` says what each code means.

What a code is not listed for is counted as `other`, so whatever agents tell, the number of labels stays fixed.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

CLIENT: Final = "client"
"""The hop of an error that its client has to do with: the request, its credential, its speed."""
PROXY: Final = "proxy"
"""The hop of an error that this node has to do with, or what its operator has configured."""
LINK: Final = "link"
"""The hop of an error that another node has to do with, or the way there."""
AGENT: Final = "agent"
"""The hop of an error that the agent has to do with, or the way there."""
SERVICE: Final = "service"
"""The hop of an error that the service behind the agent has to do with."""

HOPS: Final = (CLIENT, PROXY, LINK, AGENT, SERVICE)
"""All hops of a request, in its order."""

_ON_THE_WAY: Final = ""  # at the agent, or at the other node when the request went to one

_BY_HOP: Final = {
    CLIENT: (
        "missing-endpoint unknown-host ambiguous-path invalid-endpoint bad-request tls-required https-required missing "
        "malformed unknown expired too-early audience issuer algorithm signature revoked not-allowed request-timeout "
        "origin-refused slow-body endpoint-body body-too-large uri-too-long not-http not-tcp upgrade-required "
        "expectation-failed head-too-large not-implemented version loop client-gone http-1.1-required address-rate "
        "subject-rate subject-in-flight"
    ),
    PROXY: "no-upstreams busy keys-away draining shutdown internal endpoint-rate endpoint-in-flight overloaded",
    AGENT: "listener-address listener-login listener-logins listener-rate listener-in-flight",
    SERVICE: (
        "upstream-timeout bad-response service-unreachable service-failed service-busy service-timeout no-websocket "
        "response-too-large"
    ),
    _ON_THE_WAY: "upstream-unreachable timeout idle-timeout",
}

CODES: Final[Mapping[str, str]] = {code: hop for hop, codes in _BY_HOP.items() for code in codes.split()}
"""The codes of requests that fail, each with its hop; that is empty where it is the agent or another node."""


def hop_of(code: str, over_link: bool) -> str:
    """The hop that an error is about, one of `HOPS`.

    Args:
        code: of the error; one that is not known counts as the peer's.
        over_link: the request went to another node.
    """
    return CODES.get(code) or (LINK if over_link else AGENT)
