"""What the ports ask of the gate at their entrance."""

from __future__ import annotations

import attrs
from twisted.internet.defer import Deferred
from zope.interface import Attribute, Interface

from pico_twisted.core.access.rules import Action, Rule
from pico_twisted.core.access.subject import Refused, Subject


@attrs.frozen(kw_only=True)
class Credential:
    """What somebody shows.

    Attributes:
        bearer: a token or JWT, as it came; None when there was none.
        certificate: the client's certificate of the TLS connection, in DER; None when there was none.
        address: of the client, for the log.
    """

    bearer: bytes | None = attrs.field(default=None, repr=False)
    certificate: bytes | None = None
    address: str = ""


class IGate(Interface):
    """Says who somebody is, and what they may do. One for each port; all of them share what is revoked."""

    enabled: bool = Attribute("whether the port authenticates; else nothing is to be asked")
    epoch: object = Attribute("another one after each change of who is known: whoever keeps answers asks again then")

    def known(credential: Credential) -> Subject | Refused | None:
        """Say who shows a credential, when that is known without waiting; None when `identify` has to be asked."""

    def identify(credential: Credential) -> Deferred[Subject | Refused]:
        """Say who shows a credential. Never fails. Signatures are checked beside the reactor, so many at once."""

    def check(
        subject: Subject, action: Action, endpoint: str | None = None, known: Rule | None = None
    ) -> Rule | Refused:
        """Say whether a subject may do something now: a rule allows it, it has not expired, and is not revoked.

        Args:
            subject: who.
            action: what.
            endpoint: with which endpoint, its ID in lower case; None for an action that has none.
            known: the rule that allowed the same to this subject before, which is not looked for again.
        """

    def current(subject: Subject) -> Subject | Refused:
        """Say who somebody is now that was let in before: files may have been read again. Nothing is counted.

        Returns:
            The subject with the rules that it has now, or why it is none any more.
        """

    def refused(refused: Refused, credential: Credential, endpoint: str | None = None) -> None:
        """Count a refusal by its reason, and log it, at most once a second and without a secret."""
