"""What a node takes that is new: the one place that changes it, for operators and for the end of the process.

Four parts go by that: gossip, by which other nodes know; the proxy port, whose clients connect again elsewhere; agents,
who are told to go elsewhere; and the upstream port, which lets none in. A stop differs from what operators ask for in
what comes behind it alone (`app.node_daemon`). What operators asked for is forgotten when the process ends.
"""

from __future__ import annotations

from typing import Final

from twisted.logger import Logger

from pico_twisted.app.membership import Membership
from pico_twisted.core.links.operations import Act, Operation, Progress
from pico_twisted.core.protocol_limits import CLOSE_GOING_AWAY
from pico_twisted.core.routing.intake import Intake
from pico_twisted.core.stopping import of_both_kinds
from pico_twisted.core.sweep import Sweep
from pico_twisted.net.proxy.site import ProxySite
from pico_twisted.net.routing.cluster_service import ClusterService
from pico_twisted.net.tunnel.interfaces import ITunnel
from pico_twisted.net.tunnel.upstream import UpstreamFactory

log = Logger()

MOVED: Final = "this node is drained, and another one serves the endpoint"
"""What an agent is told whose session is closed since it is not needed any more."""
RELIEVED: Final = "the agent has opened the session that replaces this one"
"""What an agent is told whose session is closed that was to go when the node was drained, which it is no more."""
KICKED: Final = "an operator ended this session"
"""What an agent is told whose sessions are ended."""
SETTLE_S: Final = 2.0
"""Seconds after a drain in which no session is ended: other nodes may be drained as well, and tell us only then."""
_WANTED: Final = {Act.CORDON: Intake.CORDONED, Act.DRAIN: Intake.DRAINED, Act.UNCORDON: Intake.OPEN}


class NodeIntake:
    """What one node takes.

    Args:
        membership: tells the other nodes.
        cluster: tells the agents, and keeps what is so now.
        proxy: the proxy port.
        upstream: the upstream port.
        sweep: the coarse timer.
    """

    def __init__(
        self,
        membership: Membership,
        cluster: ClusterService,
        proxy: ProxySite,
        upstream: UpstreamFactory,
        sweep: Sweep,
    ) -> None:
        self._membership = membership
        self._cluster = cluster
        self._proxy = proxy
        self._upstream = upstream
        self._sweep = sweep
        self._settled_at = 0.0
        self._left_over: set[ITunnel] = set()  # sessions that were told to go, before the node was opened again
        sweep.each(self._look)

    def set(self, intake: Intake) -> None:
        """Take that from here on. A node that stops goes on to."""
        if self._cluster.intake is Intake.STOPPING:
            return
        self._membership.say(intake)
        if intake.moves_agents:
            if self._cluster.intake is not intake:
                self._settled_at = self._sweep.now + SETTLE_S
            self._proxy.drain()
            self._cluster.start_draining(intake)
        else:
            self._proxy.drain_no_more()
            if self._cluster.intake.moves_agents:
                self._left_over = {tunnel for tunnel in self._cluster.tunnels() if tunnel.draining}
            self._cluster.intake = intake

    def _look(self, now: float) -> None:
        """Called by the sweep: of a node that is drained, end the idle sessions whose endpoints others serve; of one
        that is drained no more, those that their agents have replaced here.

        An agent leaves that to the node that told it to go. A node that stops does so behind its last request.
        """
        cluster = self._cluster
        if cluster.intake is Intake.DRAINED and now >= self._settled_at and len(cluster.registry):
            self._upstream.credentials.end(
                lambda tunnel: not tunnel.call_count and cluster.table.served(tunnel.endpoint),
                MOVED,
                CLOSE_GOING_AWAY,
            )
        elif self._left_over and not cluster.intake.moves_agents:
            self._left_over.intersection_update(cluster.tunnels())
            relieved = {tunnel for tunnel in self._left_over if not tunnel.call_count and self._is_relieved(tunnel)}
            if relieved:
                self._upstream.credentials.end(relieved.__contains__, RELIEVED, CLOSE_GOING_AWAY)

    def _is_relieved(self, tunnel: ITunnel) -> bool:
        """Whether the agent has come back to this node. A session elsewhere does not do: each of two nodes would count
        on the other's, which was told to go as well."""
        held = [route.tunnel for route in self._cluster.registry.held(tunnel.endpoint)]
        return any(other.agent_id == tunnel.agent_id and not other.draining for other in held)

    def why_not(self) -> str:
        """Why load balancers are to send no more here; "" when they are to."""
        intake = self._cluster.intake
        return "" if intake is Intake.OPEN else intake.value

    def operate(self, operation: Operation) -> Progress:
        """Do what an operator asks for, at this node.

        Returns:
            How the node stands then.
        """
        ended = 0
        if operation.act is Act.KICK:
            ended = self._upstream.credentials.end(
                lambda tunnel: tunnel.agent_id == operation.agent, KICKED, CLOSE_GOING_AWAY
            )
        elif operation.act is not Act.LOOK:
            before = self._cluster.intake
            self.set(_WANTED[operation.act])
            log.info(
                "This node is {intake}, says {by}",
                intake=self._cluster.intake.value,
                by=operation.by or "an operator",
                before=before.value,
            )
        requests, streams = of_both_kinds(self._cluster.pending)
        return Progress(
            intake=self._cluster.intake.value,
            requests=max(requests, self._proxy.serving() - streams),
            streams=streams,
            sessions=len(self._cluster.registry),
            elsewhere=len(self._cluster.others()),
            ended=ended,
        )
