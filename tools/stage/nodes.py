"""Nodes and agents: twistd with a file of settings."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml

from tools.stage.asking import Admin
from tools.stage.certificates import Tls
from tools.stage.ports import HOST, Ports
from tools.stage.processes import Twistd
from tools.stage.waiting import PATIENCE_S, wait_until

Settings = Mapping[str, Any]  # as a file has them


def merged(base: Settings, extra: Settings) -> dict[str, Any]:
    """Settings with others laid over them, section by section."""
    result = dict(base)
    for key, value in extra.items():
        old = result.get(key)
        result[key] = merged(old, value) if isinstance(old, Mapping) and isinstance(value, Mapping) else value
    return result


class Daemon(Twistd):
    """A node or an agent that reads its settings from a file.

    Args:
        kind: `pico` or `pico-agent`.
        name: for messages and for the names of its files.
        settings: what its file holds.
        directory: where it runs and where its output goes.
        env: more for its environment.
        prelude: Python that the process runs before anything else.
        options: of twistd.
    """

    def __init__(
        self,
        kind: str,
        name: str,
        settings: Settings,
        directory: Path,
        *,
        env: Mapping[str, str] | None = None,
        prelude: str = "",
        options: Sequence[str] = (),
    ) -> None:
        self.config_path = directory / f"{name}-{time.monotonic_ns()}.yaml"
        self.settings = dict(settings)
        self.write_settings()
        super().__init__(name, [*options, kind, "--config", str(self.config_path)], directory, env=env, prelude=prelude)

    def write_settings(self, extra: Settings | None = None) -> None:
        """Write its file, with some settings laid over the old ones."""
        self.settings = merged(self.settings, extra or {})
        self.config_path.write_text(yaml.safe_dump(self.settings))


class Node(Daemon):
    """A running node.

    Args:
        ports: where it listens.
        tls: for all of its ports, or None.
        settings: laid over those that follow from the ports.
        directory: where it runs and where its output goes.
        name: its ID, if the settings do not have another one.
        prelude: Python that the process runs before anything else.
        options: of twistd.
    """

    def __init__(
        self,
        ports: Ports,
        tls: Tls | None,
        settings: Settings,
        directory: Path,
        name: str,
        prelude: str = "",
        options: Sequence[str] = (),
    ) -> None:
        self.ports = ports
        self.tls = tls
        own: dict[str, Any] = merged(ports.settings(), {"cluster": {"node_id": name}})
        if tls is not None:
            own = merged(own, {section: {"tls": tls.section} for section in ("proxy", "admin", "upstream")})
        super().__init__("pico", name, merged(own, settings), directory, prelude=prelude, options=options)
        self.admin = Admin(ports.admin, tls.context if tls else None)

    @property
    def proxy(self) -> tuple[str, int]:
        """The proxy port's address."""
        return (HOST, self.ports.proxy)

    @property
    def upstream(self) -> tuple[str, int]:
        """The upstream port's address."""
        return (HOST, self.ports.upstream)

    @property
    def upstream_url(self) -> str:
        """What an agent connects to."""
        return f"{'https' if self.tls else 'http'}://localhost:{self.ports.upstream}"

    def url(self, path: str = "/", host: str = HOST) -> str:
        """A URL of the proxy port."""
        return f"{'https' if self.tls else 'http'}://{host}:{self.ports.proxy}{path}"

    def wait_ready(self) -> None:
        """Wait until it serves. Raises StartFailed when it ends instead."""
        self.wait_until(lambda: self.admin.status("/ready") == 200, f"{self.name} to be ready")

    def wait_endpoint(self, endpoint: str, count: int = 1, timeout: float = PATIENCE_S) -> None:
        """Wait until an endpoint has exactly so many registrations."""
        wait_until(
            lambda: self.admin.endpoints().get(endpoint, 0) == count, f"{count} registrations of {endpoint}", timeout
        )

    def wait_endpoints(self, endpoints: Sequence[str]) -> None:
        """Wait until each of these is registered at least once."""
        wait_until(lambda: set(endpoints) <= set(self.admin.endpoints()), f"registrations of {endpoints}")


class Agent(Daemon):
    """A running agent."""
