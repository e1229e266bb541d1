"""Assembles an agent: its listeners, and its admin port if it has one."""

from __future__ import annotations

import random
from typing import TYPE_CHECKING, Any

from twisted.application.service import IService
from twisted.logger import Logger

from pico_twisted import __version__
from pico_twisted.app.cli.banner import agent_banner, guess_proxy_url
from pico_twisted.app.process.daemon import Daemon, counted
from pico_twisted.app.process.ports import BoundPort
from pico_twisted.config import AgentConfig, ConfigFaults
from pico_twisted.net.admin.app import AgentAdminApp
from pico_twisted.net.admin.site import admin_site
from pico_twisted.net.agent.service import AgentService
from pico_twisted.net.observe.logs import Logging
from pico_twisted.net.observe.metrics import Metrics
from pico_twisted.net.turn import EndOfTurn, Sweep

if TYPE_CHECKING:
    from pico_twisted.app.cli.options import AgentOptions

log = Logger()


class Agent(Daemon):
    """A running agent.

    Args:
        reactor: of the process.
        config: what it is told.
        options: where the configuration is read again on SIGHUP.
        logging: of the process.
    """

    def __init__(self, reactor: Any, config: AgentConfig, options: AgentOptions, logging: Logging) -> None:
        super().__init__(reactor, options, config.grace_period, logging)
        self._config = config
        self._options = options
        self._admin: BoundPort | None = None
        self.metrics = Metrics("agent", __version__)
        sweep = Sweep(reactor)
        sweep.each(lambda _: logging.flush())
        self.agent = AgentService(
            config,
            reactor=reactor,
            sweep=sweep,
            metrics=self.metrics,
            rng=random.SystemRandom(),
            version=__version__,
            end_of_turn=EndOfTurn(reactor),
        )

    def bind(self) -> None:
        """Bind the admin port, if there is one."""
        address = self._config.admin.bind_addr
        if address is not None:
            site = admin_site(AgentAdminApp(self.metrics).resource(), self.reactor)
            self._admin = BoundPort(self.reactor, "admin.bind_addr", address, site)

    def serve(self) -> None:
        """Register the listeners."""
        log.info(
            "Agent {agent_id} starts",
            agent_id=self.agent.agent_id,
            version=__version__,
            listeners=len(self._config.listeners),
            admin=str(self._admin.bound) if self._admin is not None else "",
        )
        self.agent.all_registered.addCallback(self._registered)
        self.agent.startService()

    def _registered(self, _: None) -> None:
        if not self.on_terminal(self._banner):
            log.info("All listeners are registered", listeners=len(self._config.listeners))

    def _banner(self) -> str:
        sessions = [
            (one.url, one.tunnel.node_id, one.tunnel.rtt_s or one.handshake_s / 2) for one in self.agent.sessions()
        ]
        return agent_banner(
            __version__,
            self.agent.agent_id,
            sessions,
            [(one.endpoint, str(one.addr)) for one in self._config.listeners],
            guess_proxy_url(sessions[0][0]) if sessions else None,
        )

    async def drain(self) -> None:
        """Tell the nodes, serve what is in flight, close."""
        await self.agent.stopService()
        if self._admin is not None:
            await self._admin.stop()

    def cut(self) -> None:
        """Drop every connection."""
        self.agent.abort()

    def reload(self) -> None:
        """Read the configuration again and take what can change while running."""
        try:
            config = self._options.reload()
        except ConfigFaults as error:
            for fault in error.faults:
                log.error("The configuration is not reloaded: {fault}", fault=str(fault))
            return
        self.logging.set_level(config.log.level, config.log.subsystems)
        self.agent.token = config.connect.token
        log.info("Configuration reloaded")

    def status_line(self) -> str:
        """How many listeners are registered. An agent is ready without: it goes on trying until its node is there."""
        if self.stopping:
            return f"draining, {counted(self.agent.calls_in_flight(), 'request')} in progress"
        listeners = self.agent.listeners
        registered = sum(bool(one.connections.current) for one in listeners)
        return f"{registered} of {counted(len(listeners), 'listener')} registered"


def make_agent_service(options: AgentOptions) -> IService:
    """The service of an agent, for twistd."""
    from twisted.internet import reactor

    return Agent(reactor, options.config, options, options.logging)
