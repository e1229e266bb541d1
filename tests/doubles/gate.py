"""A gate that knows what a test tells it."""

from __future__ import annotations

from collections.abc import Mapping

from twisted.internet.defer import Deferred, succeed
from zope.interface import implementer

from pico_twisted.core.access.refusals import REFUSALS, not_allowed
from pico_twisted.core.access.rules import Action, Rule
from pico_twisted.core.access.subject import CredentialKind, Reason, Refused, Subject
from pico_twisted.net.access.interfaces import Credential, IGate


def subject(name: str, *rules: str, expires_at: float | None = None) -> Subject:
    """Somebody with a token, and these rules as they are written."""
    return Subject(
        name=name,
        kind=CredentialKind.TOKEN,
        rules=tuple(map(Rule.read, rules)),
        expires_at=expires_at,
        revocable_as=frozenset((name,)),
    )


@implementer(IGate)
class ToldGate:
    """A gate of one port.

    Args:
        subjects: who shows which token or JWT, or which certificate in DER; all others are unknown.
        slow: nobody is known at once, and `identify` waits for `answer`.
        enabled, epoch: see `IGate`.

    Attributes:
        ended: why a subject may do nothing any more, by its name.
        refusals: the reasons that were counted, with the endpoint of each.
    """

    def __init__(
        self, subjects: Mapping[bytes, Subject | Refused], *, slow: bool = False, enabled: bool = True
    ) -> None:
        self.enabled = enabled
        self.epoch = object()
        self.subjects = dict(subjects)
        self.slow = slow
        self.ended: dict[str, Reason] = {}
        self.refusals: list[tuple[Reason, str | None]] = []
        self.waiting: list[tuple[Credential, Deferred[Subject | Refused]]] = []

    def _found(self, credential: Credential) -> Subject | Refused:
        shown = credential.bearer if credential.bearer is not None else credential.certificate
        if shown is None:
            return REFUSALS[Reason.MISSING]
        return self.subjects.get(shown, REFUSALS[Reason.UNKNOWN])

    def known(self, credential: Credential) -> Subject | Refused | None:
        """See `IGate.known`."""
        return None if self.slow else self._found(credential)

    def identify(self, credential: Credential) -> Deferred[Subject | Refused]:
        """See `IGate.identify`."""
        if not self.slow:
            return succeed(self._found(credential))
        answer: Deferred[Subject | Refused] = Deferred()
        self.waiting.append((credential, answer))
        return answer

    def answer(self) -> None:
        """Answer everybody who waits."""
        waiting, self.waiting = self.waiting, []
        for credential, deferred in waiting:
            deferred.callback(self._found(credential))

    def check(
        self, subject: Subject, action: Action, endpoint: str | None = None, known: Rule | None = None
    ) -> Rule | Refused:
        """See `IGate.check`."""
        if subject.name in self.ended:
            return REFUSALS[self.ended[subject.name]]
        return subject.rule_for(action, endpoint) or not_allowed(action, endpoint)

    def current(self, subject: Subject) -> Subject | Refused:
        """See `IGate.current`."""
        if subject.name in self.ended:
            return REFUSALS[self.ended[subject.name]]
        known = [one for one in self.subjects.values() if isinstance(one, Subject) and one.key == subject.key]
        return known[0] if known else REFUSALS[Reason.UNKNOWN]

    def refused(self, refused: Refused, credential: Credential, endpoint: str | None = None) -> None:
        """See `IGate.refused`."""
        self.refusals.append((refused.reason, endpoint))
