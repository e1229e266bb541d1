"""`twistd pico-agent`: what the plugin names. Light to import; the service comes with its imports when it is made."""

from __future__ import annotations

from twisted.application.service import IService

from pico_twisted.app.cli.options import AgentOptions as Options

__all__ = ["Options", "makeService"]


def makeService(options: Options) -> IService:
    """The service of an agent. Called by twistd once the options are read."""
    from pico_twisted.app.process.reactor import install_reactor

    install_reactor()
    from pico_twisted.app.agent_daemon import make_agent_service

    return make_agent_service(options)
