"""Who else serves an endpoint, as an agent is told."""

from __future__ import annotations

import attrs

from pico_twisted.core.text import span


@attrs.frozen(kw_only=True)
class OtherServer:
    """Somebody else who serves an endpoint.

    Attributes:
        name: the agent's ID, or words where that is not known.
        address: where it is.
        for_s: how long it has been registered; None where that is not known.
        alone: it will not share the endpoint.
    """

    name: str
    address: str
    for_s: float | None = None
    alone: bool = False

    def __str__(self) -> str:
        since = "" if self.for_s is None else f", {span(self.for_s)}"
        return f"{self.name} ({self.address}{since})"
