"""What a bench is to do, as one value, and what it may not be asked for."""

from __future__ import annotations

from typing import Final

import attrs

MAX_CONNECTIONS: Final = 20_000
MAX_REGISTRATIONS: Final = 20_000
"""Of endpoints and agents together: each is a session, with a connection of its own."""
MAX_BODY_BYTES: Final = 64 << 20
MAX_HELD_BYTES: Final = 1 << 30
"""Bodies that all connections together may have under way: they are held in the memory of this one process."""
MAX_RATE: Final = 1_000_000.0
MAX_CHURN: Final = 1_000.0
SPARE_FILES: Final = 64
"""Open files beyond the connections."""
BODIES: Final = ("POST", "PUT", "PATCH")
"""The methods whose requests have a body."""
METHODS: Final = ("GET", "HEAD", *BODIES, "DELETE", "OPTIONS")
"""The methods that a bench can use."""
SMALL_BYTES: Final = 128
"""The size in bytes of a body for which none was given."""


@attrs.frozen(kw_only=True)
class BenchPlan:
    """What is measured, and how.

    Attributes:
        proxies: URLs of proxy ports; connections are shared out over them.
        upstreams: URLs of upstream ports; agents are shared out over them.
        token: that agents show; empty for none.
        ca: a PEM file of authorities to trust; empty for the system's.
        endpoints: how many, each with a service that echoes.
        agents: for each endpoint.
        connections: of clients, each with one request or message under way at most.
        duration_s: of the measurement; None when `requests` ends it.
        requests: how many; None when the time ends it.
        rate: requests a second of all connections together; None for as many as there are answers.
        warm_up_s: load that is not measured, before that which is.
        churn: agents a second that leave and come back.
        websocket: messages through upgraded connections, in place of requests.
        method: of the requests.
        request_bytes: of each body or message.
        response_bytes: of each answer's body; None for the request's own, sent back.
        timeout_s: for one request, with its connection; and for the start.
    """

    proxies: tuple[str, ...]
    upstreams: tuple[str, ...]
    token: str
    ca: str
    endpoints: int
    agents: int
    connections: int
    duration_s: float | None
    requests: int | None
    rate: float | None
    warm_up_s: float
    churn: float
    websocket: bool
    method: str
    request_bytes: int
    response_bytes: int | None
    timeout_s: float

    @property
    def things(self) -> str:
        """The word for what is sent."""
        return "messages" if self.websocket else "requests"

    @property
    def answer_bytes(self) -> int:
        """The body that comes back."""
        if self.method == "HEAD" and not self.websocket:
            return 0
        return self.request_bytes if self.response_bytes is None else self.response_bytes

    def setting(self) -> dict[str, object]:
        """What a reader of the figures has to know, without the token."""
        return {name: value for name, value in attrs.asdict(self).items() if name != "token"}

    def fault(self) -> str:
        """Why it cannot be done, however large the machine; empty when it can."""
        if self.endpoints * self.agents > MAX_REGISTRATIONS:
            return f"--endpoints times --agents is over {MAX_REGISTRATIONS}"
        if self.connections * (self.request_bytes + self.answer_bytes) > MAX_HELD_BYTES:
            return f"the bodies of all connections together are over {MAX_HELD_BYTES >> 30} GiB"
        return ""

    @property
    def open_files(self) -> int:
        """How many files this process will have open."""
        return self.connections + self.endpoints * self.agents + SPARE_FILES
