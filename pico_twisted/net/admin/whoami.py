"""Who somebody is at the ports of a node, and what they may do there: told to whoever shows a credential.

The question needs no rule: whoever has the credential could find the same out at the ports.
"""

from __future__ import annotations

from collections.abc import Mapping

from pico_twisted.core.access.refusals import REFUSALS
from pico_twisted.core.access.subject import Reason, Subject
from pico_twisted.net.access.interfaces import Credential, IGate
from pico_twisted.net.admin.shapes.access import KnownAs


async def known_as(gates: Mapping[str, IGate], credential: Credential) -> dict[str, KnownAs]:
    """Ask the gate of each port, one after the other.

    Args:
        gates: by the names of the ports.
        credential: its certificate counts at the admin port alone, which has verified it.
    """
    return {port: await _at(gate, port, credential) for port, gate in gates.items()}


async def _at(gate: IGate, port: str, credential: Credential) -> KnownAs:
    if not gate.enabled:
        return KnownAs(authenticates=False)
    if credential.bearer is None and port != "admin":
        return KnownAs.of(REFUSALS[Reason.MISSING], port)
    found = gate.known(credential)
    if found is None:
        found = await gate.identify(credential)
    return KnownAs.of(gate.current(found) if isinstance(found, Subject) else found, port)
