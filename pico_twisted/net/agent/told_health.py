"""How a service is, told to the nodes that understand it, and how it comes to be watched."""

from __future__ import annotations

from typing import Final

import attrs

from pico_twisted.core.rpc.call import OnlyTold
from pico_twisted.core.rpc.capabilities import SERVICE_HEALTH
from pico_twisted.core.rpc.frames import HEALTH
from pico_twisted.core.rpc.service_health import Standing, encode_health
from pico_twisted.net.agent.serving.checks import ServiceChecks
from pico_twisted.net.agent.serving.counts import ServiceCounts
from pico_twisted.net.agent.serving.local_service import ServiceParts
from pico_twisted.net.agent.serving.service_health import Chance, ServiceHealth
from pico_twisted.net.tunnel import TunnelClientProtocol

_ONLY_TOLD: Final = OnlyTold()


def tell_health(tunnel: TunnelClientProtocol, health: ServiceHealth) -> None:
    """Tell a node how the service behind its session is."""
    if SERVICE_HEALTH in tunnel.capabilities and tunnel.version > 1:
        tunnel.call(HEALTH, encode_health(health.told()), False, _ONLY_TOLD)


def tell_opened(tunnel: TunnelClientProtocol, health: ServiceHealth | None) -> None:
    """A session is open: its node takes the service to be up unless it hears something else."""
    if health is not None and health.judge.standing is not Standing.UP:
        tell_health(tunnel, health)


def watched(parts: ServiceParts, rng: Chance, counts: ServiceCounts) -> ServiceParts:
    """Look after the health of the service of a listener. Returns the parts."""
    tunnel = parts.tunnel
    health = ServiceHealth(
        parts.config,
        clock=tunnel.clock,
        sweep=tunnel.sweep,
        rng=rng,
        checks=ServiceChecks(parts),
        counts=counts,
    )
    return attrs.evolve(parts, health=health, counts=counts)
