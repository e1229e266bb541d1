"""What a failed attempt to open a session means: for the back-off, for the metrics and for people."""

from __future__ import annotations

from typing import Final

import attrs
from twisted.internet.error import ConnectError, ConnectionRefusedError, DNSLookupError
from twisted.python.failure import Failure

from pico_twisted.core.agent.dial_plan import Failed
from pico_twisted.core.ports import UPSTREAM, wrong_port
from pico_twisted.net.tls.client import explain_tls
from pico_twisted.net.tls.failures import TIMED_OUT, connect_failure_text
from pico_twisted.net.tunnel import ELSEWHERE, HandshakeRefused, HandshakeTimeout, NobodyThere, ProxyFailed


@attrs.frozen(kw_only=True)
class FailedAttempt:
    """An attempt to open a session that came to nothing.

    Attributes:
        endpoint: its ID.
        url: of the node.
        words: why, for people.
        code: of a refusal, as the node named it; empty otherwise.
        refused: the node refuses us for good: our credential, our name, or what was asked.
    """

    endpoint: str
    url: str
    words: str
    code: str
    refused: bool


UNWELCOME: Final = (401, 403)
"""Statuses with which a node says that our credential does not count, or not for an endpoint (RFC 9110 15.5)."""
REFUSALS: Final = (Failed.UNWELCOME, Failed.TURNED_AWAY)
"""What a node says to us and not of itself: the same would be said again until somebody changes something."""


def explain_failure(failure: Failure) -> tuple[Failed, str, str]:
    """Say what a failed attempt means.

    Returns:
        Its kind for the back-off, its label for the metrics, and words for people.
    """
    error = failure.value
    if isinstance(error, HandshakeRefused):
        if error.code == ELSEWHERE:
            failed = Failed.SENT_ELSEWHERE
        elif error.status in UNWELCOME:
            failed = Failed.UNWELCOME
        else:
            failed = Failed.TURNED_AWAY if 400 <= error.status < 500 else Failed.OTHER
        if elsewhere := wrong_port(error.port, UPSTREAM):
            return failed, "refused", f"{elsewhere}: connect.url takes its upstream port (8002 by default)"
        who = "the node refused" if error.port else "what answers does not say that it is a node of Pico, and refused"
        return failed, "refused", f"{who} ({error.status}): {error.message}"
    if isinstance(error, NobodyThere):
        return Failed.CLOSED_PORT, "proxy", error.message
    if isinstance(error, ProxyFailed):
        return Failed.CLOSED_PORT if error.away else Failed.OTHER, "proxy", error.message
    words = connect_failure_text(failure)
    if isinstance(error, ConnectionRefusedError):
        return Failed.CLOSED_PORT, "connect", words
    if isinstance(error, DNSLookupError):
        label = "dns"
    elif isinstance(error, (HandshakeTimeout, *TIMED_OUT)):
        label = "timeout"
    elif explain_tls(failure) is not None:
        label = "tls"
    elif isinstance(error, ConnectError):
        label = "connect"
    else:
        label = "handshake"
    return Failed.OTHER, label, words
