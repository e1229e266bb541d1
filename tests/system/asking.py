"""Clients that ask a cluster while something happens to it, and remember how each of their requests went."""

from __future__ import annotations

import itertools
import ssl
import threading
import time
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from tests.peers.pipe import PATIENCE_S, Ended
from tests.system import wire
from tests.system.service import Service

_NUMBERS = itertools.count()


@dataclass(frozen=True)
class Outcome:
    """How one request went.

    Attributes:
        target: its own, if the clients have none in common, so that a service can tell whether it came twice.
        dialled, started, ended: monotonic seconds; the first is when its connection was begun.
        first: the body of the first answer on its connection; empty when there was none before.
        body: of its answer.
        problem: empty when a whole 200 came.
    """

    method: str
    target: str
    dialled: float
    started: float
    ended: float
    first: bytes
    body: bytes
    problem: str


class Asking:
    """Clients with keep-alive, each asking one request after the other, with a short pause between them.

    A request that gets no whole 200 is a failure, whatever the reason. After `Connection: close`, a client goes to the
    next address, as one behind a load balancer would.

    Args:
        addresses: of proxy ports: a client goes to the first that takes its connection.
        endpoint: what is asked for.
        method: of the requests; they have no body.
        clients: how many at once.
        pause_s: between two requests of a client, so that many clients do not need the whole machine.
        timeout_s: for one answer.
        tls: a client context, or None for plain HTTP.
        path: what is asked for; None for another one each time.
        kept: how many requests go over one connection; None for as many as it lasts.
    """

    def __init__(
        self,
        addresses: Sequence[tuple[str, int]],
        endpoint: str,
        *,
        method: str = "GET",
        clients: int = 2,
        pause_s: float = 0.02,
        timeout_s: float = PATIENCE_S,
        tls: ssl.SSLContext | None = None,
        path: str | None = None,
        kept: int | None = None,
    ) -> None:
        self.outcomes: list[Outcome] = []
        self.name = f"{method} at port {addresses[0][1]}"
        self._addresses = addresses
        self._endpoint = endpoint
        self._method = method
        self._pause_s = pause_s
        self._timeout_s = timeout_s
        self._tls = tls
        self._path = path
        self._kept = kept
        self._stop = threading.Event()
        self._changed = threading.Condition()
        self._threads = [threading.Thread(target=self._client, daemon=True) for _ in range(clients)]
        for thread in self._threads:
            thread.start()

    def _client(self) -> None:
        while not self._stop.wait(self._pause_s):
            dialled = time.monotonic()
            try:
                client = self._connect()
            except OSError as error:
                self._note(
                    Outcome(self._method, "", dialled, dialled, time.monotonic(), b"", b"", f"no connection: {error}")
                )
                continue
            first = b""
            for number in itertools.count(1):
                target = self._path or f"/asked/{next(_NUMBERS)}"
                started = time.monotonic()
                body, problem, last = self._ask(client, target)
                self._note(Outcome(self._method, target, dialled, started, time.monotonic(), first, body, problem))
                first = first or body
                if last or number == self._kept or self._stop.wait(self._pause_s):
                    break
            client.close()

    def _ask(self, client: wire.Stream, target: str) -> tuple[bytes, str, bool]:
        """Make a request: the body of its answer, what was wrong, and whether it was the connection's last."""
        length = "" if self._method == "GET" else "Content-Length: 0\r\n"
        head = f"{self._method} {target} HTTP/1.1\r\nHost: a.example\r\nx-pico-endpoint: {self._endpoint}\r\n"
        try:
            client.send(f"{head}{length}\r\n".encode())
            response = client.read_response(self._method, self._timeout_s)
        except (Ended, wire.Broken, wire.Malformed, OSError) as error:
            return b"", f"{type(error).__name__}: {error}", True
        problem = "" if response.status == 200 else f"{response.status} {response.body!r}"
        return response.body, problem, response.get("connection") == b"close"

    def _connect(self) -> wire.Stream:
        for address in self._addresses[:-1]:
            try:
                return wire.connect(address, tls=self._tls)
            except OSError:
                continue
        return wire.connect(self._addresses[-1], tls=self._tls)

    def _note(self, outcome: Outcome) -> None:
        with self._changed:
            self.outcomes.append(outcome)
            self._changed.notify_all()

    # -- waiting

    def wait_more(
        self, count: int, timeout: float = PATIENCE_S, *, body: bytes | None = None, since: float | None = None
    ) -> None:
        """Wait until so many more requests have succeeded.

        Args:
            count: how many.
            timeout: seconds.
            body: of their answers; None for any.
            since: when they have begun at the earliest; None for the time of the call.
        """
        begin = time.monotonic() if since is None else since
        with self._changed:
            if not self._changed.wait_for(lambda: self._good_since(begin, body) >= count, timeout):
                raise TimeoutError(
                    f"{self.name}: only {self._good_since(begin, body)} of {count} requests succeeded: "
                    f"{self.failures[-3:]}"
                )

    def _good_since(self, since: float, body: bytes | None) -> int:
        good = 0
        for outcome in reversed(self.outcomes):
            if outcome.ended < since:
                break
            good += outcome.started >= since and not outcome.problem and body in (None, outcome.body)
        return good

    def stop(self) -> None:
        """End all clients after their current request."""
        self._stop.set()
        for thread in self._threads:
            thread.join(PATIENCE_S)

    # -- what came of it

    @property
    def failures(self) -> list[Outcome]:
        """The requests that got no whole 200."""
        return [outcome for outcome in list(self.outcomes) if outcome.problem]

    def bodies(self, since: float = 0.0) -> set[bytes]:
        """The bodies of the answers that came since then."""
        return {outcome.body for outcome in list(self.outcomes) if not outcome.problem and outcome.ended >= since}

    @property
    def outage_s(self) -> float:
        """The longest time from the begin of a failed request to the next success, of any client; 0.0 for none."""
        longest, since = 0.0, None
        for outcome in sorted(self.outcomes, key=lambda one: one.ended):
            if outcome.problem:
                since = outcome.started if since is None else min(since, outcome.started)
            elif since is not None:
                longest, since = max(longest, outcome.ended - since), None
        if since is not None:
            longest = max(longest, time.monotonic() - since)
        return longest

    @property
    def longest_s(self) -> float:
        """What the slowest request took."""
        return max((outcome.ended - outcome.started for outcome in self.outcomes), default=0.0)

    def check(self) -> None:
        """Stop, and fail unless there were requests and all of them succeeded."""
        self.stop()
        assert self.outcomes, self.name
        failed = self.failures
        assert failed == [], f"{self.name}: {len(failed)} of {len(self.outcomes)} failed: {failed[:5]}"


def came_twice(services: Iterable[Service], method: str) -> dict[bytes, int]:
    """The targets of a method's requests that reached these services more than once, and how often."""
    counts = Counter(
        request.target
        for service in services
        for request in list(service.requests)
        if request.method == method.encode()
    )
    return {target: count for target, count in counts.items() if count > 1}
