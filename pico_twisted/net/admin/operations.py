"""What operators ask of nodes: to be taken out and put back, and to end the sessions of an agent.

What is needed. An operator who reaches one node asks it for another one as well. Of a host with workers all are meant:
they have one port for clients, and who is told to leave one of them comes to the next.

What can go wrong. The other node cannot be reached, is of an earlier version, or takes a recorded question for a new
one. Its admin port may be for its own machine alone.

What was chosen. Another node is asked over its node link, as it is told of revocations: where the cluster has secrets
both ends have proven that they know one, and nothing that was said on one connection means anything on another. Whether
the operator may ask is decided by the port that they ask at; the other node is told who it was, for its log. Who is
asked by a worker of its own host acts alone, any other question is meant for the host.

What was rejected. To pass the POST on with a pass, as questions are: it needs admin ports that others reach, and a
memory of the passes that were used.
"""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Collection, Sequence
from http import HTTPStatus
from typing import Final

import attrs
from twisted.internet import defer
from twisted.internet.defer import Deferred, DeferredList
from twisted.internet.interfaces import IReactorTime
from twisted.python.failure import Failure
from twisted.web.server import Request
from zope.interface import implementer

from pico_twisted.core.access.revocations import BadRevocations, Meant, TooManyRevocations
from pico_twisted.core.gossip.members import LEFT
from pico_twisted.core.links.operations import (
    Act,
    BadOperation,
    Operation,
    Progress,
    decode_operation,
    decode_progress,
)
from pico_twisted.core.routing.table import ACTIVE, DRAINING
from pico_twisted.core.text import NAME_PATTERN
from pico_twisted.net.access.shared import SharedRevocations
from pico_twisted.net.admin.answers import answer_json, fail
from pico_twisted.net.admin.other_nodes import LOCAL
from pico_twisted.net.admin.routes import IRouteGroup, Routes
from pico_twisted.net.admin.shapes.operations import (
    CORDON_PATH,
    DRAIN_PATH,
    INTAKE_PATH,
    KICK_PATH,
    UNCORDON_PATH,
    Kicked,
    Operated,
)
from pico_twisted.net.admin.shapes.paths import NO_SUCH_NODE
from pico_twisted.net.admin.shapes.reading import to_json
from pico_twisted.net.admin.site import AdminRequest
from pico_twisted.net.admin.status import INodeStatus

WORKERS_S: Final = 2.0
"""Seconds that the other workers of a host have to answer."""
NODES_S: Final = 5.0
"""Seconds that other nodes have to answer."""
MOST_FOR_S: Final = 7 * 86_400
"""Most seconds for which an agent is kept away: who is to stay away for longer is revoked."""
MAX_ID_CHARS: Final = 64
"""Most characters of a node's ID."""

_WORKER: Final = re.compile(r"-w\d+")


class Unreachable(Exception):
    """A node that is to do something cannot be asked. The text says why."""


class Operations:
    """Does what operators ask for, here and at other nodes.

    Args:
        status: of this node; knows the others.
        here: does it at this node.
        tell: called with the ID of another node and a question; a Deferred of the answer, of None when it cannot be
            asked. It may fail.
        workers: IDs of the other workers of this host.
        clock: keeps the time.
    """

    def __init__(
        self,
        *,
        status: INodeStatus,
        here: Callable[[Operation], Progress],
        tell: Callable[[str, bytes], Deferred[bytes | None]],
        workers: Collection[str],
        clock: IReactorTime,
    ) -> None:
        self._status = status
        self._here = here
        self._tell = tell
        self._workers = workers
        self._clock = clock
        self.node_id = status.node_id

    def asked(self, node_id: str, data: bytes) -> Deferred[bytes]:
        """Do what an operator asks for through another node, which has seen that they may.

        Raises:
            BadOperation: it is nothing that this node does.
        """
        operation = decode_operation(data)
        operation = attrs.evolve(operation, by=f"{operation.by or 'an operator'} through node {node_id}")
        alone = operation.act is Act.KICK or node_id in self._workers
        doing = defer.succeed(self._here(operation)) if alone else Deferred.fromCoroutine(self._host(operation))
        return doing.addCallback(Progress.encoded)

    async def at(self, node_id: str, operation: Operation) -> Progress:
        """Do something at a node, with all workers of its host.

        Args:
            node_id: of any node; of a worker, or of its host.
            operation: what to do.

        Raises:
            LookupError: there is no such node.
            Unreachable: it did not answer.
        """
        known = [row.id for row in self._status.nodes() if row.status != LEFT]
        # A node may have an ID like that of a worker of another one.
        is_meant = node_id.__eq__ if node_id in known else _meant_by(node_id)
        if node_id == LOCAL or any(map(is_meant, (self.node_id, *self._workers))):
            return await self._host(operation)
        found = list(filter(is_meant, known))
        if not found:
            raise LookupError(node_id)
        there = [row.id for row in self._status.nodes() if row.id in found and row.status in (ACTIVE, DRAINING)]
        return await self._ask((there or found)[0], operation, NODES_S)

    async def everywhere(self, operation: Operation) -> tuple[dict[str, Progress], dict[str, str]]:
        """Do something at each node, workers being nodes of their own.

        Returns:
            How they stand, and why others did not answer; both by node ID.
        """
        answers, silent = await self._ask_all(self._status.nodes_there(), operation, NODES_S)
        return {self.node_id: self._here(operation), **answers}, silent

    async def _host(self, operation: Operation) -> Progress:
        """Do something at this node and at the other workers of its host."""
        own = self._here(operation)
        answers, silent = await self._ask_all(self._workers, operation, WORKERS_S)
        all_of_them = (own, *answers.values())
        return Progress(
            intake=own.intake,
            requests=sum(one.requests for one in all_of_them),
            streams=sum(one.streams for one in all_of_them),
            sessions=sum(one.sessions for one in all_of_them),
            elsewhere=min(one.elsewhere for one in all_of_them),
            ended=sum(one.ended for one in all_of_them),
            silent=len(silent),
        )

    async def _ask_all(
        self, ids: Collection[str], operation: Operation, within_s: float
    ) -> tuple[dict[str, Progress], dict[str, str]]:
        asking = [Deferred.fromCoroutine(self._ask(id, operation, within_s)) for id in ids]
        answers: dict[str, Progress] = {}
        silent: dict[str, str] = {}
        for id, (success, outcome) in zip(ids, await DeferredList(asking, consumeErrors=True), strict=True):
            if success:
                answers[id] = outcome
            else:
                assert isinstance(outcome, Failure)
                silent[id] = outcome.getErrorMessage() if outcome.check(Unreachable) else "internal error"
        return answers, silent

    async def _ask(self, id: str, operation: Operation, within_s: float) -> Progress:
        try:
            answer = await self._tell(id, operation.encoded()).addTimeout(within_s, self._clock)
            if answer is not None:
                return decode_progress(answer)
        except defer.TimeoutError:
            raise Unreachable(f"no answer within {within_s:g} s") from None
        except BadOperation:
            raise Unreachable("its answer is none") from None
        except Exception as error:  # whatever becomes of a link
            raise Unreachable(f"it gives no answer: {error}") from None
        row = self._status.node(id)
        standing = "" if row is None else row.link
        if standing == "open":
            raise Unreachable("it is of an earlier version, which only its own admin port and signals change")
        raise Unreachable(f"there is no link to it{': ' if standing else ''}{standing}")


@implementer(IRouteGroup)
class OperationRoutes:
    """The routes by which operators take nodes out, and end sessions.

    Args:
        operations: does it.
        revoked: keeps agents away.
    """

    def __init__(self, operations: Operations, revoked: SharedRevocations) -> None:
        self._operations = operations
        self._revoked = revoked

    def routes(self) -> Routes:
        """See `IRouteGroup`."""
        return {INTAKE_PATH: ("what a node takes that is new, and what is in progress there; node=<ID>", self.intake)}

    def changes(self) -> Routes:
        """See `IRouteGroup`."""
        return {
            CORDON_PATH: ("has a node take no new sessions of agents: node=<ID>", self.cordon),
            DRAIN_PATH: ("has a node's agents and clients go elsewhere as well: node=<ID>", self.drain),
            UNCORDON_PATH: ("takes back either: node=<ID>", self.uncordon),
            KICK_PATH: ("ends the sessions of an agent at all nodes: agent=<ID>, for=<seconds> refused", self.kick),
        }

    def intake(self, request: AdminRequest) -> Deferred[bytes]:
        """Tell how a node stands."""
        return self._do(request, Act.LOOK)

    def cordon(self, request: AdminRequest) -> Deferred[bytes]:
        """Cordon a node."""
        return self._do(request, Act.CORDON)

    def drain(self, request: AdminRequest) -> Deferred[bytes]:
        """Drain a node."""
        return self._do(request, Act.DRAIN)

    def uncordon(self, request: AdminRequest) -> Deferred[bytes]:
        """Put a node back."""
        return self._do(request, Act.UNCORDON)

    def kick(self, request: AdminRequest) -> bytes | Deferred[bytes]:
        """End the sessions of an agent."""
        given = _query(request, ("agent", "for"))
        agent = given.get("agent", "") if given is not None else ""
        for_s = given.get("for", "0") if given is not None else ""
        if not NAME_PATTERN.fullmatch(agent) or not _is_time(for_s):
            usage = f"the query is agent=<ID>, with for=<1 to {MOST_FOR_S} seconds> to keep it away"
            return fail(request, HTTPStatus.BAD_REQUEST, usage)
        by = request.operator.name
        if int(for_s):
            return self._keep_away(request, agent, by, time.time() + int(for_s))
        kicking = Deferred.fromCoroutine(
            self._operations.everywhere(Operation(act=Act.KICK, by=by, agent=agent)),
        )

        def kicked(found: tuple[dict[str, Progress], dict[str, str]]) -> bytes:
            answers, silent = found
            ended = sum(one.ended for one in answers.values())
            return answer_json(
                request,
                to_json(Kicked(agent=agent, ended=ended, nodes=list(answers), unaware=dict(sorted(silent.items())))),
            )

        return kicking.addCallback(kicked)

    def _keep_away(self, request: AdminRequest, agent: str, by: str, until_s: float) -> bytes | Deferred[bytes]:
        try:
            word, telling = self._revoked.revoke(Meant.AGENT, agent, by, until_s)
        except BadRevocations as error:
            return fail(request, HTTPStatus.BAD_REQUEST, str(error))
        except TooManyRevocations as error:
            return fail(request, HTTPStatus.CONFLICT, str(error))
        own = self._operations.node_id
        return telling.addCallback(
            lambda told: answer_json(
                request,
                to_json(
                    Kicked(
                        agent=agent,
                        ended=told.ended,
                        until_s=word.until_s,
                        nodes=[own, *sorted(id for id, why in told.nodes.items() if not why)],
                        unaware={id: why for id, why in sorted(told.nodes.items()) if why},
                    )
                ),
            )
        )

    def _do(self, request: AdminRequest, act: Act) -> Deferred[bytes]:
        return Deferred.fromCoroutine(self._answer(request, act))

    async def _answer(self, request: AdminRequest, act: Act) -> bytes:
        given = _query(request, ("node",))
        node_id = LOCAL if given is None else given.get("node", LOCAL)
        if given is None or not node_id:
            return fail(
                request, HTTPStatus.BAD_REQUEST, "the query is node=<the ID of a node>, or nothing for this one"
            )
        try:
            found = await self._operations.at(node_id, Operation(act=act, by=request.operator.name))
        except LookupError:
            return fail(request, HTTPStatus.NOT_FOUND, f"{NO_SUCH_NODE}: {node_id[:MAX_ID_CHARS]}")
        except Unreachable as error:
            return fail(request, HTTPStatus.BAD_GATEWAY, f"node {node_id}: {error}")
        own = self._operations.node_id
        told = attrs.asdict(found, filter=lambda field, _: field.name != "ended")
        return answer_json(request, to_json(Operated(node=own if node_id == LOCAL else node_id, **told)))


def _meant_by(node_id: str) -> Callable[[str], bool]:
    """Whether an ID is that of a node, or of a worker of a host with that ID."""
    return lambda id: id == node_id or (id.startswith(node_id) and _WORKER.fullmatch(id, len(node_id)) is not None)


def _is_time(text: str) -> bool:
    return text.isascii() and text.isdigit() and len(text) <= len(str(MOST_FOR_S)) and int(text) <= MOST_FOR_S


def _query(request: Request, names: Sequence[str]) -> dict[str, str] | None:
    """What stands in the query, each once; None when something else does."""
    given = {name: values for name, values in (request.args or {}).items() if name != b"forward"}
    try:
        found = {name.decode(): value.decode() for name, (value,) in given.items()}
    except ValueError:
        return None
    return found if found.keys() <= set(names) else None
