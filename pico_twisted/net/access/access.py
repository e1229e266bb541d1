"""The gates of a node's ports, and what they share."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence

from prometheus_client.core import Metric

from pico_twisted.config import AuthConfig, ConfigFaults, Fault, NodeConfig
from pico_twisted.config.checks import auth_sections
from pico_twisted.config.credentials import Credentials, read_credentials
from pico_twisted.core.access.revocations import Revocations
from pico_twisted.net.access.gate import Gate
from pico_twisted.net.observe.metrics import Metrics, labelled


class Access:
    """Who may do what at a node. Nothing is read before `prepare`.

    Args:
        config: of the node.
        now: tells the time for what comes again and again, in seconds from anywhere.
        metrics: of the process.
        wall: tells the time of day, in seconds since 1970.

    Attributes:
        upstream, proxy, admin: the gates of the ports.
        revoked: what is revoked, at all of them.
    """

    def __init__(
        self,
        config: NodeConfig,
        *,
        now: Callable[[], float],
        metrics: Metrics,
        wall: Callable[[], float] = time.time,
    ) -> None:
        self.revoked = Revocations()

        def gate(port: str, auth: AuthConfig) -> Gate:
            return Gate(port, auth.enabled, revoked=self.revoked, now=now, wall=wall)

        self.upstream = gate("upstream", config.upstream.auth)
        self.proxy = gate("proxy", config.proxy.auth)
        self.admin = gate("admin", config.admin.auth)
        self._gates = {"upstream.auth": self.upstream, "proxy.auth": self.proxy, "admin.auth": self.admin}
        metrics.families(self._families)

    def prepare(self, config: NodeConfig) -> Callable[[], Sequence[str]]:
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
            changed = [gate.port for gate, credentials in fresh if gate.take(credentials)]
            return [f"who may use {', '.join(changed)}"] if changed else []

        return take

    def _families(self) -> Iterator[Metric]:
        gates = [gate for gate in self._gates.values() if gate.enabled]
        if gates:
            yield labelled(
                "pico_auth",
                "Decisions at ports that authenticate: allowed, or refused and why.",
                ("port", "result"),
                {(gate.port, result): count for gate in gates for result, count in gate.results.items()},
            )
