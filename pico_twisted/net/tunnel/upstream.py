"""The upstream port: accepts agents, each with one endpoint, at `/pico/v1/listener/<endpoint ID>`."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IReactorTime
from twisted.logger import Logger
from zope.interface import implementer

from pico_twisted.core.access.refusals import AGENT_REVOKED, REFUSALS
from pico_twisted.core.access.revocations import Revocations
from pico_twisted.core.access.subject import Reason, Refused, Subject
from pico_twisted.core.http1.head import RequestHead
from pico_twisted.core.routing.affinity import affinity_of
from pico_twisted.core.routing.endpoint import normal_endpoint_id
from pico_twisted.core.rpc.call import Call
from pico_twisted.core.rpc.capabilities import capabilities_of
from pico_twisted.core.rpc.frames import CREDENTIAL, HEALTH, PROTOCOL, encode_nodes
from pico_twisted.core.rpc.service_health import decode_health
from pico_twisted.net.access.ceilings import NodeCeilings, answer_to, retry_after
from pico_twisted.net.access.interfaces import Credential, IGate
from pico_twisted.net.access.retry_after import RETRY_AFTER, later, soon
from pico_twisted.net.tunnel.credentials import SessionCredentials
from pico_twisted.net.tunnel.interfaces import Closed, ICallAcceptor, IRegistry, ITunnel
from pico_twisted.net.tunnel.parts import AFFINITY, ELSEWHERE, LISTENER_PATH, MAX_ELSEWHERE, TunnelParts
from pico_twisted.net.tunnel.server import (
    Admission,
    Refusal,
    TunnelServerFactory,
    TunnelServerProtocol,
    token_of,
    tokens_of,
)

log = Logger()


def node_drains() -> Refusal:
    """What agents and nodes are told by a node that takes no new sessions: by the next attempt there may be others."""
    message = "node takes no new sessions now"
    return Refusal(status=503, message=message, code="draining", headers=((RETRY_AFTER, soon()),))


@implementer(ICallAcceptor)
class UpstreamFactory(TunnelServerFactory):
    """The Autobahn server factory of the upstream port.

    Args:
        parts: what all tunnels share.
        registry: where sessions are registered.
        gate: says who an agent is, and what it may do.
        ceilings: of the node.
        revoked: says who is not let in, whatever they show.
        max_sessions: sessions at once.
        grace_s: how long calls in progress may take on a session that ends with its credential.
        told: asked for each 101: fields that say where clients reach endpoints.
        reactor: for Autobahn.

    Attributes:
        credentials: those that the sessions were opened with.
    """

    serves = (CREDENTIAL, HEALTH)

    def __init__(
        self,
        parts: TunnelParts,
        registry: IRegistry,
        *,
        gate: IGate,
        ceilings: NodeCeilings,
        revoked: Revocations,
        max_sessions: int,
        grace_s: float,
        told: Callable[[], Mapping[str, str]] = dict,
        reactor: IReactorTime,
    ) -> None:
        super().__init__(parts, node_id=registry.node_id, reactor=reactor)
        self._registry = registry
        self._revoked = revoked
        self.credentials = SessionCredentials(gate, registry, ceilings, parts.sweep, grace_s=grace_s)
        self._max_sessions = max_sessions
        self._told = told
        self.acceptor = self
        parts.sweep.each(lambda _: self._count_nodes())

    def _count_nodes(self) -> None:
        self.says = encode_nodes(self._nodes())

    def _nodes(self) -> int:
        """How many nodes take agents, this one included: its agents are here."""
        return 1 + len(self._registry.others())

    def answer_headers(self) -> dict[str, str]:
        """What stands in a 101 besides WebSocket's own."""
        return {**super().answer_headers(), "x-pico-nodes": str(self._nodes()), **self._told()}

    def admit(self, head: RequestHead, shown: Credential) -> Admission | Refusal | Deferred[Admission | Refusal]:
        """Decide on an agent's handshake. Whoever shows no good credential hears of nothing else."""
        path = head.target.partition(b"?")[0]
        if not path.startswith(LISTENER_PATH):
            return Refusal(status=404, message="nothing is here: agents connect to a listener", code="not-found")
        listener = path[len(LISTENER_PATH) :]
        gate = self.credentials.gate
        if not gate.enabled:
            return self._admit(head, listener, shown, None)
        subject = gate.known(shown)
        if subject is None:
            return gate.identify(shown).addCallback(lambda found: self._admit(head, listener, shown, found))
        return self._admit(head, listener, shown, subject)

    def _admit(
        self, head: RequestHead, listener: bytes, shown: Credential, subject: Subject | Refused | None
    ) -> Admission | Refusal:
        """Decide on the handshake of somebody who is known; of anybody when there is no credential to be shown."""
        if isinstance(subject, Refused):
            return self._refusal(subject, shown)
        endpoint = normal_endpoint_id(listener)
        if endpoint is None:
            return Refusal(status=400, message="invalid endpoint id", code="invalid-endpoint")
        agent_id = token_of(head, b"x-pico-agent-id")
        slot = token_of(head, b"x-pico-slot")
        agent_version = token_of(head, b"x-pico-agent-version")
        if agent_id is None or slot is None or agent_version is None:
            return Refusal(
                status=400,
                message="x-pico-agent-id, x-pico-agent-version and x-pico-slot are 1 to 64 of A-Z a-z 0-9 . _ -",
                code="bad-request",
            )
        if self._revoked.is_revoked(None, agent_id):
            return self._refusal(AGENT_REVOKED, shown, endpoint)
        replaced = self._registry.session_of(endpoint, agent_id, slot) if agent_id else None
        refused = self.credentials.may_listen(subject, endpoint, replaced)
        if isinstance(refused, Refused):
            return self._refusal(refused, shown, endpoint)
        if subject is not None and replaced is not None:
            if replaced.subject is None or replaced.subject.key != subject.key:
                message = f"another agent has the ID {agent_id} here: choose another one"
                return Refusal(status=409, message=message, code="agent-id-taken")
        if not self._registry.takes_agents:
            return node_drains()
        if refused is not None:
            status, message, code = answer_to(refused)
            wait = ((RETRY_AFTER, retry_after(refused)),)
            return Refusal(status=status, message=message, code=code, headers=wait)
        if len(self.connections) - len(self.shaking) >= self._max_sessions:
            return Refusal(status=503, message="too many sessions", code="busy", headers=((RETRY_AFTER, later()),))
        elsewhere = tokens_of(head, b"x-pico-elsewhere", MAX_ELSEWHERE)
        if elsewhere is None:
            return Refusal(
                status=400,
                message=f"x-pico-elsewhere is up to {MAX_ELSEWHERE} node IDs with commas between",
                code="bad-request",
            )
        if self.node_id in elsewhere and not set(self._registry.others()) <= set(elsewhere):
            return Refusal(status=409, message="another node can take this session", code=ELSEWHERE)
        others = self._registry.other_servers(endpoint, agent_id, elsewhere, subject)
        alone = head.get(b"x-pico-share") == b"no"
        if others and (alone or any(other.alone for other in others)):
            return Refusal(
                status=409,
                message=f"{endpoint} is served by {others[0]}, and is not shared: choose another endpoint ID",
                code="not-shared",
            )
        return Admission(
            endpoint=endpoint,
            agent_id=agent_id,
            slot=slot,
            agent_version=agent_version,
            alone=alone,
            speaks=token_of(head, b"x-pico-protocol") or "http",
            affinity=affinity_of(token_of(head, AFFINITY)),
            others=str(others[0]) if others else "",
            subject=subject,
            capabilities=capabilities_of(head),
        )

    def _refusal(self, refused: Refused, shown: Credential, endpoint: str | None = None) -> Refusal:
        self.credentials.gate.refused(refused, shown, endpoint)
        field = (RETRY_AFTER, later()) if refused.status == 503 else (b"www-authenticate", refused.challenge.encode())
        return Refusal(
            status=refused.status,
            message=refused.message,
            code=refused.reason.value,
            headers=(field,),
            logged=True,
        )

    def end_revoked(self) -> int:
        """End the sessions of those who are revoked now. Returns how many they are."""
        is_revoked = self._revoked.is_revoked
        agents = self.credentials.end(lambda tunnel: is_revoked(None, tunnel.agent_id), AGENT_REVOKED.message)
        subject = REFUSALS[Reason.REVOKED].message
        return agents + self.credentials.end(lambda tunnel: is_revoked(tunnel.subject), subject)

    def opened(self, tunnel: TunnelServerProtocol) -> None:
        """A session is open: register it, until it closes."""
        tunnel.closed.addCallback(self._closed, tunnel)
        self._registry.register(tunnel)
        self.credentials.opened(tunnel)

    def _closed(self, closed: Closed, tunnel: TunnelServerProtocol) -> Closed:
        self._registry.deregister(tunnel)
        self.credentials.closed(tunnel)
        log.info(
            "Session of {agent_id} for {endpoint} ended: {reason}",
            endpoint=tunnel.endpoint,
            agent_id=tunnel.agent_id,
            slot=tunnel.slot,
            peer=tunnel.peer,
            code=closed.code,
            clean=closed.clean,
            reason=closed.reason,
        )
        return closed

    def held_bytes(self) -> int:
        """Bytes that the sessions make the process hold."""
        return sum(tunnel.held_bytes() for tunnel in self.awake)

    # ICallAcceptor

    def call_opened(self, tunnel: ITunnel, call: Call, kind: int, payload: bytes, more: bool) -> None:
        """Look at a new credential, or hear how a service is: agents open no other calls (`serves`). See
        `ICallAcceptor.call_opened`."""
        if kind == CREDENTIAL:
            self.credentials.show(tunnel, call, payload, more)
            return
        told = None if more else decode_health(payload)
        if told is None:
            tunnel.reset(call, PROTOCOL, "not how a service is")
            return
        tunnel.send(call, b"", False)
        self._registry.service_is(tunnel, told)

    def drain_requested(self, tunnel: ITunnel) -> None:
        """The agent drains: its session is the last choice; told so again, no call may start on it from here on."""
        if not self._registry.resign(tunnel):
            self._registry.deregister(tunnel)
            return
        log.info("Agent {agent_id} drains {endpoint}", endpoint=tunnel.endpoint, agent_id=tunnel.agent_id)
