"""Whether a request comes in under the ceilings of its client, its subject and its endpoint."""

from __future__ import annotations

import math

from pico_twisted.core.access.ceilings import Over
from pico_twisted.net.access.ceilings import NodeCeilings, answer_to, retry_after
from pico_twisted.net.access.retry_after import RETRY_AFTER
from pico_twisted.net.proxy.request import ProxyRequest


def may_begin(ceilings: NodeCeilings, request: ProxyRequest) -> bool:
    """Answer a request that has come while the node comes late, before anything is done for it; or let it in."""
    over = ceilings.load.refuses()
    if over is not None:
        request.connection.hold_back(ceilings.load.held_back_until)
        _refuse(request, over)
    return over is None


def may_ask(ceilings: NodeCeilings, request: ProxyRequest) -> bool:
    """Look at the address of a client, or answer its request: then it is over. Returns whether to look further.

    Args:
        ceilings: of the node.
        request: has come just now.
    """
    peer, address = request.connection.peer, request.account.address
    if peer.trusts is not None and address == peer.ip:
        return True  # the proxy itself asks, or does not tell for whom
    over = ceilings.asks(request, address)
    if over is not None:
        _refuse(request, over)
    return over is None


def admitted(ceilings: NodeCeilings, request: ProxyRequest) -> bool:
    """Take a request in, or answer it: then it is over. Returns whether it is in.

    Args:
        ceilings: of the node.
        request: its endpoint, and who sends it by which rule, have been decided.
    """
    most = ceilings.limits_of(request.endpoint).body_bytes
    request.most_bytes = math.inf if most is None else most
    if (request.head.length or request.bytes_in) > request.most_bytes:
        error = request.connection.port.body_too_long()
        request.fail(error.status, error.message, error.code)
        request.done()
        return False
    subject = None if request.visitor is None else request.visitor.subject
    entered = ceilings.enter(request, request.endpoint, subject, request.rule)
    if isinstance(entered, Over):
        _refuse(request, entered)
        return False
    request.ceilings = entered
    return True


def _refuse(request: ProxyRequest, over: Over) -> None:
    request.error_fields = [(RETRY_AFTER, retry_after(over))]
    request.fail(*answer_to(over))
    request.done()
