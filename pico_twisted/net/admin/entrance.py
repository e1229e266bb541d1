"""The entrance of an admin port: everything that is asked for comes through here, whatever the routes behind it are.

What is asked of a request, in this order: that it came to a host of ours and from no page of a stranger (`origins`);
that whoever sends it is known, and may look (GET, HEAD) or change things (any other method). A route that is added has
nothing to do for that. Open are only the routes for those who ask whether the process lives and is to be sent requests.

Somebody is known by a token or a JWT in Authorization, by a client certificate, by the cookie of a login, or as another
node that asks for its operator (`passes`). A Unix socket's file says who may use it. What a browser adds by itself, a
cookie or a certificate, changes something only when a page of our own, or picoctl, says that it does.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from typing import Final, TypeVar

import attrs
from twisted.internet.defer import Deferred
from twisted.logger import Logger
from twisted.python.failure import Failure
from twisted.web.resource import Resource
from twisted.web.server import NOT_DONE_YET

from pico_twisted.core.access.refusals import REFUSALS
from pico_twisted.core.access.rules import Action
from pico_twisted.core.access.subject import Reason, Refused, Subject
from pico_twisted.core.http1.error_pages import wants_html
from pico_twisted.core.links.node_pass import SCHEME
from pico_twisted.core.text import escaped
from pico_twisted.net.access.interfaces import Credential, IGate
from pico_twisted.net.admin.answers import HTML, Rendered, answer, answer_json, break_down, fail, render
from pico_twisted.net.admin.logins import (
    LOGIN,
    LOGOUT,
    PAGE_POLICY,
    Logins,
    cookie,
    cookie_name,
    logged_in_page,
    login_page,
    session_id,
    shown_token,
)
from pico_twisted.net.admin.operators import Operator, address_of, refusal
from pico_twisted.net.admin.origins import MISDIRECTED, OwnHosts, is_foreign_page, is_own_page, misdirected
from pico_twisted.net.admin.other_nodes import split_query
from pico_twisted.net.admin.passes import NodePasses
from pico_twisted.net.admin.shapes.access import KnownAs
from pico_twisted.net.admin.shapes.paths import OPERATOR, WHOAMI_PATH
from pico_twisted.net.admin.shapes.reading import to_json
from pico_twisted.net.admin.site import AdminRequest
from pico_twisted.net.admin.whoami import known_as
from pico_twisted.net.tls.verification import client_certificate

log = Logger()

T = TypeVar("T")

WHOAMI: Final = [WHOAMI_PATH.removeprefix("/").encode("ascii")]
OPEN: Final = ([b"health"], [b"ready"])
"""Paths that anybody may ask: load balancers do."""
SESSION: Final = "x-pico-session"
"""Name of the field in which a worker tells the others of its host the cookie of a session."""

_LOOKING: Final = (b"GET", b"HEAD")

Tell = Callable[[str, Mapping[str, str]], Deferred[object]]
"""Posts to the other workers of the host: a path, and fields. Never fails."""


@attrs.frozen(kw_only=True, eq=False)
class AdminAccess:
    """Who may use an admin port; all of its sites in a process share it.

    Attributes:
        name: what the port is of, for people.
        gate: of the port.
        hosts: by which names it may be asked.
        logins: of people.
        passes: of other nodes; None at an agent.
        ports: the gates of all ports of the process, by their names.
    """

    name: str
    gate: IGate
    hosts: OwnHosts
    logins: Logins
    passes: NodePasses | None = None
    ports: Mapping[str, IGate] = attrs.field(factory=dict)


class Entrance(Resource):
    """Lets requests through to the routes.

    Args:
        routes: behind it.
        access: who may use the port.
        ids: of the nodes for which it answers.
        tell: posts to the other workers of the host; None when there are none.
    """

    isLeaf = True

    def __init__(
        self, routes: Resource, access: AdminAccess, ids: frozenset[str] = frozenset(), tell: Tell | None = None
    ) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self._routes = routes
        self._access = access
        self._ids = ids
        self._tell = tell

    def render(self, request: AdminRequest) -> Rendered:
        if (request.getHeader("upgrade") or "").lower() == "websocket":  # by any name, and whatever it shows
            return fail(request, 404, "this is the admin port of a node: agents connect to its upstream port")
        if is_foreign_page(request):
            return fail(request, 403, "pages of other origins may ask for nothing here")
        looking = request.method in _LOOKING
        if looking and request.postpath in OPEN and not split_query(request.uri.partition(b"?")[2])[0]:
            return render(self._routes, request)
        address = address_of(request)
        if address and (words := misdirected(request, self._access.hosts)):
            return fail(request, MISDIRECTED, words)
        if looking and request.postpath == WHOAMI:
            return self._who_am_i(request, address)
        if not address:
            request.operator = Operator(name=request.getHeader(OPERATOR) or "", action=Action.ADMIN_OPERATE)
            if request.getHeader(SESSION) is not None and not looking:
                return self._told_session(request)
        if not address or not self._access.gate.enabled:
            if not looking and (words := refusal(request)):
                return fail(request, 403, words)
            if address:
                request.operator = Operator(name=request.getHeader(OPERATOR) or "", address=address)
            return self._enter(request)
        if request.postpath in (LOGIN, LOGOUT) and not looking:
            return self._log_in_or_out(request, address)
        return self._authenticate(request, address)

    def _enter(self, request: AdminRequest) -> Rendered:
        """Have the routes answer; a change gets a line in the log."""
        if request.method not in _LOOKING:
            request.notifyFinish().addBoth(lambda _: _log_change(request))
        return render(self._routes, request)

    # Who somebody is

    def _authenticate(self, request: AdminRequest, address: str) -> Rendered:
        scheme, _, shown = (request.getHeader("authorization") or "").partition(" ")
        if scheme.lower() == SCHEME and self._access.passes is not None:
            target = request.method + b" " + request.uri
            found = self._access.passes.read(shown.strip(), target, self._ids, address)
            return self._admit(request, Credential(address=address), found)
        shows_token = scheme.lower() == "bearer"  # anything else may be for a proxy before us
        meant = shows_token or is_own_page(request)
        session = self._session(request)
        if not shows_token and (subject := self._access.logins.subject(session)) is not None:
            current = self._access.gate.current(subject)
            if isinstance(current, Refused):
                self._access.logins.end(session)
            return self._admit(request, Credential(address=address), current, meant=meant, session=session)
        credential = _credential(request, address)
        meant = meant or request.getHeader(OPERATOR) is not None  # which no page of a stranger can send
        return self._identify(request, credential, lambda found: self._admit(request, credential, found, meant=meant))

    def _who_am_i(self, request: AdminRequest, address: str) -> Rendered:
        credential = _credential(request, address)

        def tell(told: Mapping[str, KnownAs]) -> Rendered:
            if self._access.gate.enabled and not any(known.subject for known in told.values()):
                self._access.gate.refused(REFUSALS[Reason.UNKNOWN if credential.bearer else Reason.MISSING], credential)
            return answer_json(request, to_json(told))

        return self._finish_later(request, Deferred.fromCoroutine(known_as(self._access.ports, credential)), tell)

    def _session(self, request: AdminRequest) -> str:
        return session_id(request.getHeader("cookie") or "", self._cookie_name(request))

    def _cookie_name(self, request: AdminRequest) -> str:
        return cookie_name(getattr(request.getHost(), "port", 0), request.isSecure())  # a Unix socket has none

    def _identify(
        self, request: AdminRequest, credential: Credential, then: Callable[[Subject | Refused], Rendered]
    ) -> Rendered:
        """Go on with who shows a credential, now or when the gate knows."""
        found = self._access.gate.known(credential)
        if found is not None:
            return then(found)
        return self._finish_later(request, self._access.gate.identify(credential), then)

    def _finish_later(self, request: AdminRequest, waiting: Deferred[T], then: Callable[[T], Rendered]) -> Rendered:
        gone: list[object] = []
        request.notifyFinish().addErrback(gone.append)

        def go_on(result: T) -> None:
            rendered = NOT_DONE_YET if gone else then(result)  # who has left wants nothing any more
            if isinstance(rendered, bytes):
                request.write(rendered)
                request.finish()

        def broken(failure: Failure) -> None:
            request.write(break_down(request, failure))
            request.finish()

        waiting.addCallback(go_on).addErrback(broken)
        return NOT_DONE_YET

    def _admit(
        self,
        request: AdminRequest,
        credential: Credential,
        found: Operator | Subject | Refused,
        *,
        meant: bool = True,
        session: str = "",
    ) -> Rendered:
        """Let somebody in, if what they may do is what they ask for; `meant`: and not what their browser adds to it."""
        action = Action.ADMIN_READ if request.method in _LOOKING else Action.ADMIN_OPERATE
        operator = self._operator(found, action, credential.address)
        if isinstance(operator, Refused):
            return self._refuse(request, credential, operator)
        if action is Action.ADMIN_OPERATE and not meant:
            return fail(request, 403, f"only a page of this port may change something, or who sends {OPERATOR}")
        request.operator = attrs.evolve(operator, logged_in=bool(session))
        if isinstance(found, Subject):
            request.stays = partial(self._stays, found, session)
        if request.postpath == LOGIN:
            return _page(
                request, logged_in_page(self._access.name, operator.name, operator.action is Action.ADMIN_OPERATE)
            )
        return self._enter(request)

    def _operator(self, found: Operator | Subject | Refused, action: Action, address: str) -> Operator | Refused:
        if isinstance(found, Refused):
            return found
        if isinstance(found, Operator):
            allowed = action in (Action.ADMIN_READ, found.action)
            return found if allowed else REFUSALS[Reason.NOT_ALLOWED]
        checked = self._access.gate.check(found, action)
        if isinstance(checked, Refused):
            return checked
        most = Action.ADMIN_READ if found.rule_for(Action.ADMIN_OPERATE) is None else Action.ADMIN_OPERATE
        return Operator(name=found.name, action=most, address=address)

    def _stays(self, subject: Subject, session: str) -> bool:
        """Whether somebody who was let in, perhaps by a login, may still look."""
        if session and self._access.logins.subject(session) is None:
            return False
        current = self._access.gate.current(subject)
        return not isinstance(current, Refused) and current.rule_for(Action.ADMIN_READ) is not None

    def _refuse(self, request: AdminRequest, credential: Credential, refused: Refused) -> bytes:
        """Say no: to people with the page that asks for a token."""
        self._access.gate.refused(refused, credential)
        if refused.status == 401:
            request.setHeader(b"www-authenticate", refused.challenge.encode("ascii"))
        reads_page = request.method in _LOOKING or request.postpath == LOGIN
        if reads_page and wants_html((request.getHeader("accept") or "").encode("latin-1")):
            problem = "" if refused.reason is Reason.MISSING else refused.message
            return _page(request, login_page(self._access.name, problem), refused.status)
        return fail(request, refused.status, refused.message)

    # Logins

    def _log_in_or_out(self, request: AdminRequest, address: str) -> Rendered:
        if not is_own_page(request):
            return fail(request, 403, "only the page of this port logs somebody in or out")
        if request.postpath == LOGOUT:
            id = self._session(request)
            self._access.logins.end(id)
            return self._moved(request, "", b"/login", {SESSION: id})
        if not self._access.logins.may_try(address):
            return _page(request, login_page(self._access.name, "Too many attempts: wait a moment."), 429)
        token = shown_token(request.content.read())
        credential = Credential(bearer=token, address=address)

        def begin(found: Subject | Refused) -> Rendered:
            if isinstance(found, Refused):
                return self._refuse(request, credential, found)
            checked = self._access.gate.check(found, Action.ADMIN_READ)
            if isinstance(checked, Refused):
                return self._refuse(request, credential, checked)
            id = self._access.logins.new_id()
            self._access.logins.begin(id, found)
            log.info("{name} has logged in", name=escaped(found.name), client=address)
            told = {SESSION: id, "authorization": "Bearer " + token.decode("ascii")}
            return self._moved(request, id, b"/", told)

        return self._identify(request, credential, begin)

    def _moved(self, request: AdminRequest, id: str, where: bytes, told: Mapping[str, str]) -> Rendered:
        """Answer a login or logout, once the other workers of the host know of it."""
        name, secure = self._cookie_name(request), request.isSecure()
        request.setHeader(b"location", where)
        request.setHeader(b"set-cookie", cookie(name, id, secure).encode("ascii"))
        body = answer(request, b"", HTML, 303)
        if self._tell is None:
            return body
        path = LOGIN if id else LOGOUT
        return self._finish_later(request, self._tell("/" + path[0].decode("ascii"), told), lambda _: body)

    def _told_session(self, request: AdminRequest) -> Rendered:
        """Another worker of the host tells of a session, through the socket that only we may use."""
        id = request.getHeader(SESSION) or ""
        if request.postpath == LOGOUT:
            self._access.logins.end(id)
            return answer_json(request, {})
        bearer = (request.getHeader("authorization") or "").partition(" ")[2].encode("latin-1")

        def begin(found: Subject | Refused) -> Rendered:
            if isinstance(found, Subject):
                self._access.logins.begin(id, found)
            return answer_json(request, {})

        return self._identify(request, Credential(bearer=bearer), begin)


def _credential(request: AdminRequest, address: str) -> Credential:
    """What a request shows beside a cookie."""
    scheme, _, shown = (request.getHeader("authorization") or "").partition(" ")
    bearer = shown.strip().encode("latin-1") if scheme.lower() == "bearer" else None
    return Credential(bearer=bearer, certificate=client_certificate(request.channel.transport), address=address)


def _page(request: AdminRequest, page: bytes, status: int = 200) -> bytes:
    request.setHeader(b"content-security-policy", PAGE_POLICY)
    return answer(request, page, HTML, status)


def _log_change(request: AdminRequest) -> None:
    operator = request.operator
    log.info(
        "{name} asked for {method} {path}",
        name=operator.name or "somebody",
        method=request.method.decode("ascii", "replace"),
        path=request.path.decode("latin-1"),
        status=request.code,
        client=operator.address or "this machine",
    )
