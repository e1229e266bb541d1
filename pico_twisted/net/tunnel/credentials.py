"""The credentials behind the sessions of the upstream port: how many sessions they allow, and the end of both.

What is needed. A session lives for weeks, and the credential that opened it for an hour. It ends when its credential
does, unless the agent has shown a new one on it before; when the credential or its subject is revoked; and when files
that were read again do not allow it any more.

What can go wrong. An end must not cut what is in progress, nor wait for ever for an agent that likes its calls long. A
new credential takes time to be looked at, and meanwhile the session may be gone, or end. An agent may show one after
the other, each of which costs a signature.

What was chosen. A session that ends is no registration any more, so no call begins on it. It is told so as by a node
that drains, since its agent then looks for a successor, and is closed after its last call or at the end of the grace
period. Whether credentials have ended is looked at once a second, and after each change of what the gate knows.

What was rejected. Ending a session a while before its credential: an agent that has no new one would dial in vain and
end all the same. Remembering the credential itself, to ask again: it is a secret, and verifying thousands takes long.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Iterable, Sequence
from typing import Final

import attrs
from twisted.internet.defer import CancelledError, Deferred
from twisted.logger import Logger
from twisted.python.failure import Failure

from pico_twisted.core.access.ceilings import Ceiling, Over
from pico_twisted.core.access.refusals import not_allowed
from pico_twisted.core.access.rules import Action
from pico_twisted.core.access.subject import Refused, Subject
from pico_twisted.core.protocol_limits import CLOSE_POLICY
from pico_twisted.core.rpc.call import Call
from pico_twisted.core.rpc.credential import MAX_CREDENTIAL_BYTES, Verdict, encode_verdict
from pico_twisted.core.rpc.frames import PROTOCOL, REFUSED_BUSY
from pico_twisted.core.sweep import Sweep
from pico_twisted.net.access.ceilings import NodeCeilings, answer_to, leave_all
from pico_twisted.net.access.interfaces import Credential, IGate
from pico_twisted.net.tunnel.interfaces import IRegistry, ITunnel

log = Logger()

LOOK_TURNS: Final = 5
"""Turns of the sweep in which each credential is looked at once, which is about once a second."""
SHOW_S: Final = 1.0
"""Seconds between two credentials that an agent may show on a session."""

_VISIBLE: Final = re.compile(rb"[\x21-\x7e]+")


@attrs.frozen
class _End:
    """A session that ends.

    Attributes:
        at: when it is closed, whatever is in progress; seconds of the sweep.
        reason: for its agent.
        code: of WebSocket, that it is closed with.
    """

    at: float
    reason: str
    code: int


@attrs.define(eq=False)
class _Showing:
    """A session on which an agent has shown a credential.

    Attributes:
        at: when, in seconds of the sweep.
        asked: who it is, while that is not known.
    """

    at: float
    asked: Deferred[Subject | Refused] | None = None


class SessionCredentials:
    """The credentials of a node's sessions.

    Args:
        gate: of the upstream port.
        registry: where sessions are registered.
        ceilings: of the node: how many sessions there may be.
        sweep: the process's coarse timer.
        grace_s: how long calls in progress may take on a session that ends.
    """

    def __init__(
        self, gate: IGate, registry: IRegistry, ceilings: NodeCeilings, sweep: Sweep, *, grace_s: float
    ) -> None:
        self.gate = gate
        self._registry = registry
        self._ceilings = ceilings
        self._sweep = sweep
        self._grace_s = grace_s
        self._sessions: dict[ITunnel, Sequence[Ceiling]] = {}  # those that do not end, and what they are counted under
        self._ending: dict[ITunnel, _End] = {}
        self._showing: dict[ITunnel, _Showing] = {}
        self._epoch = gate.epoch
        self._limits_of = ceilings.limits_of
        self._turn = 0
        self._round: list[ITunnel] = []  # that are looked at in turn
        sweep.each(self._look)

    # Sessions

    def opened(self, tunnel: ITunnel) -> None:
        """A session has begun, and the one that it replaced has ended."""
        self._enter(tunnel)

    def closed(self, tunnel: ITunnel) -> None:
        """A session has ended. Idempotent."""
        self._leave(tunnel)
        self._ending.pop(tunnel, None)
        showing = self._showing.pop(tunnel, None)
        if showing is not None and showing.asked is not None:
            showing.asked.cancel()

    def _enter(self, tunnel: ITunnel) -> None:
        subject = tunnel.subject
        rule = None if subject is None else subject.rule_for(Action.LISTEN, tunnel.endpoint)
        self._sessions[tunnel] = self._ceilings.session(tunnel, tunnel.endpoint, subject, rule)

    def _leave(self, tunnel: ITunnel) -> None:
        leave_all(self._sessions.pop(tunnel, ()), tunnel)

    def _hold(self, tunnel: ITunnel, subject: Subject | None) -> None:
        """Let a credential hold a session, perhaps another one, and count the session under the limits of now."""
        self._leave(tunnel)
        tunnel.subject = subject
        self._enter(tunnel)

    def sessions(self) -> Collection[ITunnel]:
        """All sessions that do not end."""
        return self._sessions.keys()

    def subjects(self) -> Iterable[Subject]:
        """Who the sessions are of, where that is known; once for each session."""
        return (tunnel.subject for tunnel in self.sessions() if tunnel.subject is not None)

    def may_listen(self, subject: Subject | None, endpoint: str, replaced: ITunnel | None) -> Refused | Over | None:
        """Say why somebody may not have a session, if they may not.

        Args:
            subject: who wants it; None where that does not matter.
            endpoint: that it would serve.
            replaced: the session that would go for it, so that there are no more than before.
        """
        rule = None if subject is None else self.gate.check(subject, Action.LISTEN, endpoint)
        if isinstance(rule, Refused):
            return rule
        return None if replaced is not None else self._ceilings.room(endpoint, subject, rule)

    # Their end

    def end(self, which: Callable[[ITunnel], bool], reason: str, code: int = CLOSE_POLICY) -> int:
        """End sessions: no call begins on them any more; those in progress may finish within the grace period.

        Args:
            which: says of each whether it is meant.
            reason: for the agent and the log.
            code: of WebSocket, that they are closed with.

        Returns:
            How many they are.
        """
        ended = [tunnel for tunnel in self._sessions if which(tunnel)]
        for tunnel in ended:
            self._end(tunnel, reason, code)
        return len(ended)

    def _check(self, tunnel: ITunnel, subject: Subject) -> None:
        """End a session that the gate would not let in now."""
        now = self.gate.current(subject)
        if isinstance(now, Refused):
            self._end(tunnel, now.message)
        elif now.rule_for(Action.LISTEN, tunnel.endpoint) is None:
            self._end(tunnel, not_allowed(Action.LISTEN, tunnel.endpoint).message)
        elif now != subject:
            self._hold(tunnel, now)  # it may have other limits

    def _end(self, tunnel: ITunnel, reason: str, code: int = CLOSE_POLICY) -> None:
        self._registry.deregister(tunnel)
        self._leave(tunnel)
        self._ending[tunnel] = _End(self._sweep.now + self._grace_s, reason, code)
        log.info(
            "Session of {agent_id} for {endpoint} is ended: {reason}",
            endpoint=tunnel.endpoint,
            agent_id=tunnel.agent_id,
            subject="" if tunnel.subject is None else tunnel.subject.name,
            reason=reason,
            calls=tunnel.call_count,
        )
        if tunnel.call_count:
            tunnel.drain()
        else:
            tunnel.close(code, reason)

    def _look(self, now: float) -> None:
        for tunnel, end in list(self._ending.items()):
            if now >= end.at or not tunnel.call_count:
                tunnel.close(end.code, end.reason)
        if self._limits_of is not self._ceilings.limits_of:  # there are others
            self._limits_of = self._ceilings.limits_of
            for tunnel in list(self._sessions):
                self._leave(tunnel)
                self._enter(tunnel)
        if not self.gate.enabled:
            return
        epoch, self._epoch = self._epoch, self.gate.epoch
        self._turn = (self._turn + 1) % LOOK_TURNS
        if self._turn == 0:  # by places in the list as it is now, others that end would push some past each look
            self._round = list(self._sessions)
        for tunnel in list(self._sessions) if epoch is not self._epoch else self._round[self._turn :: LOOK_TURNS]:
            subject = tunnel.subject if tunnel in self._sessions else None
            if subject is not None and (subject.expires_at is not None or epoch is not self._epoch):
                self._check(tunnel, subject)

    # New ones

    def show(self, tunnel: ITunnel, call: Call, payload: bytes, more: bool) -> None:
        """An agent shows a new credential on its session. A refused one leaves the session with the old one.

        Args:
            tunnel: its session.
            call: to be answered.
            payload: the token, as it stands in the agent's file.
            more: whether further frames follow, which is none of the protocol.
        """
        if more or len(payload) > MAX_CREDENTIAL_BYTES:
            tunnel.reset(call, PROTOCOL, f"a credential is one frame of {MAX_CREDENTIAL_BYTES} bytes at most")
            return
        if not self.gate.enabled:
            tunnel.send(call, encode_verdict(Verdict(accepted=True)), False)
            return
        now = self._sweep.now
        before = self._showing.get(tunnel)
        if before is not None and (before.asked is not None or now < before.at + SHOW_S):
            tunnel.reset(call, REFUSED_BUSY)
            return
        showing = self._showing[tunnel] = _Showing(now)
        credential = Credential(bearer=payload if _VISIBLE.fullmatch(payload) else b"", address=tunnel.peer)
        found = self.gate.known(credential)
        if found is not None:
            tunnel.send(call, encode_verdict(self._verdict(found, tunnel, credential)), False)
            return

        def known(found: Subject | Refused) -> None:
            showing.asked = None
            tunnel.send(call, encode_verdict(self._verdict(found, tunnel, credential)), False)

        showing.asked = asked = self.gate.identify(credential)
        asked.addCallback(known).addErrback(_log_fault)

    def _verdict(self, found: Subject | Refused, tunnel: ITunnel, credential: Credential) -> Verdict:
        if isinstance(found, Subject):
            allowed = self.gate.check(found, Action.LISTEN, tunnel.endpoint)
            found = allowed if isinstance(allowed, Refused) else found
        if isinstance(found, Refused):
            self.gate.refused(found, credential, tunnel.endpoint)
            return Verdict(accepted=False, words=found.message)
        if tunnel in self._ending:
            return Verdict(accepted=False, words="it came too late: this session ends")
        self._leave(tunnel)
        over = self._ceilings.room(tunnel.endpoint, found, found.rule_for(Action.LISTEN, tunnel.endpoint))
        self._hold(tunnel, found if over is None else tunnel.subject)
        if over is not None:
            return Verdict(accepted=False, words=answer_to(over)[1])
        log.info(
            "Agent {agent_id} has shown a new credential for {endpoint}",
            agent_id=tunnel.agent_id,
            endpoint=tunnel.endpoint,
            subject=found.name,
        )
        return Verdict(accepted=True, expires_at=found.expires_at)


def _log_fault(failure: Failure) -> None:
    if not failure.check(CancelledError):
        log.failure("A credential could not be looked at", failure)
