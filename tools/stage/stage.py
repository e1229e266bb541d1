"""All processes of a run: started, and at the end stopped; their output is shown if something failed."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Final, TypeVar

from tools.stage.certificates import Tls
from tools.stage.nodes import Agent, Node, Settings, merged
from tools.stage.ports import Ports
from tools.stage.processes import Process, Twistd, faults
from tools.stage.waiting import StartFailed

_ATTEMPTS: Final = 5
"""The starts that are tried when a port was taken by another program between our look at it and its use."""
P = TypeVar("P", bound=Process)


class Stage:
    """Starts processes, and at the end stops all of them and shows their output if something failed.

    Args:
        directory: for configuration and output.
        tls: TLS on all ports of every node and for every agent, or None.

    Attributes:
        processes: all that were started here, the older first.
    """

    def __init__(self, directory: Path, tls: Tls | None = None) -> None:
        self.directory = directory
        self.tls = tls
        self.processes: list[Process] = []
        self._seen: dict[Path, int] = {}

    # -- starting

    def add(self, process: P) -> P:
        """Stop a process at the end, and show what it wrote if something failed."""
        self.processes.append(process)
        return process

    def started(self, start: Callable[[], P], ready: Callable[[P], object], attempts: int = _ATTEMPTS) -> P:
        """Start a process and wait until it is ready; start another one when its ports were taken.

        Args:
            start: starts one, on ports of its own.
            ready: waits until it is.
            attempts: how often that is tried.

        Raises:
            StartFailed: it ended, or was not ready in time.
        """
        while True:
            attempts -= 1
            process = self.add(start())
            try:
                ready(process)
                return process
            except StartFailed:
                if process.running or "in use" not in process.output.lower() or not attempts:
                    raise
                self.remove(process)

    def node(
        self,
        name: str = "node-1",
        settings: Settings | None = None,
        *,
        ports: Ports | None = None,
        wait: bool = True,
        prelude: str = "",
        options: Sequence[str] = (),
    ) -> Node:
        """Start a node and wait until it is ready. With no ports given, others are tried when they are taken.

        Args:
            name: its ID.
            settings: laid over its whole configuration.
            ports: where it listens; None for any.
            wait: until it is ready.
            prelude: Python that the process runs before anything else.
            options: of twistd.
        """

        def start() -> Node:
            own = ports or Ports.pick()
            return Node(own, self.tls, settings or {}, self.directory, name, prelude, options)

        return self.started(start, lambda node: node.wait_ready() if wait else None, 1 if ports else _ATTEMPTS)

    def agent(
        self,
        nodes: Node | Sequence[Node] | str,
        listeners: Mapping[str, str | int | Settings],
        settings: Settings | None = None,
        *,
        name: str = "agent-1",
        wait: bool = True,
        env: Mapping[str, str] | None = None,
        prelude: str = "",
        options: Sequence[str] = (),
    ) -> Agent:
        """Start an agent and wait until its endpoints are registered at one node of those given.

        Args:
            nodes: where to connect to; a string is a URL and not waited for.
            listeners: endpoint to address of the service, or to a listener's further settings.
            settings: laid over the whole configuration.
            name: its ID.
            wait: until its endpoints are registered.
            env: more for its environment.
            prelude: Python that the process runs before anything else.
            options: of twistd.
        """
        some = [nodes] if isinstance(nodes, Node | str) else list(nodes)
        urls = [node if isinstance(node, str) else node.upstream_url for node in some]
        # One session each, so that it is known where requests go; test_spread.py is about more.
        connect: dict[str, Any] = {"url": urls[0] if len(urls) == 1 else urls, "connections": "1"}
        if self.tls is not None:
            connect["tls"] = {"root_cas": str(self.tls.authority.ca)}
        rows = [
            {"endpoint": endpoint, **(spec if isinstance(spec, Mapping) else {"addr": str(spec)})}
            for endpoint, spec in listeners.items()
        ]
        base = {"connect": connect, "agent_id": name, "listeners": rows}
        watched = [node for node in some if isinstance(node, Node)]

        def registrations() -> list[int]:
            each = [node.admin.endpoints() for node in watched]
            return [sum(endpoints.get(endpoint, 0) for endpoints in each) for endpoint in listeners]

        before = registrations()
        kept = merged(base, settings or {})
        agent = self.add(Agent("pico-agent", name, kept, self.directory, env=env, prelude=prelude, options=options))

        def registered() -> bool:
            return all(now > then for now, then in zip(registrations(), before, strict=True))

        if wait and watched:
            agent.wait_until(registered, f"the registrations of {name}")
        return agent

    def command(
        self,
        name: str,
        *arguments: str,
        terminal: int | None = None,
        env: Mapping[str, str] | None = None,
        prelude: str = "",
    ) -> Twistd:
        """Start twistd with any arguments, its output in a file or on a terminal, behind some Python of its own."""
        return self.add(Twistd(name, arguments, self.directory, env, terminal, prelude))

    # -- what they wrote

    def new_faults(self) -> list[str]:
        """Lines about unhandled exceptions since the last time this was asked, of all processes."""
        found = []
        for process in self.processes:
            lines, self._seen[process.log_path] = process.lines_from(self._seen.get(process.log_path, 0))
            found += [f"{process.name}: {line}" for line in faults(lines)]
        return found

    def tail(self, lines: int = 50) -> str:
        """The end of every process's output, for a failure's report."""
        parts = []
        for process in self.processes:
            state = "running" if process.running else f"exit status {process.exit_status}"
            parts.append(f"--- {process.name} ({state})")
            parts += [line[:500] for line in process.output.splitlines()[-lines:]]
        return "\n".join(parts)

    # -- the end

    def remove(self, process: Process) -> None:
        """End one process at once, and miss it no more."""
        self.processes.remove(process)
        process.close()

    def stop(self) -> list[str]:
        """End every process in order, the younger first; what went wrong."""
        complaints = [process.stop() for process in reversed(self.processes)]
        return [complaint for complaint in complaints if complaint is not None]

    def close(self) -> None:
        """End every process at once. Idempotent."""
        for process in reversed(self.processes):
            process.close()


@contextlib.contextmanager
def open_stage(directory: Path, tls: Tls | None = None) -> Iterator[Stage]:
    """A Stage for a `with` statement."""
    result = Stage(directory, tls)
    try:
        yield result
    finally:
        result.close()
