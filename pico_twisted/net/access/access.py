"""The gates of the ports of a node or an agent, and what they share."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

from prometheus_client.core import GaugeMetricFamily, Metric
from twisted.internet.defer import Deferred
from twisted.internet.threads import deferToThreadPool

from pico_twisted.config import AgentConfig, ConfigFaults, Fault, JwtConfig, NodeConfig
from pico_twisted.config.checks import auth_sections
from pico_twisted.config.credentials import Credentials, read_credentials
from pico_twisted.core.access.revocations import Revocations
from pico_twisted.core.access.subject import Subject
from pico_twisted.net.access.gate import Gate
from pico_twisted.net.access.key_set import KeySet
from pico_twisted.net.access.signature_checks import RunInThread, SignatureChecks
from pico_twisted.net.observe.metrics import Metrics, by_label, labelled


class Access:
    """Who may do what at a node, or at an agent, which has an admin port alone. Nothing is read before `prepare`.

    Args:
        config: of the node or agent.
        reactor: of the process: keeps the time, fetches keys.
        metrics: of the process.
        wall: tells the time of day, in seconds since 1970.
        run_in_thread: does what takes long; the reactor's pool of threads unless given.

    Attributes:
        revoked: what is revoked, at all of them.
    """

    def __init__(
        self,
        config: NodeConfig | AgentConfig,
        reactor: Any,  # as of `Node`
        *,
        metrics: Metrics,
        wall: Callable[[], float] = time.time,
        run_in_thread: RunInThread | None = None,
    ) -> None:
        self.revoked = Revocations()
        self._reactor = reactor
        self._run_in_thread = run_in_thread or self._in_pool
        self._key_sets: dict[tuple[str, str], KeySet] = {}  # by URL and authorities
        checks = SignatureChecks(self._run_in_thread)

        self._gates = {
            path: Gate(
                path.partition(".")[0],
                auth.enabled,
                revoked=self.revoked,
                checks=checks,
                now=reactor.seconds,
                wall=wall,
            )
            for path, auth in auth_sections(config).items()
        }
        metrics.families(self._families)

    @property
    def gates(self) -> Mapping[str, Gate]:
        """All of them, by the name of their port."""
        return {gate.port: gate for gate in self._gates.values()}

    @property
    def upstream(self) -> Gate:
        """The gate of the upstream port."""
        return self._gates["upstream.auth"]

    @property
    def proxy(self) -> Gate:
        """The gate of the proxy port."""
        return self._gates["proxy.auth"]

    @property
    def admin(self) -> Gate:
        """The gate of the admin port."""
        return self._gates["admin.auth"]

    def subjects(self) -> Iterator[Subject]:
        """Who has a line in a file of a port."""
        for gate in self._gates.values():
            yield from gate.subjects()

    def prepare(self, config: NodeConfig | AgentConfig) -> Callable[[], Sequence[str]]:
        """Read all files that a configuration names. Runs in a thread.

        Returns:
            What takes them, which cannot fail, and says in words what that changed.

        Raises:
            ConfigFaults: one of them cannot be used; nothing has changed.
        """
        fresh: list[tuple[Gate, Credentials]] = []
        faults: list[Fault] = []
        for path, auth in auth_sections(config).items():
            gate = self._gates[path]
            if gate.enabled and auth.enabled:  # to switch it on or off takes a restart
                credentials, wrong = read_credentials(auth, path)
                fresh.append((gate, credentials))
                faults += wrong
        if faults:
            raise ConfigFaults(faults)

        def take() -> Sequence[str]:
            sources = {_source(credentials.jwt): credentials.jwt for _, credentials in fresh}
            key_sets = {source: self._key_set(jwt) for source, jwt in sources.items()}
            changed = [gate.port for gate, of in fresh if gate.take(of, key_sets[_source(of.jwt)])]
            self._stop_key_sets(lambda key_set: all(gate.at_url is not key_set for gate in self._gates.values()))
            return [f"who may use {', '.join(changed)}"] if changed else []

        return take

    def _key_set(self, jwt: JwtConfig) -> KeySet | None:
        """The JWK set at a URL, asked now. One that is there stays, with what it knows."""
        if not jwt.jwks_url:
            return None
        key_set = self._key_sets.get(_source(jwt)) or KeySet(*_source(jwt), self._reactor, self._run_in_thread)
        self._key_sets[_source(jwt)] = key_set
        key_set.start()
        return key_set

    def _stop_key_sets(self, which: Callable[[KeySet], bool]) -> None:
        for source, key_set in list(self._key_sets.items()):
            if which(key_set):
                del self._key_sets[source]
                key_set.stop()

    def stop(self) -> None:
        """Fetch keys no more."""
        self._stop_key_sets(lambda _: True)

    def _in_pool(self, work: Callable[[], object]) -> Deferred[object]:
        return deferToThreadPool(self._reactor, self._reactor.getThreadPool(), work)

    def _families(self) -> Iterator[Metric]:
        gates = [gate for gate in self._gates.values() if gate.enabled]
        if gates:
            yield labelled(
                "pico_auth",
                "Decisions at ports that authenticate: allowed, or refused and why.",
                ("port", "result"),
                {(gate.port, result): count for gate in gates for result, count in gate.results.items()},
            )
        key_sets = {gate.port: gate.at_url for gate in gates if gate.at_url is not None}
        if key_sets:
            failures = "Questions for the JWK set of a port that brought no good answer."
            counts = {port: key_set.failures for port, key_set in key_sets.items()}
            yield by_label("pico_auth_jwks_failures", failures, "port", counts)
            age = GaugeMetricFamily(
                "pico_auth_jwks_age_seconds", "Since the last good answer with the JWK set of a port.", labels=("port",)
            )
            for port, key_set in key_sets.items():
                if key_set.read_at is not None:
                    age.add_metric((port,), self._reactor.seconds() - key_set.read_at)
            yield age


def _source(jwt: JwtConfig) -> tuple[str, str]:
    return jwt.jwks_url, jwt.jwks_ca
