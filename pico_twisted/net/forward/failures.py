"""Why a TCP session could not be opened: in words, and whether it is worth another try."""

from __future__ import annotations

import enum
from collections.abc import Mapping
from typing import Final

from twisted.internet.error import ConnectError
from twisted.python.failure import Failure

from pico_twisted.config.pem import UnusableCertificateError
from pico_twisted.core.http1.refusal import Refusal
from pico_twisted.core.ports import PROXY, wrong_port
from pico_twisted.core.websocket.opening import NoWebSocket, Refused, Unanswered
from pico_twisted.net.tls.client import explain_tls
from pico_twisted.net.tls.failures import TIMED_OUT, connect_failure_text
from pico_twisted.net.tls.through_proxy import ProxyFailed


class Again(enum.Enum):
    """Whether another try may do better. Nothing of the client's was sent, so a try costs nothing but time."""

    NO = enum.auto()  # the answer is no, and will be everywhere
    ELSEWHERE = enum.auto()  # another node may know better
    LATER = enum.auto()  # any node may, in a moment


class DialFailed(Exception):
    """A TCP session could not be opened. Its text is for people.

    Attributes:
        again: whether another try may do better.
        status: of HTTP, of an answer; 0 when there was none.
    """

    def __init__(self, words: str, again: Again, status: int = 0) -> None:
        super().__init__(words)
        self.again = again
        self.status = status


_SOON: Final = frozenset(("draining", "busy", "keys-away", "no-upstreams", "upstream-unreachable", "upstream-timeout"))
"""Codes of nodes for what may be over in a moment: a node or an agent that is restarted."""

_OF_AGENTS: Final = ("service-", "listener-")
"""What the codes of agents begin with: nodes have tried all of them already."""
_HINTS: Final[Mapping[int, str]] = {
    401: ". A token: --token-file FILE or PICO_TOKEN_FILE; a certificate: --cert FILE",
}
"""What may help, by the status of an answer that says no."""


def explain(failure: Failure, url: str) -> DialFailed:
    """Say why an attempt failed.

    Args:
        failure: of a connection or a handshake.
        url: that was tried.
    """
    error = failure.value
    if isinstance(error, Refused):
        return _refused(error.refusal, url)
    if isinstance(error, Unanswered):
        return DialFailed(f"{url}: {error}", Again.LATER)
    if isinstance(error, NoWebSocket):
        return DialFailed(f"{url} is not the proxy port of a node: {error}", Again.ELSEWHERE)
    if isinstance(error, UnusableCertificateError):
        return DialFailed(str(error), Again.NO)
    if isinstance(error, ProxyFailed):
        return DialFailed(error.message, Again.LATER if error.away else Again.ELSEWHERE)
    words = connect_failure_text(failure)
    if failure.check(*TIMED_OUT):
        return DialFailed(f"no answer in time from {url}", Again.LATER)
    if explain_tls(failure) is not None:
        return DialFailed(f"{url} cannot be reached: {words}", Again.ELSEWHERE)
    again = Again.LATER if isinstance(error, ConnectError | OSError) or failure.check(ConnectError) else Again.ELSEWHERE
    return DialFailed(f"{url} cannot be reached: {words}", again)


def _refused(refusal: Refusal, url: str) -> DialFailed:
    said = f"({refusal.status}{' ' if refusal.code else ''}{refusal.code}): {refusal.message}"
    if refusal.away:
        return DialFailed(f"what is in front of {url} answers {refusal.status} {refusal.reason}".rstrip(), Again.LATER)
    if elsewhere := wrong_port(refusal.port, PROXY):
        words = f"{url}: {elsewhere}; the proxy port has 8000 unless configured"
        return DialFailed(words, Again.ELSEWHERE, refusal.status)
    if not refusal.port:
        words = f"what answers at {url} does not say that it is a node of Pico {said}"
        return DialFailed(words, Again.ELSEWHERE, refusal.status)
    who = f"node {refusal.hop}" if refusal.hop else "the node"
    if refusal.code in _SOON:
        again = Again.LATER
    else:
        again = Again.ELSEWHERE if refusal.status >= 500 and not refusal.code.startswith(_OF_AGENTS) else Again.NO
    return DialFailed(f"{who} refuses {said}{_HINTS.get(refusal.status, '')}", again, refusal.status)
