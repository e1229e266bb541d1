"""Who a request is from, and whether they may send it: what comes first at a proxy port that authenticates.

A credential is looked for in a fixed order: in `x-pico-authorization`, or in a subprotocol of a WebSocket; else in
Authorization, if what stands there is ours; else in the client certificate of the connection. The requests of a
connection show the same again and again, so who that is is kept with the connection.

What can go wrong. A stranger finds out which endpoints there are: so who it is is asked before anything is looked up,
and the answer to what is not allowed is the same whether the endpoint exists or not. A JWT takes a moment, or for ever:
meanwhile the client is not read, and there is a deadline. What was kept counts no more: each request asks the gate
again whether its subject may, and when what the gate knows has changed, who it is.

*Preflights.* Before a script may send a credential to another origin, the browser asks with an OPTIONS that has none
(Fetch, 4.8). It would be refused, and with it all that scripts of other origins send. Passing it on would let strangers
reach services. So it is answered here, alike for all endpoints: any origin may send what it has a credential for. What
a browser adds by itself, cookies and client certificates, it leaves out after such an answer.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final

import attrs
from twisted.internet.defer import CancelledError, Deferred
from twisted.logger import Logger
from twisted.python.failure import Failure

from pico_twisted.core.access.refusals import REFUSALS
from pico_twisted.core.access.rules import Action
from pico_twisted.core.access.subject import Reason, Refused, Subject
from pico_twisted.core.http1.credentials import (
    AUTHORIZATION,
    CREDENTIAL,
    SUBPROTOCOLS,
    BadCredential,
    Shown,
    hide,
    offers_ours,
    shown_by,
)
from pico_twisted.core.http1.head import RequestHead
from pico_twisted.core.routing.endpoint import HEADER
from pico_twisted.core.sweep import Sweep
from pico_twisted.net.access.interfaces import Credential, IGate
from pico_twisted.net.proxy.port import Visitor
from pico_twisted.net.proxy.request import ProxyRequest
from pico_twisted.net.tls.verification import client_certificate

log = Logger()

IDENTIFY_S: Final = 10.0
"""Seconds that finding out who a request is from may take: as long as its head may."""

MOST_KEPT_BYTES: Final = 2048
"""Most bytes of what was shown that are kept with a connection: a JWT and one for the service. There may be 20,000
connections. What is longer is looked up by its hash for each request."""

_CONNECT: Final = Action.CONNECT  # to look a member of an Enum up is a call of Python's
_FOREIGN: Final = frozenset(
    (Reason.UNKNOWN, Reason.MALFORMED, Reason.ISSUER, Reason.AUDIENCE, Reason.ALGORITHM, Reason.SIGNATURE)
)
"""Why a token in Authorization is refused that is none of ours, but perhaps the service's."""

_NOT_ALLOWED: Final = Refused(
    reason=Reason.NOT_ALLOWED,
    message="the credential has no connect: rule for this endpoint, if it exists: ask for one",
)
"""What is said of an endpoint that there may be: which one a name leads to, and whether to any, is not told."""

_EVERY_ENDPOINT: Final = "*"
"""No endpoint ID: only a rule for all endpoints is for it."""


class Entrance:
    """Decides who may send requests.

    Args:
        gate: of the port.
        sweep: watches what takes a moment.
        render: goes on with a request whose visitor is known after a moment.
    """

    def __init__(self, gate: IGate, sweep: Sweep, render: Callable[[ProxyRequest], object]) -> None:
        self._gate = gate
        self.sweep = sweep
        self.render = render

    def knows(self, request: ProxyRequest) -> bool:
        """Find out who a request is from: its `visitor`.

        Returns:
            Whether that is known; otherwise the request was answered, or is rendered again once it is.
        """
        if request.visitor is not None:
            return True
        head = request.head
        shown = head.special
        values = _, authorization, offered = shown.get(CREDENTIAL), shown.get(AUTHORIZATION), shown.get(SUBPROTOCOLS)
        visitor = request.connection.visitor
        if visitor is None or visitor.values != values or visitor.epoch is not self._gate.epoch:
            return self._look(request)
        if (authorization is not None or offered is not None) and len(head.fields) != len(shown):
            return self._look(request)  # those two may come again
        request.visitor = visitor
        if visitor.in_authorization or visitor.in_subprotocol:
            request.head = hide(head, authorization=visitor.in_authorization, subprotocol=visitor.in_subprotocol)
        return True

    def lets_in(self, request: ProxyRequest) -> bool:
        """Whether a request may go to its endpoint; otherwise it was answered."""
        visitor, endpoint = request.visitor, request.endpoint
        assert visitor is not None
        known = visitor.rule if visitor.endpoint == endpoint else None
        rule = self._gate.check(visitor.subject, _CONNECT, endpoint, known)
        if isinstance(rule, Refused):
            self.refuse(request, rule)
            return False
        request.rule = visitor.rule = rule
        visitor.endpoint = endpoint
        return True

    def may_hear(self, request: ProxyRequest) -> bool:
        """Whether somebody may be told that a request names no endpoint, and why; otherwise it was answered.

        What a host leads to is known to the operator. So whoever may not use all endpoints is told the same of a host
        that leads nowhere as of one that leads to an endpoint of somebody else.
        """
        visitor = request.visitor
        assert visitor is not None
        if HEADER in request.head.by_name or visitor.subject.rule_for(_CONNECT, _EVERY_ENDPOINT) is not None:
            return True
        self.refuse(request, attrs.evolve(_NOT_ALLOWED, subject=visitor.subject.name))
        return False

    def refuse(self, request: ProxyRequest, refused: Refused) -> None:
        """Answer somebody who may not."""
        credential = Credential(address=request.account.address.decode("ascii"))
        self._gate.refused(refused, credential, request.endpoint or None)
        request.refuse(_NOT_ALLOWED if refused.reason is Reason.NOT_ALLOWED else refused)

    def _look(self, request: ProxyRequest) -> bool:
        try:
            shown = shown_by(request.head)
        except BadCredential as error:
            self.refuse(request, Refused(reason=Reason.MALFORMED, message=str(error)))
            return False
        certificate = None if shown.bearer is not None else client_certificate(request.connection.transport)
        if shown.bearer is None and shown.in_authorization is None and certificate is None:
            if _is_preflight(request.head):
                request.allow_origins()
            else:
                self.refuse(request, REFUSALS[Reason.MISSING])
            return False
        looking = Deferred.fromCoroutine(self._identify(request, shown, certificate))
        found: list[Visitor | Refused] = []
        looking.addCallback(found.append)
        if not found:
            _Awaited(self, request, looking, found)
            return False
        return self.found(request, found[0])

    def found(self, request: ProxyRequest, visitor: Visitor | Refused) -> bool:
        """It turned out who a request is from. Returns whether it goes on."""
        if isinstance(visitor, Refused):
            self.refuse(request, visitor)
            return False
        head = request.head
        kept_bytes = sum(len(value) for value in visitor.values if value is not None)
        if len(head.fields) != len(head.by_name) or kept_bytes > MOST_KEPT_BYTES:
            visitor = attrs.evolve(visitor, values=())  # they do not say all, or too much: the next one is looked at
        request.connection.visitor = request.visitor = visitor
        request.head = hide(head, authorization=visitor.in_authorization, subprotocol=visitor.in_subprotocol)
        return True

    async def _identify(self, request: ProxyRequest, shown: Shown, certificate: bytes | None) -> Visitor | Refused:
        """Who shows this; of several kinds of credentials the first that is ours counts."""
        by_name = request.head.by_name
        epoch = self._gate.epoch
        address = request.account.address.decode("ascii")
        who: Subject | Refused = REFUSALS[Reason.MISSING]
        is_ours = False  # what stands in Authorization
        if shown.bearer is not None:
            who = await self._who(Credential(bearer=shown.bearer, address=address))
        if shown.in_authorization is not None and (shown.bearer is None or isinstance(who, Subject)):
            other = await self._who(Credential(bearer=shown.in_authorization, address=address))
            if isinstance(other, Refused) and other.status == 503:
                return other  # nobody knows yet whether it is ours, and may go on
            is_ours = not isinstance(other, Refused) or other.reason not in _FOREIGN
            who = other if shown.bearer is None else who
        if certificate is not None and not is_ours:
            who = await self._who(Credential(certificate=certificate, address=address))
        if isinstance(who, Refused):
            return who
        return Visitor(
            values=(by_name.get(CREDENTIAL), by_name.get(AUTHORIZATION), by_name.get(SUBPROTOCOLS)),
            epoch=epoch,
            subject=who,
            in_authorization=is_ours,
            in_subprotocol=shown.in_subprotocol,
            offers_ours=shown.in_subprotocol and offers_ours(request.head),
        )

    async def _who(self, credential: Credential) -> Subject | Refused:
        known = self._gate.known(credential)
        return known if known is not None else await self._gate.identify(credential)


@attrs.define(eq=False)
class _Awaited:
    """A request of which it takes a moment to find out who it is from. Its client is not read meanwhile.

    Args:
        entrance: that it waits at.
        request: the request.
        looking: fires when that is known.
        found: what is known then.
    """

    _entrance: Entrance
    _request: ProxyRequest
    _looking: Deferred[Any]  # it has given `found` what it fired with
    _found: list[Visitor | Refused]
    upstream: str = ""
    upstream_node: str = ""
    error: str = ""
    deadline: float = 0.0

    def __attrs_post_init__(self) -> None:
        self.deadline = self._entrance.sweep.now + IDENTIFY_S
        self._entrance.sweep.add(self)
        self._request.forward = self
        self._request.pause_request()
        self._looking.addCallbacks(self._known, self._failed)

    def _known(self, _: object) -> None:
        self._over()
        request, entrance = self._request, self._entrance
        if entrance.found(request, self._found[0]):
            entrance.render(request)
            if request.response_waits and request.forward is not None:
                request.forward.pause()
        if request.forward is not None:  # else it is over, and another one may be in its place
            request.resume_request()

    def _failed(self, failure: Failure) -> None:
        if not failure.check(CancelledError):
            log.failure("It could not be found out who a request is from", failure)
            self._refuse()

    def deadline_passed(self, now: float) -> None:
        """It takes too long."""
        self._looking.cancel()
        self._refuse()

    def _refuse(self) -> None:
        self._over()
        self._entrance.refuse(self._request, REFUSALS[Reason.BUSY])

    def _over(self) -> None:
        self._entrance.sweep.discard(self)
        self._request.forward = None

    # What the connection calls; see `RoutedRequest`

    def gone(self) -> None:
        """The client left."""
        self._entrance.sweep.discard(self)
        self.error = "client-gone"
        self._looking.cancel()
        self._request.done()

    def body(self, data: bytes) -> None:
        """Never called while the client is not read."""

    def body_ended(self) -> None:
        """Likewise."""

    def trailers(self, block: bytes) -> None:
        """Likewise."""

    def pause(self) -> None:
        """There is no response yet."""

    def resume(self) -> None:
        """Likewise."""


def _is_preflight(head: RequestHead) -> bool:
    """Whether a browser asks what a script may send to another origin (Fetch, 4.8)."""
    names = head.by_name
    return head.method == b"OPTIONS" and b"origin" in names and b"access-control-request-method" in names
