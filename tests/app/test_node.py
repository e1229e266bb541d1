"""A node and an agent as they are put together, before anything begins."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from twisted.internet.task import Clock

from pico_twisted.app.agent import build_agent
from pico_twisted.app.node import Node, build_node
from pico_twisted.app.workers.worker import VARIABLE, Worker, worker_from
from pico_twisted.config import (
    Address,
    AgentConfig,
    AuthConfig,
    ClusterConfig,
    ClusterTlsConfig,
    NodeConfig,
    NodeLimitsConfig,
    ProxyConfig,
)
from pico_twisted.core.access.subject import CredentialKind, Subject
from pico_twisted.net.observe.access_log import AccessLog
from pico_twisted.net.sweep import ReactorSweep


def node(clock: Clock, **given: Any) -> Node:
    """A node with these parts of a configuration, and two siblings."""
    return build_node(
        NodeConfig(**given),
        clock,
        sweep=ReactorSweep(clock),
        end_of_turn=None,
        access_log=AccessLog(lambda text: None),
        ready=lambda: (False, "starting"),
        siblings=(Address("127.0.0.1", 8004), Address("127.0.0.1", 8005)),
    )


def test_a_node_that_is_built_is_whole_and_has_not_begun() -> None:
    """All parts are there, and no timer runs: what begins is for the daemon to say."""
    clock = Clock()
    built = node(clock, cluster=ClusterConfig(node_id="n1", join=(Address("n2", 8003),)))
    assert built.node_id == built.cluster.node_id == built.status.node_id == "n1"
    assert built.status.ready() == (False, "starting")
    assert clock.getDelayedCalls() == [] and not built.cluster.running
    assert built.link_tls is None


def test_the_files_of_links_are_not_read_before_they_are_asked_for() -> None:
    """A node with TLS on its links is built from the names of the files: the daemon reads them when it starts."""
    tls = ClusterTlsConfig(cert="/nowhere/cert", key="/nowhere/key", ca="/nowhere/ca")
    assert node(Clock(), cluster=ClusterConfig(tls=tls)).link_tls is not None


def test_an_id_is_made_behind_the_prefix() -> None:
    """A node without an ID gets one of its own at each start, behind `cluster.node_id_prefix`."""
    one, other = (node(Clock(), cluster=ClusterConfig(node_id_prefix="eu-")).node_id for _ in range(2))
    assert one.startswith("eu-") and other.startswith("eu-") and one != other


def test_limits_are_those_of_the_configuration() -> None:
    """Tunnels of agents are held to the calls of a session, links to the calls of the node."""
    built = node(Clock(), limits=NodeLimitsConfig(calls=7, calls_per_session=3, links=5))
    assert built.tunnel_parts.max_calls == 3
    assert built.membership.links.parts.max_calls == 7


def test_an_agent_that_is_built_has_not_begun() -> None:
    """No timer runs before the daemon starts its service."""
    clock = Clock()
    built = build_agent(AgentConfig(), clock, sweep=ReactorSweep(clock), end_of_turn=None)
    assert built.service.agent_id.startswith("agent-") and clock.getDelayedCalls() == []


def test_what_a_worker_is_given_comes_through_its_environment() -> None:
    """A worker reads what its parent wrote, once: its own children do not inherit it."""
    worker = Worker(
        node_id="host-w1",
        gossip=Address("::1", 8004),
        advertised=Address("n1.example.com", 9004),
        others=(Address("::1", 8003),),
        descriptors={"proxy": 3, "upstream": 4, "admin": 5},
        pipe=6,
        number=1,
        sockets=("/run/pico/admin-0", "/run/pico/admin-1"),
        joins_others=True,
    )
    environment = {VARIABLE: worker.to_json(), "HOME": "/"}
    assert worker_from(environment) == worker
    assert environment == {"HOME": "/"} and worker_from(environment) is None
    cluster = worker.configured(NodeConfig(cluster=ClusterConfig(join=(Address("n9", 8003),)))).cluster
    assert (cluster.node_id, cluster.gossip_bind_addr) == ("host-w1", worker.gossip)
    assert cluster.join == (Address("n9", 8003),)


def test_a_name_that_a_token_has_too_is_revoked_for_ever(tmp_path: Path) -> None:
    """A revocation of the `jti` of a JWT ends with it, but not where a line in a file of any port has that name."""
    file = tmp_path / "tokens"
    file.write_text(f"web sha256:{'0' * 64} connect:*\n")
    built = node(Clock(), proxy=ProxyConfig(auth=AuthConfig(tokens_file=str(file))))
    built.access.prepare(built.config)()
    names = frozenset(("web", "jti-1"))
    shown = Subject(name="ci", kind=CredentialKind.JWT, rules=(), expires_at=9.0, revocable_as=names)
    built.upstream.credentials.subjects = lambda: [shown]  # type: ignore[method-assign]
    assert built._end_of("jti-1") > 0 and built._end_of("web") == 0
