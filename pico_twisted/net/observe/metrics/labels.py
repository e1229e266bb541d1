"""The values that labels have. Whatever a client, agent or service sends, the number of time series stays fixed."""

from __future__ import annotations

from typing import Final

OTHER: Final = "other"
"""Label of what has no label of its own."""

METHODS: Final = tuple(
    b"GET HEAD POST PUT DELETE CONNECT OPTIONS TRACE PATCH PROPFIND PROPPATCH MKCOL COPY MOVE LOCK UNLOCK TCP".split()
)
"""The methods of RFC 9110, RFC 5789 and RFC 4918 (WebDAV), and what stands for one of TCP calls at an agent; all others
share one label."""

RESET_CODES: Final = {
    code: code.replace(" ", "-")
    for code in (
        "refused not-here",
        "refused draining",
        "refused busy",
        "cancelled",
        "timeout",
        "stop",
        "failed",
        "protocol",
    )
}
"""The codes that a reset of the tunnel's protocol may carry, each with its label."""

ROUTES: Final = ("agent", "node", "draining-node", "service")
"""Where an http call goes: from a node to an agent of its own, to another node, to a draining node that alone holds the
endpoint; from an agent to its service."""

RETRY_REASONS: Final = {
    **RESET_CODES,
    **{
        reason: reason
        for reason in (
            "lost",
            "silent",
            "unsupported",
            "service-unreachable",
            "stale",
            "stream-refused",
            "http1-required",
        )
    },
}
"""Why a request was tried again, with the label: the call was refused or reset; its session ended (`lost`), or gives no
sign of life (`silent`); the peer does not know such calls (`unsupported`); the agent could not reach its service; a
connection to the service turned out dead (`stale`); the service did not look at what came over HTTP/2
(`stream-refused`), or wants it over HTTP/1.1."""

SERVICE_FAILURES: Final = frozenset(
    (
        "service-unreachable",
        "service-failed",
        "service-timeout",
        "service-busy",
        "bad-response",
        "body-too-large",
        "no-websocket",
        "failed",
        "timeout",
        "protocol",
    )
)
"""Why an agent could not serve a call: the codes of its own answers, `failed` and `timeout` for a response that was cut
short or stood still, `protocol` for a caller that broke the rules."""

CONNECT_FAILURES: Final = frozenset(("refused", "connect", "dns", "tls", "timeout", "handshake", "protocol", "proxy"))
"""Why an agent's attempt to reach a node failed: the node answered no (`refused`), no TCP connection, no address, a
certificate or TLS fault, too slow, a broken WebSocket handshake, a peer that speaks something else,
whoever answers for a node that is away, or a proxy that does not connect us (`proxy`)."""

LINK_FAILURES: Final = frozenset(
    ("address", "connect", "dns", "tls", "timeout", "refused", "handshake", "wrong-node", "proof", "lost")
)
"""Why a link to another node failed: its address is not known, no TCP connection, no IP for its name, a certificate or
TLS fault, too slow, it answered no, a broken WebSocket handshake, another node answered, one of both could not prove
itself; an open link broke (`lost`)."""

STATUS_CLASSES: Final = ("other", "1xx", "2xx", "3xx", "4xx", "5xx")
"""The first digit of a status, by that digit."""
