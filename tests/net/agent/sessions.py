"""Sessions without a connection, for the tests of who opens and who ends them."""

from __future__ import annotations

from twisted.internet.defer import Deferred

from pico_twisted.net.tunnel import Closed


class Session:
    """A tunnel as far as the agent's side looks at it; the test is the node.

    Attributes:
        draining: fires when the node has heard of our drain, as the test says; None before we drain.
        close_code, close_reason: of our close; None while there is none.
        aborted: we dropped it.
        resigned: we asked for what nobody else can serve.
    """

    agent_id = "agent-1"
    public_url = ""
    speaks = "http"
    rtt_s = 0.0
    call_count = 0
    silent = False

    def __init__(self, version: int = 2, node_id: str = "n1") -> None:
        self.version = version
        self.node_id = node_id
        self.closed: Deferred[Closed] = Deferred()
        self.draining: Deferred[None] | None = None
        self.gone: Deferred[None] = Deferred()
        self.close_code: int | None = None
        self.close_reason: str | None = None
        self.aborted = False
        self.resigned = False

    def resign(self) -> None:
        """Ask the node for what nobody else can serve."""
        self.resigned = True

    def drain(self) -> Deferred[None]:
        """Tell the node that we end."""
        assert self.draining is None, "drained twice"
        self.draining = Deferred()
        return self.draining

    def close(self, code: int = 1000, reason: str = "") -> None:
        """End in good order."""
        self.close_code = code
        self.close_reason = reason
        self.end(by_us=True, code=code)

    def abort(self) -> None:
        """Drop the session."""
        self.aborted = True
        self.end(by_us=True, clean=False)

    def end(
        self,
        *,
        by_us: bool = False,
        clean: bool = True,
        code: int | None = None,
        linger: bool = False,
        reason: str = "over",
    ) -> None:
        """The session is over; with `linger` its connection is not yet."""
        if not linger and not self.gone.called:
            self.gone.callback(None)
        if not self.closed.called:
            self.closed.callback(Closed(by_us=by_us, clean=clean, code=code, reason=reason))
