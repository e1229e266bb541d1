"""`twistd pico`: what the plugin names. Light to import; the service comes with its imports when it is made."""

from __future__ import annotations

from twisted.application.service import IService

from pico_twisted.app.cli.options import NodeOptions as Options

__all__ = ["Options", "makeService"]


def makeService(options: Options) -> IService:
    """The service of a node. Called by twistd once the options are read."""
    from pico_twisted.app.process.reactor import install_reactor

    install_reactor()
    from pico_twisted.app.node_daemon import make_node_service

    return make_node_service(options)
