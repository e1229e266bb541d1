"""Why a connection could not be made, in words."""

from __future__ import annotations

from typing import Final

from twisted.internet import defer
from twisted.internet.error import (
    ConnectingCancelledError,
    ConnectionRefusedError,
    DNSLookupError,
    TCPTimedOutError,
    TimeoutError,
)
from twisted.python.failure import Failure

from pico_twisted.net.tls.client import explain_tls

TIMED_OUT: Final = (
    defer.TimeoutError,
    defer.CancelledError,
    ConnectingCancelledError,
    TimeoutError,
    TCPTimedOutError,
)
"""What an attempt to connect fails with when it takes too long. An endpoint that is cancelled while it connects fails
with an error of its own, which `addTimeout` leaves as it is."""


def connect_failure_text(failure: Failure) -> str:
    """Return why a connection could not be made, over TLS or not, in words for a log line."""
    if failure.check(ConnectionRefusedError):
        return "nothing listens there"
    if failure.check(DNSLookupError):
        return "no address for this name"
    if failure.check(*TIMED_OUT):
        return "no answer in time"
    return explain_tls(failure) or failure.getErrorMessage() or type(failure.value).__name__
