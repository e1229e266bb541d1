"""The routes by which operators see who is revoked, and change that."""

from __future__ import annotations

from collections.abc import Callable
from http import HTTPStatus

from twisted.internet.defer import Deferred
from twisted.web.iweb import IRequest
from zope.interface import implementer

from pico_twisted.core.access.revocations import BadRevocations, Meant, Revocation, TooManyRevocations
from pico_twisted.net.access.shared import SharedRevocations, Told
from pico_twisted.net.admin.answers import answer_json, fail
from pico_twisted.net.admin.routes import IRouteGroup, Routes
from pico_twisted.net.admin.shapes.reading import to_json
from pico_twisted.net.admin.shapes.revocations import REVOCATIONS_PATH, REVOKE_PATH, RevocationRow, Revoked
from pico_twisted.net.admin.site import AdminRequest

USAGE = "the query is name=<of a credential> or agent=<ID>, with until=<seconds since 1970>, or undo=1"
"""What is answered to a query that means nothing."""
MOST_TIME_S = 1 << 40
"""A time that no revocation is needed for, in seconds since 1970."""


@implementer(IRouteGroup)
class RevocationRoutes:
    """See above.

    Args:
        shared: what is revoked.
        node_id: of this node.
        end_of: when the JWTs with a `jti` end, in seconds since 1970, as far as that is known here; else 0.
    """

    def __init__(self, shared: SharedRevocations, node_id: str, end_of: Callable[[str], float]) -> None:
        self._shared = shared
        self._node_id = node_id
        self._end_of = end_of

    def routes(self) -> Routes:
        """See `IRouteGroup`."""
        return {REVOCATIONS_PATH: ("who is revoked", self.listed)}

    def changes(self) -> Routes:
        """See `IRouteGroup`."""
        return {REVOKE_PATH: ("revokes somebody at all nodes: name=<of a credential> or agent=<id>", self.revoke)}

    def listed(self, request: IRequest) -> bytes:
        """Tell who is revoked."""
        rows = [
            RevocationRow(
                name=word.name, kind=word.meant.value, at_s=word.at_ms / 1000, until_s=word.until_s, by=word.by
            )
            for word in self._shared.revocations
            if word.revoked
        ]
        return answer_json(request, to_json(sorted(rows, key=lambda row: (row.kind, row.name))))

    def revoke(self, request: AdminRequest) -> bytes | Deferred[bytes]:
        """Revoke somebody, or take that back."""
        given = {name: values for name, values in (request.args or {}).items() if name != b"forward"}
        try:
            query = {name.decode(): value.decode() for name, (value,) in given.items()}
            until_s = int(query.pop("until", "0"))
            undo = query.pop("undo", "0") == "1"
            ((word, name),) = query.items()
            meant = Meant(word)
            if not 0 <= until_s < MOST_TIME_S:
                raise ValueError
        except ValueError:
            return fail(request, HTTPStatus.BAD_REQUEST, USAGE)
        by = request.operator.name
        try:
            if undo:
                said = self._shared.undo(meant, name, by)
            else:
                known = self._end_of(name) if meant is Meant.NAME else 0.0
                said = self._shared.revoke(meant, name, by, until_s or known)
        except BadRevocations as error:
            return fail(request, HTTPStatus.BAD_REQUEST, str(error))
        except TooManyRevocations as error:
            return fail(request, HTTPStatus.CONFLICT, str(error))
        if said is None:
            return fail(request, HTTPStatus.CONFLICT, f"{name} is not revoked")
        revocation, telling = said
        return telling.addCallback(lambda told: answer_json(request, to_json(self._revoked(revocation, told))))

    def _revoked(self, word: Revocation, told: Told) -> Revoked:
        nodes = told.nodes
        return Revoked(
            name=word.name,
            revoked=word.revoked,
            until_s=word.until_s if word.revoked else 0,
            kept=self._shared.kept,
            nodes=[self._node_id, *sorted(node_id for node_id, why in nodes.items() if not why)],
            unaware={node_id: why for node_id, why in sorted(nodes.items()) if why},
            ended=told.ended,
        )
