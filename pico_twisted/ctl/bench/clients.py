"""The clients of a bench: each has one connection at a time, and one request or message under way."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any, Final

from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.interfaces import IReactorTime
from twisted.internet.protocol import Factory
from twisted.logger import Logger
from twisted.python.failure import Failure

from pico_twisted.ctl.bench.record import Record
from pico_twisted.ctl.bench.wires import Place, Wire
from pico_twisted.net.tls.failures import connect_failure_text
from pico_twisted.net.turn import NEVER, Sweep

log = Logger()

TIMEOUT: Final = "no answer in time"
"""The kind of error that a request has which took too long."""
CLOSED: Final = "closed before the answer"
"""The kind of error that a request has whose connection ended."""
PAUSE_S: Final = 0.1
"""The seconds that a client waits after a connection that failed: a closed port must not be dialled in a loop."""


class Client:
    """Makes one request after the other, when it is told to.

    Args:
        place: where it connects.
        make: its kind of connection.
        sweep: watches the time-outs.
        reactor: wakes it after a connection that failed.
        timeout_s: for one request.
        free: called whenever it has nothing to do.
    """

    def __init__(
        self,
        place: Place,
        make: Callable[[Client], Wire],
        *,
        sweep: Sweep,
        reactor: IReactorTime,
        timeout_s: float,
        free: Callable[[Client], None],
    ) -> None:
        self.place = place
        self.deadline = NEVER
        self._factory = Factory.forProtocol(lambda: make(self))
        self._factory.noisy = False
        self._sweep = sweep
        self._reactor = reactor
        self._timeout_s = timeout_s
        self._free = free
        self._wire: Wire | None = None
        self._connecting: Deferred[Any] | None = None
        self._record: Record | None = None
        self._due_at = 0.0
        self._ready = False

    @property
    def busy(self) -> bool:
        """Whether a request is under way."""
        return self._record is not None

    def go(self, record: Record, due_at: float) -> None:
        """Make a request.

        Args:
            record: where it is counted.
            due_at: when it should have begun, as `time.perf_counter` has it: its latency is counted from then.
        """
        record.begun += 1
        self._record = record
        self._due_at = due_at
        self.deadline = self._sweep.now + self._timeout_s
        self._sweep.add(self)
        wire = self._wire
        if wire is None or wire.gone:
            self._connect()
        elif self._ready:
            self._ask(wire)

    def _connect(self) -> None:
        self._ready = False
        connecting = self._connecting = self.place.endpoint.connect(self._factory)
        connecting.addCallbacks(self._connected, self._not_connected)
        connecting.addErrback(lambda failure: log.failure("A client failed", failure))

    def _connected(self, wire: Any) -> None:
        self._connecting = None
        if self._record is None:
            wire.abort()
        else:
            self._wire = wire

    def _not_connected(self, failure: Failure) -> None:
        self._connecting = None
        if not isinstance(failure.value, CancelledError) or self._record is not None:
            self.failed(f"no connection: {connect_failure_text(failure)}")

    def ready(self, wire: Wire) -> None:
        """The connection can take requests."""
        self._wire = wire
        self._ready = True
        if self._record is not None:
            self._ask(wire)
        else:
            self._drop()

    def _ask(self, wire: Wire) -> None:
        record = self._record
        assert record is not None
        record.sent_bytes += wire.ask()

    def answered(self, wire: Wire, *, keep: bool) -> None:
        """The whole answer is here, and right."""
        record, at = self._record, time.perf_counter()
        if record is None or wire is not self._wire:
            return
        record.received_bytes += wire.received_bytes
        wire.received_bytes = 0
        record.succeeded(at - self._due_at, at)
        if not keep:
            self.close()
        self._over(0.0)

    def failed(self, kind: str, *, keep: bool = False) -> None:
        """There will be no right answer to the request.

        Args:
            kind: why, in few words.
            keep: the connection can be used further.
        """
        record = self._record
        if record is None:
            self._drop()
            return
        record.failed(kind, time.perf_counter())
        if self._wire is not None:
            record.received_bytes += self._wire.received_bytes
            self._wire.received_bytes = 0
        if not keep:
            self._drop()
        self._over(0.0 if keep else PAUSE_S)

    def lost(self, wire: Wire, why: str | None) -> None:
        """The connection is gone. Idle ones may go at any time.

        Args:
            why: what TLS has to say about it.
        """
        if wire is self._wire:
            self._wire = None
            if self._record is not None:
                self.failed(f"no connection: {why}" if why else CLOSED)

    def deadline_passed(self, now: float) -> None:
        """Called by the sweep: the request took too long."""
        self.deadline = NEVER
        self.failed(TIMEOUT)

    def abort(self) -> None:
        """Give everything up; a request under way stays without an end."""
        self._record = None
        self._sweep.discard(self)
        self._drop()

    def close(self) -> None:
        """Close the connection, on which nothing is under way."""
        wire, self._wire = self._wire, None
        if wire is not None and not wire.gone:
            wire.close()

    def _drop(self) -> None:
        wire, self._wire = self._wire, None
        if wire is not None and not wire.gone:
            wire.abort()
        connecting, self._connecting = self._connecting, None
        if connecting is not None:
            connecting.cancel()

    def _over(self, pause_s: float) -> None:
        self._record = None
        self._sweep.discard(self)
        if pause_s:
            self._reactor.callLater(pause_s, self._free, self)
        else:
            self._free(self)
