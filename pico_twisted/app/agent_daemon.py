"""Runs an agent: registers its listeners, serves, and ends in order."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import cast

from twisted.application.service import IService
from twisted.internet.defer import maybeDeferred
from twisted.logger import Logger

from pico_twisted import __version__
from pico_twisted.app.agent import build_agent
from pico_twisted.app.cli.banner import agent_banner, counted, proxy_url
from pico_twisted.app.cli.options import AgentOptions
from pico_twisted.app.process.agent_credentials import AgentCredentials, warn_of_plain_tokens
from pico_twisted.app.process.daemon import Daemon
from pico_twisted.app.process.inspecting import bind_inspector
from pico_twisted.app.process.local_admin import LocalPort, listen_locally, local_admin_socket
from pico_twisted.app.process.memory import give_memory_back
from pico_twisted.app.process.ports import Attempts, BoundPort
from pico_twisted.app.process.reactor import IDaemonReactor
from pico_twisted.app.process.spans import LAST_S, Spans
from pico_twisted.config import AgentConfig, ConfigFaults, ListenerConfig
from pico_twisted.config.credentials import read_users
from pico_twisted.core.forward_proxy import ForwardProxies
from pico_twisted.core.stopping import of_both_kinds
from pico_twisted.net.admin.inspect import InspectorPort
from pico_twisted.net.agent.inspect import Inspector
from pico_twisted.net.observe.logs import Logging
from pico_twisted.net.socket.dialling import tell_of_proxies
from pico_twisted.net.socket.end_of_turn import EndOfTurn
from pico_twisted.net.sweep import ReactorSweep

log = Logger(namespace="pico_twisted.app.agent")


class AgentDaemon(Daemon[AgentConfig]):
    """A running agent.

    Args:
        reactor: of the process.
        config: what it is told.
        options: where the configuration is read again for a reload.
        logging: of the process.
    """

    def __init__(self, reactor: IDaemonReactor, config: AgentConfig, options: AgentOptions, logging: Logging) -> None:
        super().__init__(reactor, options, config.grace_period, logging)
        self._config = config = self.patient(config)
        self._admin: BoundPort | None = None
        self._local_ports: Sequence[LocalPort] = ()
        sweep = ReactorSweep(reactor)
        sweep.each(lambda _: logging.flush())
        self._proxies = ForwardProxies(config.connect.proxy, os.environ)
        self._inspector = Inspector(reactor) if config.inspect.enabled else None
        self._inspector_port: InspectorPort | None = None
        self._spans = Spans(config.tracing.endpoint, 0.0, reactor)
        self.agent = build_agent(
            config,
            reactor,
            sweep=sweep,
            end_of_turn=EndOfTurn(reactor),
            access_log=logging.access_log(self._logs_requests(config)),
            events=logging.events,
            proxies=self._proxies,
            inspector=self._inspector,
            tracer=self._spans.tracer,
        )
        self._credentials = AgentCredentials(self.agent.service, config.connect)
        self.count_in(self.agent.metrics)
        sweep.each(give_memory_back(lambda: self.agent.service.budget.held))

    def _logs_requests(self, config: AgentConfig) -> bool:
        if config.access_log == "auto":
            return self.logging.on_terminal or bool(config.access_log_file)
        return config.access_log == "true"

    def bind(self) -> None:
        """Bind the admin port, if there is one."""
        attempts = Attempts()
        with attempts.each():
            self.agent.access.prepare(self._config)()
        with attempts.each():
            self._spans.check()
        attempts.check()
        address = self._config.admin.bind_addr
        site = self.agent.admin_site(self.reload)
        if address is not None:
            mode = self._config.admin.socket_mode
            self._admin = BoundPort(self.reactor, "admin.bind_addr", address, site, socket_mode=mode, first=True)
        if self._inspector is not None:
            self._inspector_port = bind_inspector(self.reactor, self._inspector, self._config.inspect)
        self._local_ports = listen_locally(self.reactor, local_admin_socket(os.environ), site)

    def serve(self) -> None:
        """Register the listeners."""
        log.info(
            "Agent {agent_id} starts",
            agent_id=self.agent.service.agent_id,
            version=__version__,
            listeners=len(self._config.listeners),
            admin=str(self._admin.bound) if self._admin is not None else "",
        )
        self._spans.start("pico-agent", self.agent.service.agent_id, self.agent.metrics)
        _warn_of_dots(self._config.listeners)
        warn_of_plain_tokens(self._config.connect)
        tell_of_proxies(self._proxies, self._config.connect.url)
        self.watch(self._credentials.files, self._credentials.read_again)
        self.agent.service.all_registered.addCallback(self._registered)
        self.agent.service.startService()

    def _registered(self, _: None) -> None:
        self.tell_status()
        if self._inspector_port is not None:
            log.info("What passes is shown at {url}", url=self._inspector_port.plain_url)
        if not self.on_terminal(self._banner):
            log.info("All listeners are registered", listeners=len(self.agent.service.listeners))
            if self._inspector_port is not None and not self._config.inspect.key_file:
                log.warn("Nobody has the key of the inspector: set inspect.key_file, or start on a terminal")

    def _banner(self) -> str:
        service = self.agent.service
        sessions = service.sessions()
        told = (proxy_url(one.url, one.tunnel.proxy) for one in sessions)
        return agent_banner(
            __version__,
            service.agent_id,
            [(one.url, one.tunnel.node_id, one.tunnel.rtt_s or one.handshake_s / 2) for one in sessions],
            [(one.config.endpoint, str(one.config.addr)) for one in service.listeners],
            next(filter(None, told), ""),
            next(filter(None, (one.tunnel.public_url for one in sessions)), ""),
            [one.config.endpoint for one in service.listeners if one.config.protocol == "tcp"],
            "" if self._inspector_port is None else self._inspector_port.url,
        )

    async def drain(self) -> None:
        """Tell the nodes, serve what is in flight, close."""
        await self.agent.service.stopService()
        if self._inspector is not None and self._inspector_port is not None:
            self._inspector.stop()
            await self._inspector_port.close()
        self._spans.stop()
        await self.until(self._spans.stopped, within_s=LAST_S)
        if self._admin is not None:
            await self._admin.stop()
        for port in self._local_ports:
            await maybeDeferred(port.stopListening)

    def in_progress(self) -> tuple[int, int]:
        """See `Daemon.in_progress`."""
        return of_both_kinds(self.agent.service.calls())

    def cut(self) -> None:
        """Drop every connection."""
        self.agent.service.abort()
        self.agent.access.stop()

    def prepare(self, config: AgentConfig) -> Callable[[], Iterable[str]]:
        """Show nodes other credentials, and serve other listeners. See `Daemon.prepare`."""
        users, faults = read_users(config.listeners)
        if faults:  # a file has changed since it was checked
            raise ConfigFaults(faults)
        take_credentials = self.agent.access.prepare(config)

        def take() -> Iterator[str]:
            basic_auth = self.agent.policies.basic_auth
            if users != basic_auth.users:
                basic_auth.users = users
                yield "users of basic_auth_file"
            _warn_of_dots(config.listeners)
            self.agent.admin_access.hosts.set_names(config.admin.names)
            self._credentials.take(config.connect)
            self.agent.requests.log_all(self._logs_requests(config))
            yield from self.agent.service.set_listeners(config.listeners)
            if self._inspector is not None:
                self._inspector.serves_only([listener.endpoint for listener in config.listeners])
            yield from take_credentials()

        return take

    def status_line(self) -> str:
        """How many listeners are registered. An agent is ready without: it goes on trying until its node is there."""
        if self.stopping:
            return f"draining, {counted(self.agent.service.calls_in_flight(), 'request')} in progress"
        listeners = self.agent.service.listeners
        registered = sum(bool(one.connections.current) for one in listeners)
        return f"{registered} of {counted(len(listeners), 'listener')} registered"


def _warn_of_dots(listeners: Iterable[ListenerConfig]) -> None:
    """Clients name an endpoint by the first label of a host name, which has no dot."""
    for listener in listeners:
        if "." in listener.endpoint:
            log.warn(
                "No first label of a host name is endpoint {endpoint}, since it has a dot: x-pico-endpoint names it, "
                "or proxy.hosts of the nodes",
                endpoint=listener.endpoint,
            )


def make_agent_service(options: AgentOptions) -> IService:
    """The service of an agent, for twistd."""
    from twisted.internet import reactor as installed

    reactor = cast("IDaemonReactor", installed)

    return AgentDaemon(reactor, options.config, options, options.logging)
