"""What of a cluster needs somebody: named first wherever its state is shown."""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Final

from pico_twisted.core.routing.table import ACTIVE, DRAINING
from pico_twisted.core.text import escaped, span
from pico_twisted.ctl.asking import get_if_there
from pico_twisted.ctl.client import AdminPort
from pico_twisted.ctl.exits import ExitWithMessage
from pico_twisted.ctl.samples import Samples, read_samples
from pico_twisted.net.admin.shapes.nodes import NodeRow
from pico_twisted.net.admin.shapes.summary import CLUSTER_SUMMARY_PATH, NEAR, NodeSummary, Summary

SOON_S: Final = 14 * 86_400
"""Seconds before its end from which on a certificate is warned of."""


def problems(port: AdminPort, rows: Sequence[NodeRow]) -> list[str]:
    """What needs somebody, in words.

    Args:
        port: of the node that is asked.
        rows: the nodes, as it sees them.
    """
    found = list(_nodes(rows))
    try:
        summary = get_if_there(port, CLUSTER_SUMMARY_PATH, Summary)
        samples = read_samples(port.text("/metrics"))
    except ExitWithMessage:  # an operator who may look at nodes only, or a proxy in between: what is known is shown
        return found
    near = dict(_near(rows[0].id, near_limits(samples)))  # which an older node tells too
    shares = {rows[0].id: samples.value("pico_overload_ratio") or 0.0}
    if not isinstance(summary, ExitWithMessage):
        for node in summary[1].nodes:
            found += expiring(node.id, node.certificates)
            near.update(_near(node.id, limits_told(node)))
            shares[node.id] = node.refused_share
    return [*found, *(overloaded(id, share) for id, share in shares.items() if share > 0), *near.values()]


def _nodes(rows: Sequence[NodeRow]) -> Iterator[str]:
    for row in rows:
        id = escaped(row.id)
        if row.intake and row.status == DRAINING:
            yield f"node {id} is {escaped(row.intake)}: picoctl uncordon {id} puts it back"
        elif row.status == "unreachable":
            yield f"node {id} at {escaped(row.gossip_addr or row.proxy_addr)} is unreachable"
        elif row.status in (ACTIVE, DRAINING) and row.link not in ("", "open"):
            yield f"no link to node {id}: {escaped(row.link)}"


def _near(id: str, limits: Iterable[tuple[str, float, float]]) -> Iterator[tuple[tuple[str, str], str]]:
    """By node and limit, so that one which is told twice is named once."""
    for name, used, most in limits:
        yield (id, name), uses(id, name, used, most)


def overloaded(id: str, share: float) -> str:
    """Words for a node that refuses a share of the new requests since it has more to do than it can."""
    return f"{escaped(id)} is overloaded, and refuses {share:.0%} of the new requests"


def uses(id: str, name: str, used: float, most: float) -> str:
    """Words for a limit that is near.

    Args:
        id: of the node.
        name: of the limit.
        used: how much there is.
        most: how much there may be.
    """
    return f"{escaped(id)} uses {used:.0f} of {most:.0f} ({escaped(name)})"


def limits_told(node: NodeSummary) -> Iterator[tuple[str, float, float]]:
    """The limits that a node says are near: their names, what is used, and what is allowed."""
    for name, limit in sorted(node.near_limits.items()):
        if limit.most > 0:  # another node may say anything
            yield f"limits.{name}", limit.used, limit.most


def expiring(id: str, certificates: Mapping[str, float]) -> Iterator[str]:
    """The certificates of a node that have expired, or soon will.

    Args:
        id: of the node.
        certificates: when the first one of each port ends, in seconds since 1970.
    """
    for of, at in sorted(certificates.items()):
        left = at - time.time()
        if left < SOON_S:
            what = "has expired" if left <= 0 else f"expires in {span(left)}"
            yield f"the certificate of port {escaped(of)} at node {escaped(id)} {what}"


def near_limits(samples: Samples) -> Iterator[tuple[str, float, float]]:
    """The limits of a process that are near: their names, what is used, and what is allowed."""
    pairs = [
        (f"limits.{labels.get('name', '')}", used, samples.value("pico_limit", labels))
        for labels, used in samples.all("pico_limit_used")
    ]
    open_files, most_files = (samples.value(f"process_{name}_fds") for name in ("open", "max"))
    pairs.append(("LimitNOFILE of its unit", open_files or 0.0, most_files))
    yield from ((name, used, most) for name, used, most in pairs if most and used >= NEAR * most)
