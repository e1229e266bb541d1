"""Ceilings of endpoints at a node."""

from __future__ import annotations

import attrs

from pico_twisted.config import kinds
from pico_twisted.config.fields import setting


@attrs.frozen(kw_only=True)
class EndpointLimitsConfig:
    """How much of a node some endpoints may use."""

    match: str = setting(
        kinds.PATTERN,
        None,
        "An endpoint ID, or the beginning of some with a `*` behind it. What an endpoint may use is decided by the "
        "first entry that matches it.",
    )
    each: bool = setting(
        kinds.BOOLEAN,
        "false",
        "Whether each endpoint that matches has these limits for itself. Otherwise all of them have them together.",
    )
    sessions: int | None = setting(
        kinds.count(or_none=True), "", "Agent sessions at once at this node. Further ones are refused (503)."
    )
    in_flight: int | None = setting(
        kinds.count(or_none=True), "", "Requests in progress at once at this node. Further ones are answered 503."
    )
    rate: float | None = setting(kinds.RATE, "", "Requests in a time. Further ones are answered 429.")
    body_bytes: int | None = setting(
        kinds.size(least=0, most=1 << 50, or_none=True),
        "",
        "Size of the body of a request. A longer one is answered 413, before or while it comes.",
    )
