"""What a node's ceilings say to who comes in: of endpoints, of subjects, and of clients' addresses.

All of it counts where a request enters, at this node alone. A request takes from the ceiling of its address first, then
of its subject, then of its endpoint, so that who asks too often uses up nothing that others share. The rates of all
follow the sweep's clock.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from functools import lru_cache
from typing import Final

from prometheus_client.core import Metric

from pico_twisted.config import EndpointLimitsConfig, NodeConfig
from pico_twisted.core.access.ceilings import Ceiling, Ceilings, Limit, Over, enter_all
from pico_twisted.core.access.rules import Pattern, Rule
from pico_twisted.core.access.subject import Subject
from pico_twisted.core.sweep import Sweep
from pico_twisted.core.text import network_of
from pico_twisted.net.access.load import NodeLoad
from pico_twisted.net.access.retry_after import after, soon
from pico_twisted.net.observe.metrics import Metrics, by_label

_MAX_REMEMBERED: Final = 4096
"""Most endpoints whose entry is kept: finding it out takes microseconds."""

NO_LIMITS_OF_ENDPOINT: Final = EndpointLimitsConfig(match="*")
"""What counts for an endpoint that no entry matches."""

_WORDS: Final = {
    Limit.ENDPOINT_RATE: "too many requests for this endpoint in a short time",
    Limit.ENDPOINT_IN_FLIGHT: "too many requests for this endpoint in progress",
    Limit.ENDPOINT_SESSIONS: "too many sessions for this endpoint",
    Limit.ENDPOINT_BODY: "the request body is longer than this endpoint takes",
    Limit.SUBJECT_RATE: "too many requests with this credential in a short time",
    Limit.SUBJECT_IN_FLIGHT: "too many requests with this credential in progress",
    Limit.SUBJECT_SESSIONS: "too many sessions with this credential",
    Limit.ADDRESS_RATE: "too many requests from this address in a short time",
    Limit.OVERLOADED: "the node has more to do than it can",
}
_STATUSES: Final = {
    Limit.ENDPOINT_RATE: 429,
    Limit.SUBJECT_RATE: 429,
    Limit.ADDRESS_RATE: 429,
    Limit.ENDPOINT_BODY: 413,
}


class LimitCounts:
    """How often each limit was reached.

    Args:
        metrics: where that is shown.
    """

    def __init__(self, metrics: Metrics) -> None:
        self._counts: Counter[str] = Counter()
        metrics.families(self._families)

    def count(self, limit: Limit) -> None:
        """It was reached, and somebody refused."""
        self._counts[limit.value] += 1

    def _families(self) -> Sequence[Metric]:
        return [by_label("pico_limited", "What was refused for a limit, by which.", "reason", self._counts)]


def answer_to(over: Over) -> tuple[int, str, str]:
    """Status, message and error code of the answer to who is over a limit."""
    return _STATUSES.get(over.limit, 503), _WORDS[over.limit], over.limit.value


def retry_after(over: Over) -> bytes:
    """The value of Retry-After for who is over a limit."""
    return soon() if over.retry_after_s is None else after(over.retry_after_s)


class NodeCeilings:
    """The ceilings of a node.

    Args:
        sweep: tells the time.
        metrics: where it is shown how often each was reached.

    Attributes:
        counts: how often each limit was reached.
        load: what is refused while the node comes late.
        active: whether a request is to be asked about, whatever its subject.
        requests_per_address: how many a second; None for no limit.
        connections_per_address: how many there may be; None for no limit.
    """

    def __init__(self, sweep: Sweep, metrics: Metrics) -> None:
        self.counts = LimitCounts(metrics)
        self.load = NodeLoad(sweep, self.counts.count)
        words = "The share of new requests that the node refuses since it comes late, from 0 to 1."
        metrics.gauge("pico_overload_ratio", words, lambda: self.load.share)
        self._sweep = sweep
        self._endpoints = Ceilings(Limit.ENDPOINT_IN_FLIGHT, Limit.ENDPOINT_RATE)
        self._subjects = Ceilings(Limit.SUBJECT_IN_FLIGHT, Limit.SUBJECT_RATE)
        self._addresses = Ceilings(Limit.ADDRESS_CONNECTIONS, Limit.ADDRESS_RATE)
        self._connections = Ceilings(Limit.ADDRESS_CONNECTIONS, Limit.ADDRESS_RATE)
        self._sessions_of_endpoints = Ceilings(Limit.ENDPOINT_SESSIONS, Limit.ENDPOINT_RATE)
        self._sessions_of_subjects = Ceilings(Limit.SUBJECT_SESSIONS, Limit.SUBJECT_RATE)
        self.requests_per_address: float | None = None
        self.connections_per_address: int | None = None
        self._entries: Sequence[EndpointLimitsConfig] = ()
        self._take(())

    def configure(self, config: NodeConfig) -> Sequence[str]:
        """Hold to these limits from now on. What is in flight stays counted. Returns in words what `endpoints` says
        now, if that changed."""
        before, self._entries = self._entries, config.endpoints
        self.requests_per_address = config.limits.requests_per_address
        self.connections_per_address = config.limits.connections_per_address
        self._take(config.endpoints)
        if before == config.endpoints:
            return ()
        return (f"endpoints: {', '.join(entry.match for entry in config.endpoints) or 'none'}",)

    def _take(self, entries: Sequence[EndpointLimitsConfig]) -> None:
        patterns = [(Pattern(entry.match), entry) for entry in entries]

        @lru_cache(_MAX_REMEMBERED)
        def limits_of(endpoint: str) -> EndpointLimitsConfig:
            for pattern, entry in patterns:
                if pattern.matches(endpoint):
                    return entry
            return NO_LIMITS_OF_ENDPOINT

        self.limits_of = limits_of
        self.active = any(entry.in_flight or entry.rate or entry.body_bytes is not None for entry in entries)

    # Requests

    def asks(self, request: object, address: bytes) -> Over | None:
        """A client asks something. Whoever asks too often is not looked at any further.

        Args:
            request: what it asks.
            address: of the client; empty where that does not count.
        """
        network = network_of(address)
        if self.requests_per_address is None or not network:
            return None
        entered = self._entered(
            [self._addresses.of(network, None, self.requests_per_address, self._sweep.now)], request
        )
        return entered if isinstance(entered, Over) else None

    def enter(
        self, request: object, endpoint: str, subject: Subject | None = None, rule: Rule | None = None
    ) -> Sequence[Ceiling] | Over:
        """A request comes in.

        Args:
            request: is in flight until each of the ceilings that are returned was told that it leaves.
            endpoint: its ID in lower case.
            subject: who sends it, once they have shown a credential.
            rule: that allowed it to the subject.
        """
        ceilings: list[Ceiling] = []
        if subject is not None and rule is not None:
            ceilings += self._of_subject(self._subjects, subject, rule, rule.limits.in_flight, rule.limits.rate)
        entry = self.limits_of(endpoint)
        if entry.in_flight is not None or entry.rate is not None:
            key = _key(entry, endpoint)
            ceilings.append(self._endpoints.of(key, entry.in_flight, entry.rate, self._sweep.now))
        return self._entered(ceilings, request)

    def of_rule(self, request: object, subject: Subject, rule: Rule) -> Sequence[Ceiling] | Over:
        """A request goes to an agent, under the limits of the rule that lets the agent serve. As `enter`."""
        limits = rule.limits
        return self._entered(self._of_subject(self._subjects, subject, rule, limits.in_flight, limits.rate), request)

    def _of_subject(
        self, ceilings: Ceilings, subject: Subject, rule: Rule, most: int | None, rate: float | None
    ) -> list[Ceiling]:
        if most is None and rate is None:
            return []
        return [ceilings.of(f"{rule} {subject.key}", most, rate, self._sweep.now)]

    def _entered(self, ceilings: Sequence[Ceiling], what: object) -> Sequence[Ceiling] | Over:
        over = enter_all(ceilings, what, self._sweep.now)
        if over is None:
            return ceilings
        self.counts.count(over.limit)
        return over

    # Sessions

    def room(self, endpoint: str, subject: Subject | None = None, rule: Rule | None = None) -> Over | None:
        """Say why there may be no further session of an agent, if there may not. As `session`."""
        ceilings, probe = self._of_session(endpoint, subject, rule), object()
        entered = self._entered(ceilings, probe)
        leave_all(ceilings, probe)
        return entered if isinstance(entered, Over) else None

    def session(
        self, session: object, endpoint: str, subject: Subject | None = None, rule: Rule | None = None
    ) -> Sequence[Ceiling]:
        """An agent has a session. It counts as of `enter`, also where it came in under other limits and is too much."""
        ceilings = self._of_session(endpoint, subject, rule)
        for ceiling in ceilings:
            ceiling.inside.add(session)
        return ceilings

    def _of_session(self, endpoint: str, subject: Subject | None, rule: Rule | None) -> Sequence[Ceiling]:
        ceilings: list[Ceiling] = []
        if subject is not None and rule is not None:
            ceilings += self._of_subject(self._sessions_of_subjects, subject, rule, rule.limits.sessions, None)
        entry = self.limits_of(endpoint)
        if entry.sessions is not None:
            key = _key(entry, endpoint)
            ceilings.append(self._sessions_of_endpoints.of(key, entry.sessions, None, self._sweep.now))
        return ceilings

    # Connections

    def connected(self, connection: object, address: bytes) -> Sequence[Ceiling] | Over:
        """A client has connected. As `enter`."""
        if self.connections_per_address is None or not (network := network_of(address)):
            return ()
        ceiling = self._connections.of(network, self.connections_per_address, None, self._sweep.now)
        return self._entered([ceiling], connection)


def leave_all(ceilings: Sequence[Ceiling], what: object) -> None:
    """Something has ended that had come in under these ceilings. Idempotent."""
    for ceiling in ceilings:
        ceiling.leave(what)


def _key(entry: EndpointLimitsConfig, endpoint: str) -> str:
    return endpoint if entry.each else entry.match
